"""Writes and reads with confluent-kafka-python (librdkafka); `records.py` says what and judges it.

write    the records of every codec's topic, each acknowledged at the offset it must have
read     everything, with assign() from the beginning to the end
endless  write to the first codec's topic until the broker goes away; print each acknowledgement as
         `partition offset index`
check    the acknowledgements on stdin are in the topic, and it is dense and in order
"""

import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from records import Judge, arguments, headers_of, key_of, progress, topic_of, value_of


def write(options):
    for number, codec in enumerate(options.codecs):
        topic = topic_of(options, codec)
        # Every second codec speaks as an idempotent producer with acks=all, the others with acks=1.
        idempotent = number % 2 == 0
        producer = Producer(
            {
                "bootstrap.servers": options.bootstrap,
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "acks": "all" if idempotent else "1",
                "linger.ms": 5,
                # Small enough that a log has many batches.
                "batch.size": 65536,
                "queue.buffering.max.messages": options.count + 1,
            }
        )
        acknowledged = [0] * options.partitions

        def delivered(error, message):
            assert error is None, f"{topic}: {error}"
            partition = message.partition()
            assert message.offset() == acknowledged[partition], f"{topic}-{partition}: offset {message.offset()}"
            acknowledged[partition] += 1

        for i in range(options.count):
            producer.produce(
                topic,
                key=key_of(i),
                value=value_of(i),
                headers=headers_of(i),
                partition=i % options.partitions,
                timestamp=options.base_ms + i,
                on_delivery=delivered,
            )
            if i % 1000 == 0:
                producer.poll(0)
        left = producer.flush(60)
        assert left == 0, f"{topic}: {left} records without an answer"
        assert sum(acknowledged) == options.count, f"{topic}: {sum(acknowledged)} acknowledged"
        progress(f"{topic}: {options.count} records acknowledged")


def consumer_of(options):
    return Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            # The library wants a name; without subscribe() and commits nobody joins a group.
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "check.crcs": True,
            "fetch.wait.max.ms": 50,
        }
    )


def ends_of(options, topic):
    """The first offset and the one after the last, of each partition."""
    consumer = consumer_of(options)
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in range(options.partitions)]
    consumer.close()
    return ends


def messages(options, topic):
    """Every message of the topic from the beginning to the end of each partition."""
    consumer = consumer_of(options)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(options.partitions)])
    ended = set()
    deadline = time.monotonic() + 60
    while len(ended) < options.partitions:
        assert time.monotonic() < deadline, f"{topic}: the end of {options.partitions - len(ended)} partitions never came"
        for message in consumer.consume(10_000, timeout=0.2):
            error = message.error()
            if error is None:
                assert message.partition() not in ended, f"{topic}-{message.partition()} goes on behind its end"
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(error)
    consumer.close()


def read(options):
    for codec in options.codecs:
        topic = topic_of(options, codec)
        judge = Judge(topic, options.count, options.partitions, options.base_ms)
        for partition, ends in enumerate(ends_of(options, topic)):
            assert ends == (0, judge.expected_end(partition)), f"{topic}-{partition}: {ends}"
        for message in messages(options, topic):
            judge.take(
                message.partition(),
                message.offset(),
                message.key(),
                message.value(),
                message.headers() or [],
                message.timestamp()[1],
            )
        judge.finish()


def endless(options):
    topic = topic_of(options, options.codecs[0])
    idempotent = options.acks == "all"
    config = {
        "bootstrap.servers": options.bootstrap,
        "compression.type": options.codecs[0],
        "enable.idempotence": idempotent,
        "acks": options.acks,
        "linger.ms": 1,
        "message.timeout.ms": 3000,
    }
    if not idempotent:
        # A retry could store a record twice.
        config["message.send.max.retries"] = 0
    producer = Producer(config)
    acknowledged = failed = 0
    enough = False

    def delivered_as(i):
        def delivered(error, message):
            nonlocal acknowledged, failed
            if error is None:
                acknowledged += 1
                print(message.partition(), message.offset(), i)
            else:
                failed += 1

        return delivered

    i = 0
    while not failed:
        try:
            producer.produce(
                topic, key=key_of(i), value=value_of(i), partition=i % options.partitions, on_delivery=delivered_as(i)
            )
            i += 1
        except BufferError:
            producer.poll(0.05)
        producer.poll(0)
        if not enough and acknowledged >= options.enough:
            enough = True
            print("enough", flush=True)
    producer.flush(10)
    progress(f"{topic}: {acknowledged} acknowledged, {failed} not")


def check(options):
    topic = topic_of(options, options.codecs[0])
    acknowledged = {}
    for line in sys.stdin:
        partition, offset, i = map(int, line.split())
        acknowledged[(partition, offset)] = i
    found = 0
    next_offset = [0] * options.partitions
    last = [-1] * options.partitions
    for message in messages(options, topic):
        partition, offset, i = message.partition(), message.offset(), int(message.key())
        where = f"{topic}-{partition} offset {offset}"
        assert offset == next_offset[partition], f"{where}: expected offset {next_offset[partition]}"
        assert i > last[partition], f"{where}: record {i} behind record {last[partition]}"
        assert message.value() == value_of(i), f"{where}: value {message.value()!r}"
        expected = acknowledged.get((partition, offset))
        assert expected in (None, i), f"{where}: record {i}, acknowledged was {expected}"
        found += expected is not None
        next_offset[partition], last[partition] = offset + 1, i
    for partition, ends in enumerate(ends_of(options, topic)):
        assert ends == (0, next_offset[partition]), f"{topic}-{partition}: {ends}"
    assert found == len(acknowledged), f"{topic}: {len(acknowledged) - found} acknowledged records are lost"
    progress(f"{topic}: all {found} acknowledged records among {sum(next_offset)}")


if __name__ == "__main__":
    actions = {"write": write, "read": read, "endless": endless, "check": check}
    options = arguments(__doc__, actions)
    actions[options.action](options)
