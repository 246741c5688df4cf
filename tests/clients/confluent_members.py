"""Consumers of one group, until stdin ends: confluent-kafka-python by either protocol.

Says `settled` when every partition is read, each consumer has one at least, and all have committed an offset.
"""

import argparse
import sys
import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

parser = argparse.ArgumentParser()
parser.add_argument("--bootstrap", required=True)
parser.add_argument("--protocol", choices=["classic", "consumer"], required=True)
parser.add_argument("--group", required=True)
parser.add_argument("--topic", required=True)
parser.add_argument("--partitions", type=int, required=True)
parser.add_argument("--consumers", type=int, required=True)
parser.add_argument("--commit", type=int, required=True, help="the offset, of every partition")
arguments = parser.parse_args()

ended = threading.Event()


def watch_stdin():
    sys.stdin.read()
    ended.set()


threading.Thread(target=watch_stdin, daemon=True).start()


def consumer(number):
    settings = {
        "bootstrap.servers": arguments.bootstrap,
        "group.protocol": arguments.protocol,
        "group.id": arguments.group,
        "client.id": f"reader-{number}",
        "enable.auto.commit": False,
    }
    made = Consumer(settings)
    made.subscribe([arguments.topic])
    return made


def settle():
    """Whether it is so."""
    assigned = [one.assignment() for one in consumers]
    indexes = sorted(of.partition for all_of_one in assigned for of in all_of_one)
    if indexes != list(range(arguments.partitions)) or not all(assigned):
        return False
    try:
        for one, own in zip(consumers, assigned):
            offsets = [TopicPartition(of.topic, of.partition, arguments.commit) for of in own]
            one.commit(offsets=offsets, asynchronous=False)
    except KafkaException:
        # what was assigned is assigned anew
        return False
    return True


consumers = [consumer(number) for number in range(arguments.consumers)]
settled = False
while not ended.is_set():
    for one in consumers:
        one.poll(0.05)
    if not settled and settle():
        settled = True
        print("settled")
for one in consumers:
    one.close()
