"""Transactions by confluent-kafka-python (librdkafka); transactions.py says what it does. It fills and checks for all."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from transactions import BATCH, PATIENCE_S, TIMEOUT_MS, arguments, of_the_second, rounds, written


def transactional(options, name):
    return Producer(
        {
            "bootstrap.servers": options.bootstrap,
            "transactional.id": name,
            "transaction.timeout.ms": TIMEOUT_MS,
            "reconnect.backoff.max.ms": 500,
            # Once librdkafka (2.16) has bootstrapped anew, send_offsets_to_transaction() waits for ever for a broker it
            # has forgotten.
            "metadata.recovery.strategy": "none",
            "linger.ms": 1,
        }
    )


def reader(options, isolation, **more):
    return Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.max.ms": 500,
            **more,
        }
    )


def read_all(options, topic, isolation):
    """The values of each partition up to where such readers get."""
    consumer = reader(options, isolation, **{"enable.partition.eof": True})
    partitions = [TopicPartition(topic, p, 0) for p in range(options.partitions)]
    consumer.assign(partitions)
    values = [[] for _ in partitions]
    left = set(range(options.partitions))
    deadline = time.monotonic() + PATIENCE_S
    while left:
        assert time.monotonic() < deadline, f"{topic}: partitions {left} do not end"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            left.discard(message.partition())
        else:
            values[message.partition()].append(message.value().decode())
    consumer.close()
    return values


def eventually_reads(options, topic, isolation, wanted):
    """The last transaction's end may still be on its way to some partitions."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := read_all(options, topic, isolation)) != wanted:
        assert time.monotonic() < deadline, f"{isolation}: {seen}, not {wanted}"


def write(options):
    producer = transactional(options, options.group)
    producer.init_transactions(PATIENCE_S)
    for aborts, records in rounds(options):
        producer.begin_transaction()
        for partition, value in records:
            producer.produce(options.topic, value=value, partition=partition)
        if aborts:
            # what is not sent yet would not be sent any more
            assert producer.flush(PATIENCE_S) == 0
            producer.abort_transaction(PATIENCE_S)
        else:
            producer.commit_transaction(PATIENCE_S)
    eventually_reads(options, options.topic, "read_committed", written(options, "read_committed"))
    assert read_all(options, options.topic, "read_uncommitted") == written(options, "read_uncommitted")


def fence(options):
    first, second = transactional(options, options.group), transactional(options, options.group)
    first.init_transactions(PATIENCE_S)
    first.begin_transaction()
    first.produce(options.topic, value="first", partition=0)
    assert first.flush(PATIENCE_S) == 0
    second.init_transactions(PATIENCE_S)
    try:
        first.commit_transaction(PATIENCE_S)
        raise AssertionError("a producer that is fenced commits")
    except KafkaException as error:
        assert error.args[0].fatal(), error
        assert error.args[0].code() == KafkaError._FENCED, error
    second.begin_transaction()
    second.produce(options.topic, value="second", partition=0)
    second.commit_transaction(PATIENCE_S)
    eventually_reads(options, options.topic, "read_committed", of_the_second(options))


def fill(options):
    producer = Producer({"bootstrap.servers": options.bootstrap, "enable.idempotence": True})
    for i in range(options.count):
        producer.produce(options.topic, value=str(i), partition=i % options.partitions)
        producer.poll(0)
    assert producer.flush(PATIENCE_S) == 0


def until_it_works(call):
    """Again, as long as the broker cannot be reached in time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call(5)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


def committed(consumer):
    """Of the partitions that it has. Waits for transactions that may change it."""
    return until_it_works(lambda timeout: consumer.committed(consumer.assignment(), timeout=timeout))


def rewind(consumer):
    """To what is committed: what was read since is read again."""
    for partition in committed(consumer):
        offset = max(partition.offset, 0)
        consumer.seek(TopicPartition(partition.topic, partition.partition, offset))


def transform(options):
    consumer = reader(
        options, "read_committed", **{"session.timeout.ms": 6_000, "heartbeat.interval.ms": 500}
    )
    producer = transactional(options, f"{options.group}-transform")
    until_it_works(producer.init_transactions)
    consumer.subscribe([options.topic])
    number = 0
    while True:
        messages = consumer.consume(BATCH, 0.2)
        for message in messages:
            error = message.error()
            assert error is None or not error.fatal(), error
        messages = [message for message in messages if not message.error()]
        if not messages:
            continue
        number += 1
        producer.begin_transaction()
        try:
            for message in messages:
                producer.produce(options.output, value=message.value(), partition=message.partition())
            positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]

            def send_offsets(timeout):
                metadata = consumer.consumer_group_metadata()
                producer.send_offsets_to_transaction(positions, metadata, timeout)

            until_it_works(send_offsets)
            if number % 5 == 0:
                until_it_works(producer.abort_transaction)
                rewind(consumer)
                continue
            until_it_works(producer.commit_transaction)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            until_it_works(producer.abort_transaction)
            rewind(consumer)
            continue
        print("transaction", flush=True)
        if sum(max(p.offset, 0) for p in committed(consumer)) == options.count:
            break
    consumer.close()
    print("done", flush=True)


def check(options):
    wanted = [
        [str(i) for i in range(options.count) if i % options.partitions == p]
        for p in range(options.partitions)
    ]
    eventually_reads(options, options.output, "read_committed", wanted)
    consumer = reader(options, "read_committed")
    asked = [TopicPartition(options.topic, p) for p in range(options.partitions)]
    committed = [p.offset for p in consumer.committed(asked, timeout=PATIENCE_S)]
    consumer.close()
    assert committed == [len(values) for values in wanted], committed


ACTIONS = {action.__name__: action for action in [write, fence, fill, transform, check]}

options = arguments(ACTIONS)
ACTIONS[options.action](options)
