"""kafka-python's admin client: each operation and its main error.

It expects no topics, and leaves topics and configs as it has found them.
"""

import argparse

from kafka import KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic

from eventually import eventually


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
    eventually(lambda: sorted(admin.list_topics()), ["a", "b"])

    def partitions(topic):
        [described] = admin.describe_topics([topic])
        return len(described["partitions"])

    eventually(lambda: partitions("b"), 3)

    admin.create_partitions({"a": NewPartitions(5)})
    eventually(lambda: partitions("a"), 5)
    fails(errors.InvalidPartitionsError, admin.create_partitions, {"a": NewPartitions(3)})

    def alter(kind, name, key, value):
        """What came of it, which is told and not raised."""
        resource = ConfigResource(kind, name, configs={key: value})
        told = admin.alter_configs([resource], raise_on_unknown=False)
        [of_kind] = told.values()
        return of_kind[name]

    def is_told(kind, name, value):
        return lambda: value in str(admin.describe_configs([ConfigResource(kind, name)]))

    topic, broker = ConfigResourceType.TOPIC, ConfigResourceType.BROKER
    assert alter(topic, "a", "retention.ms", "70000") == "OK"
    eventually(is_told(topic, "a", "70000"), True)
    assert "InvalidConfigurationError" in str(alter(topic, "a", "retention.ms", "soon"))
    assert "UnknownTopicOrPartitionError" in str(alter(topic, "no", "retention.ms", "1"))
    alter(broker, "1", "log.retention.ms", "50000")
    eventually(is_told(broker, "1", "50000"), True)
    alter(broker, "1", "log.retention.ms", ("DELETE", None))
    eventually(is_told(broker, "1", "50000"), False)

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
    eventually(admin.list_topics, [])
    fails(errors.UnknownTopicOrPartitionError, admin.delete_topics, ["a"])
    print("done")


main()
