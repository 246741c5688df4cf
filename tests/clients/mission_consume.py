"""Reads what mission_produce.py wrote, as far as it came, and prints it."""

from kafka import KafkaConsumer

# No address and no group: localhost:9092, every partition, from the start.
consumer = KafkaConsumer("topic1", auto_offset_reset="earliest", consumer_timeout_ms=20_000)
for record in consumer:
    print(record.topic, record.partition, record.offset, record.value.decode())
    break
consumer.close()
