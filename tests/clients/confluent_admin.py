"""confluent-kafka-python's admin client: each operation and its main error.

It expects no topics, and leaves topics and configs as it has found them.
"""

import argparse

from confluent_kafka import ElectionType, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from eventually import PATIENCE, eventually


def failure(future):
    """The code that a future fails with."""
    try:
        future.result(PATIENCE)
    except KafkaException as error:
        return error.args[0].code()
    raise AssertionError("it did not fail")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    options = parser.parse_args()
    admin = AdminClient({"bootstrap.servers": options.bootstrap})

    # topics
    futures = admin.create_topics(
        [NewTopic("a", 2, 1, config={"retention.ms": "60000"}), NewTopic("b", num_partitions=3, replica_assignment=[[1], [1], [1]])]
    )
    assert [future.result(PATIENCE) for future in futures.values()] == [None, None]
    assert failure(admin.create_topics([NewTopic("a", 1, 1)])["a"]) == KafkaError.TOPIC_ALREADY_EXISTS
    assert failure(admin.create_topics([NewTopic("c", 1, 7)])["c"]) == KafkaError.INVALID_REPLICATION_FACTOR
    assert failure(admin.create_topics([NewTopic("no/name", 1, 1)])["no/name"]) == KafkaError.TOPIC_EXCEPTION
    admin.create_topics([NewTopic("tried", 1, 1)], validate_only=True)["tried"].result(PATIENCE)

    def topics():
        listed = admin.list_topics(timeout=PATIENCE).topics
        return {name: len(topic.partitions) for name, topic in listed.items()}

    eventually(topics, {"a": 2, "b": 3})
    described = admin.describe_topics(TopicCollection(["a"]))["a"].result(PATIENCE)
    assert [partition.leader.id for partition in described.partitions] == [1, 1]
    assert failure(admin.describe_topics(TopicCollection(["none"]))["none"]) == KafkaError.UNKNOWN_TOPIC_OR_PART

    # partitions
    admin.create_partitions([NewPartitions("a", 5)])["a"].result(PATIENCE)
    eventually(topics, {"a": 5, "b": 3})
    assert failure(admin.create_partitions([NewPartitions("a", 3)])["a"]) == KafkaError.INVALID_PARTITIONS
    assert failure(admin.create_partitions([NewPartitions("no", 3)])["no"]) == KafkaError.UNKNOWN_TOPIC_OR_PART

    # configs
    def configs(resource):
        return admin.describe_configs([resource])[resource].result(PATIENCE)

    def change(kind, name, key, value, operation=AlterConfigOpType.SET):
        entry = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(kind, name, incremental_configs=[entry])
        return admin.incremental_alter_configs([resource])[resource]

    def value(kind, name, key):
        return lambda: configs(ConfigResource(kind, name))[key].value

    retention = value(ResourceType.TOPIC, "a", "retention.ms")
    default = value(ResourceType.BROKER, "1", "log.retention.ms")()
    assert retention() == "60000"
    change(ResourceType.TOPIC, "a", "retention.ms", "70000").result(PATIENCE)
    eventually(retention, "70000")
    change(ResourceType.TOPIC, "a", "cleanup.policy", "compact", AlterConfigOpType.APPEND).result(PATIENCE)
    eventually(value(ResourceType.TOPIC, "a", "cleanup.policy"), "delete,compact")
    change(ResourceType.TOPIC, "a", "retention.ms", None, AlterConfigOpType.DELETE).result(PATIENCE)
    eventually(lambda: configs(ConfigResource(ResourceType.TOPIC, "a"))["retention.ms"].is_default, True)
    assert failure(change(ResourceType.TOPIC, "a", "retention.ms", "x")) == KafkaError.INVALID_CONFIG
    assert failure(change(ResourceType.TOPIC, "no", "retention.ms", "1")) == KafkaError.UNKNOWN_TOPIC_OR_PART
    change(ResourceType.BROKER, "1", "log.retention.ms", "50000").result(PATIENCE)
    eventually(retention, "50000")
    eventually(value(ResourceType.BROKER, "1", "log.retention.ms"), "50000")
    assert failure(change(ResourceType.BROKER, "1", "log.dirs", "x")) == KafkaError.INVALID_REQUEST
    change(ResourceType.BROKER, "1", "log.retention.ms", None, AlterConfigOpType.DELETE).result(PATIENCE)
    eventually(value(ResourceType.BROKER, "1", "log.retention.ms"), default)

    # records and offsets
    producer = Producer({"bootstrap.servers": options.bootstrap})
    for number in range(10):
        producer.produce("b", str(number).encode(), partition=0)
    assert producer.flush(PATIENCE) == 0
    place = TopicPartition("b", 0)
    offsets = admin.list_offsets({place: OffsetSpec.latest()})[place].result(PATIENCE)
    assert offsets.offset == 10
    deleted = admin.delete_records([TopicPartition("b", 0, 4)])
    assert [future.result(PATIENCE).low_watermark for future in deleted.values()] == [4]
    assert [failure(future) for future in admin.delete_records([TopicPartition("b", 0, 99)]).values()] == [
        KafkaError.OFFSET_OUT_OF_RANGE
    ]

    # leaders and the cluster
    elected = admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition("a", 0)]).result(PATIENCE)
    assert [error.code() for error in elected.values()] == [KafkaError.ELECTION_NOT_NEEDED]
    cluster = admin.describe_cluster().result(PATIENCE)
    assert [node.id for node in cluster.nodes] == [1] and cluster.controller.id == 1

    futures = admin.delete_topics(["a", "b"])
    assert [future.result(PATIENCE) for future in futures.values()] == [None, None]
    eventually(topics, {})
    assert failure(admin.delete_topics(["a"])["a"]) == KafkaError.UNKNOWN_TOPIC_OR_PART
    print("done")


main()
