"""Writes and reads with kafka-python; `records.py` says what and judges it.

write    the records of every codec's topic, each acknowledged at the offset it must have
read     everything, with assign() from the beginning to the end
endless  write to the first codec's topic until the broker goes away; print each acknowledgement as
         `partition offset index`
"""

import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from records import Judge, arguments, headers_of, key_of, progress, topic_of, value_of


def write(options):
    for number, codec in enumerate(options.codecs):
        topic = topic_of(options, codec)
        # Every second codec speaks as an idempotent producer with acks=all, the others with acks=1.
        idempotent = number % 2 == 0
        producer = KafkaProducer(
            bootstrap_servers=options.bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            acks="all" if idempotent else 1,
            linger_ms=20,
            batch_size=65536,
        )
        futures = [
            producer.send(
                topic,
                key=key_of(i),
                value=value_of(i),
                headers=headers_of(i),
                partition=i % options.partitions,
                timestamp_ms=options.base_ms + i,
            )
            for i in range(options.count)
        ]
        producer.flush(timeout=60)
        for i, future in enumerate(futures):
            stored = future.get(timeout=10)
            assert stored.partition == i % options.partitions
            assert stored.offset == i // options.partitions, f"{topic}: record {i} at offset {stored.offset}"
        producer.close()
        progress(f"{topic}: {options.count} records acknowledged")


def read(options):
    for codec in options.codecs:
        topic = topic_of(options, codec)
        judge = Judge(topic, options.count, options.partitions, options.base_ms)
        consumer = KafkaConsumer(
            bootstrap_servers=options.bootstrap, check_crcs=True, fetch_max_wait_ms=50, max_poll_records=5000
        )
        partitions = [TopicPartition(topic, p) for p in range(options.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        for p, end in consumer.end_offsets(partitions).items():
            assert end == judge.expected_end(p.partition), f"{topic}-{p.partition} ends at {end}"
        deadline = time.monotonic() + 60
        while sum(judge.next) < options.count:
            assert time.monotonic() < deadline, f"{topic}: only {sum(judge.next)} of {options.count} records came"
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    judge.take(
                        record.partition, record.offset, record.key, record.value, record.headers, record.timestamp
                    )
        consumer.close()
        judge.finish()


def endless(options):
    topic = topic_of(options, options.codecs[0])
    idempotent = options.acks == "all"
    producer = KafkaProducer(
        bootstrap_servers=options.bootstrap,
        compression_type=None if options.codecs[0] == "none" else options.codecs[0],
        enable_idempotence=idempotent,
        acks="all" if idempotent else 1,
        linger_ms=1,
        # A retry without an id could store a record twice.
        retries=float("inf") if idempotent else 0,
        request_timeout_ms=1000,
        delivery_timeout_ms=3000,
        max_block_ms=3000,
    )
    acknowledged = 0
    gone = threading.Event()
    lock = threading.Lock()

    def acknowledge(i, stored):
        nonlocal acknowledged
        with lock:
            print(stored.partition, stored.offset, i)
            acknowledged += 1
            if acknowledged == options.enough:
                print("enough", flush=True)

    i = 0
    while not gone.is_set():
        try:
            future = producer.send(topic, key=key_of(i), value=value_of(i), partition=i % options.partitions)
        except Exception:
            break
        future.add_callback(lambda stored, i=i: acknowledge(i, stored))
        future.add_errback(lambda error: gone.set())
        i += 1
    try:
        producer.close(timeout=5)
    except Exception as error:
        progress(f"close: {error}")
    with lock:
        progress(f"{topic}: {acknowledged} acknowledged")


if __name__ == "__main__":
    actions = {"write": write, "read": read, "endless": endless}
    options = arguments(__doc__, actions)
    actions[options.action](options)
