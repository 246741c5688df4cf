"""Transactions by aiokafka; transactions.py says what it does."""

import asyncio
import contextlib
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from transactions import BATCH, PATIENCE_S, TIMEOUT_MS, arguments, of_the_second, rounds, written


def transactional(options, name):
    return AIOKafkaProducer(
        bootstrap_servers=options.bootstrap,
        transactional_id=name,
        transaction_timeout_ms=TIMEOUT_MS,
    )


def reader(options, isolation, **more):
    return AIOKafkaConsumer(
        bootstrap_servers=options.bootstrap,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        **more,
    )


async def read_all(options, isolation):
    """The values of each partition up to where such readers get."""
    partitions = [TopicPartition(options.topic, p) for p in range(options.partitions)]
    values = [[] for _ in partitions]
    async with reader(options, isolation) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        deadline = time.monotonic() + PATIENCE_S
        while any([await consumer.position(p) < ends[p] for p in partitions]):
            assert time.monotonic() < deadline, f"{options.topic} does not end at {ends}"
            for partition, messages in (await consumer.getmany(timeout_ms=100)).items():
                values[partition.partition] += [message.value.decode() for message in messages]
    return values


async def eventually_reads(options, isolation, wanted):
    """The last transaction's end may still be on its way to some partitions."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := await read_all(options, isolation)) != wanted:
        assert time.monotonic() < deadline, f"{isolation}: {seen}, not {wanted}"


async def write(options):
    async with transactional(options, options.group) as producer:
        for aborts, records in rounds(options):
            await producer.begin_transaction()
            for partition, value in records:
                await producer.send(options.topic, value.encode(), partition=partition)
            if aborts:
                await producer.flush()
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
    await eventually_reads(options, "read_committed", written(options, "read_committed"))
    assert await read_all(options, "read_uncommitted") == written(options, "read_uncommitted")


async def fence(options):
    first, second = transactional(options, options.group), transactional(options, options.group)
    await first.start()
    await first.begin_transaction()
    await first.send_and_wait(options.topic, b"first", partition=0)
    await second.start()
    try:
        await first.commit_transaction()
        raise AssertionError("a producer that is fenced commits")
    except ProducerFenced:
        pass
    # closing tells again
    with contextlib.suppress(ProducerFenced):
        await first.stop()
    async with second.transaction():
        await second.send_and_wait(options.topic, b"second", partition=0)
    await second.stop()
    await eventually_reads(options, "read_committed", of_the_second(options))


async def rewind(consumer):
    """To what is committed: what was read since is read again."""
    for partition in consumer.assignment():
        consumer.seek(partition, await consumer.committed(partition) or 0)


async def transaction(options, consumer, producer, batches, aborts):
    """Where the member is in each partition that it has, when that is committed, or nothing."""
    await producer.begin_transaction()
    try:
        for partition, messages in batches.items():
            for message in messages:
                await producer.send(options.output, message.value, partition=partition.partition)
        positions = {p: await consumer.position(p) for p in consumer.assignment()}
        await producer.send_offsets_to_transaction(positions, options.group)
        if not aborts:
            await producer.commit_transaction()
            return positions
    except ProducerFenced:
        raise
    except KafkaError as error:
        print(repr(error), file=sys.stderr)
    await producer.abort_transaction()
    return None


async def transform(options):
    # the producer first: a predecessor's transaction is ended before anybody asks for the offsets that it may commit
    async with (
        transactional(options, f"{options.group}-transform") as producer,
        reader(
            options,
            "read_committed",
            group_id=options.group,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
        ) as consumer,
    ):
        consumer.subscribe([options.topic])
        number = 0
        while True:
            batches = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            if not batches:
                continue
            number += 1
            positions = await transaction(options, consumer, producer, batches, number % 5 == 0)
            if positions is None:
                await rewind(consumer)
                continue
            print("transaction", flush=True)
            if sum(positions.values()) == options.count:
                break
    print("done", flush=True)


ACTIONS = {action.__name__: action for action in [write, fence, transform]}

options = arguments(ACTIONS)
asyncio.run(ACTIONS[options.action](options))
