"""A member of a consumer group by kafka-python; see group_member.py.

Its listener cannot commit, so what a poll gave is committed before the next, which is what calls the listener.
"""

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from group_member import BATCH, HEARTBEAT_MS, POLL_S, SESSION_MS, Reading, arguments, leaving, say

ASSIGNORS = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}


class Listener(ConsumerRebalanceListener):
    def __init__(self, reading):
        self.reading = reading

    def on_partitions_assigned(self, assigned):
        say("assigned", partitions=[p.partition for p in assigned])

    def on_partitions_revoked(self, revoked):
        going = [p.partition for p in revoked]
        self.reading.lose(going)
        say("revoked", partitions=going)

    def on_partitions_lost(self, lost):
        going = [p.partition for p in lost]
        self.reading.lose(going)
        say("lost", partitions=going)


def main():
    options = arguments(list(ASSIGNORS))
    consumer = KafkaConsumer(
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        client_id=options.client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[ASSIGNORS[options.protocol]],
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        max_poll_records=BATCH,
        fetch_max_wait_ms=100,
        reconnect_backoff_max_ms=500,
    )

    def wanted(offsets):
        return {TopicPartition(options.topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}

    def commit(offsets):
        consumer.commit(wanted(offsets))

    def commit_now(offsets):
        try:
            commit(offsets)
        except KafkaError as error:
            reading.answered(offsets, error)
        else:
            reading.answered(offsets, None)

    reading = Reading(commit, commit_now, KafkaError)
    consumer.subscribe([options.topic], listener=Listener(reading))
    # The topic's partitions, before the first poll. Without them the client joins with an empty assignment and joins again when
    # they come; where a poll times out amid that second join, kafka-python 3.0 takes itself for joined, and neither takes up the
    # assignment nor sends another heartbeat.
    consumer.partitions_for_topic(options.topic)
    leave = leaving()
    while not leave.is_set():
        for partition, records in consumer.poll(timeout_ms=int(POLL_S * 1000)).items():
            for record in records:
                reading.take(partition.partition, record.offset, record.value)
        reading.done()
    consumer.close()
    say("left")


main()
