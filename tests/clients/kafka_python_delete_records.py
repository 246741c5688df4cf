"""Shortens a topic with kafka-python's admin client: partition 0 to an offset, partition 1 altogether; then what the
consumer and the admin client make of it.

write   COUNT records into each of two partitions
delete  up to UP_TO and to the end; beyond the end is refused
read    what is left: offsets from UP_TO on in partition 0, nothing in partition 1
"""

import argparse

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

COUNT = 100
UP_TO = 42


def write(options):
    producer = KafkaProducer(bootstrap_servers=options.bootstrap)
    for i in range(COUNT):
        for partition in range(2):
            producer.send(options.topic, str(i).encode(), partition=partition)
    producer.close()


def delete(options):
    admin = KafkaAdminClient(bootstrap_servers=options.bootstrap)
    shortened, emptied = (TopicPartition(options.topic, partition) for partition in range(2))
    told = admin.delete_records({shortened: UP_TO, emptied: -1})
    marks = {partition: answer["low_watermark"] for partition, answer in told.items()}
    assert marks == {shortened: UP_TO, emptied: COUNT}, told
    try:
        told = admin.delete_records({shortened: COUNT + 1})
        raise AssertionError(f"there is nothing that far, and yet: {told}")
    except OffsetOutOfRangeError:
        pass
    admin.close()


def read(options):
    partitions = [TopicPartition(options.topic, partition) for partition in range(2)]
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=10_000
    )
    beginnings = consumer.beginning_offsets(partitions)
    assert beginnings == {partitions[0]: UP_TO, partitions[1]: COUNT}, beginnings
    consumer.assign(partitions)
    # below the start: the consumer is told so, and goes to the earliest record
    for partition in partitions:
        consumer.seek(partition, 0)
    for expected in range(UP_TO, COUNT):
        record = next(consumer)
        assert (record.partition, record.offset, record.value) == (0, expected, str(expected).encode()), record
    assert consumer.position(partitions[1]) == COUNT
    consumer.close()


parser = argparse.ArgumentParser()
parser.add_argument("action", choices=["write", "delete", "read"])
parser.add_argument("--bootstrap", required=True)
parser.add_argument("--topic", required=True)
options = parser.parse_args()
{"write": write, "delete": delete, "read": read}[options.action](options)
