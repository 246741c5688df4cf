from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers='localhost:9092')
producer.send('topic1', b'Hello, Kafka!')
producer.close()
