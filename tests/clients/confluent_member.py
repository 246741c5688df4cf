"""A member of a consumer group by confluent-kafka-python (librdkafka); see group_member.py."""

from confluent_kafka import Consumer, KafkaException, TopicPartition

from group_member import BATCH, HEARTBEAT_MS, POLL_S, SESSION_MS, Reading, arguments, leaving, say


def main():
    options = arguments(["range", "cooperative-sticky", "consumer"])
    if options.protocol == "consumer":
        # The broker says how long sessions are.
        protocol = {"group.protocol": "consumer"}
    else:
        protocol = {
            "partition.assignment.strategy": options.protocol,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": HEARTBEAT_MS,
        }

    def committed(error, answers):
        offsets = {answer.partition: answer.offset for answer in answers}
        errors = [error] + [answer.error for answer in answers]
        reading.answered(offsets, next((error for error in errors if error), None))

    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "group.id": options.group,
            "client.id": options.client_id,
            "enable.auto.commit": False,
            "on_commit": committed,
            "auto.offset.reset": "earliest",
            "check.crcs": True,
            "fetch.wait.max.ms": 100,
            "reconnect.backoff.max.ms": 500,
            **protocol,
        }
    )

    def wanted(offsets):
        return [TopicPartition(options.topic, p, offset) for p, offset in offsets.items()]

    def commit(offsets):
        for answer in consumer.commit(offsets=wanted(offsets), asynchronous=False):
            if answer.error:
                raise KafkaException(answer.error)

    def commit_async(offsets):
        consumer.commit(offsets=wanted(offsets), asynchronous=True)

    reading = Reading(commit, commit_async, KafkaException)

    def assigned(_, partitions):
        say("assigned", partitions=[p.partition for p in partitions])

    def revoked(_, partitions):
        going = [p.partition for p in partitions]
        reading.give_up(going)
        say("revoked", partitions=going)

    def lost(_, partitions):
        going = [p.partition for p in partitions]
        reading.lose(going)
        say("lost", partitions=going)

    consumer.subscribe([options.topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    leave = leaving()
    while not leave.is_set():
        message = consumer.poll(0 if reading.count else POLL_S)
        if message is None:
            reading.done()
        elif message.error():
            assert not message.error().fatal(), message.error()
            say("error", reason=str(message.error()))
        else:
            reading.take(message.partition(), message.offset(), message.value())
            if reading.count >= BATCH:
                reading.done()
    consumer.close()
    say("left")


main()
