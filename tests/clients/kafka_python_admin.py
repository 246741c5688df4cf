"""kafka-python's admin client: each operation and its main error."""

import argparse

from kafka import KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic


def fails(error, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error:
        return
    raise AssertionError(f"{call} did not fail")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    options = parser.parse_args()
    admin = KafkaAdminClient(bootstrap_servers=options.bootstrap)

    new = [NewTopic("a", 2, 1, topic_configs={"retention.ms": "60000"}), NewTopic("b", 3, 1)]
    admin.create_topics(new)
    fails(errors.TopicAlreadyExistsError, admin.create_topics, [NewTopic("a", 1, 1)])
    fails(errors.InvalidReplicationFactorError, admin.create_topics, [NewTopic("c", 1, 7)])
    admin.create_topics([NewTopic("tried", 1, 1)], validate_only=True)
    assert sorted(admin.list_topics()) == ["a", "b"]
    [described] = admin.describe_topics(["b"])
    assert len(described["partitions"]) == 3

    admin.create_partitions({"a": NewPartitions(5)})
    fails(errors.InvalidPartitionsError, admin.create_partitions, {"a": NewPartitions(3)})

    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "a", configs={"retention.ms": "70000"})])
    assert "70000" in str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "a")]))
    admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs={"log.retention.ms": "50000"})])
    assert "50000" in str(admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")]))

    producer = KafkaProducer(bootstrap_servers=options.bootstrap)
    for number in range(10):
        producer.send("b", str(number).encode(), partition=0)
    producer.flush()
    deleted = admin.delete_records({TopicPartition("b", 0): 4})
    assert "4" in str(deleted), deleted
    fails(errors.OffsetOutOfRangeError, admin.delete_records, {TopicPartition("b", 0): 99})

    assert admin.describe_cluster()["controller_id"] == 1
    assert "b" in str(admin.describe_log_dirs())
    admin.delete_topics(["a", "b"])
    fails(errors.UnknownTopicOrPartitionError, admin.delete_topics, ["a"])
    assert admin.list_topics() == []
    print("done")


main()
