import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.UnsupportedVersionException;

/** Transactions by Kafka's own clients: `write`, `fence` and `transform` of ../transactions.py. */
class Transactions {
    private static final Duration PATIENCE = Duration.ofSeconds(60);
    private static final int ROUNDS = 30;
    private static final int RECORDS = 20;
    private static final int BATCH = 50;

    private final Map<String, String> options;
    private final String topic;
    private final int partitions;

    public static void main(String[] arguments) {
        var options = new HashMap<String, String>();
        for (int at = 1; at < arguments.length; at += 2) {
            options.put(arguments[at], arguments[at + 1]);
        }
        var transactions = new Transactions(options);
        switch (arguments[0]) {
            case "write" -> transactions.write();
            case "fence" -> transactions.fence();
            case "transform" -> transactions.transform();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private Transactions(Map<String, String> options) {
        this.options = options;
        topic = options.get("--topic");
        partitions = Integer.parseInt(options.get("--partitions"));
    }

    private KafkaProducer<String, String> producer(String name) {
        var config = new Properties();
        config.put("bootstrap.servers", options.get("--bootstrap"));
        config.put("transactional.id", name);
        config.put("transaction.timeout.ms", "20000");
        config.put("reconnect.backoff.max.ms", "500");
        config.put("linger.ms", "1");
        config.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        config.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return new KafkaProducer<>(config);
    }

    private KafkaConsumer<String, String> consumer(String isolation) {
        var config = new Properties();
        config.put("bootstrap.servers", options.get("--bootstrap"));
        config.put("group.id", options.get("--group"));
        // The broker says how long sessions are.
        config.put("group.protocol", "consumer");
        config.put("isolation.level", isolation);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", Integer.toString(BATCH));
        config.put("fetch.max.wait.ms", "100");
        config.put("reconnect.backoff.max.ms", "500");
        config.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        return new KafkaConsumer<>(config);
    }

    /** The values of each partition up to where such readers get. */
    private List<List<String>> readAll(String isolation) {
        var all = IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(topic, p)).toList();
        var values = lists();
        try (var consumer = consumer(isolation)) {
            consumer.assign(all);
            consumer.seekToBeginning(all);
            var ends = consumer.endOffsets(all);
            var deadline = Instant.now().plus(PATIENCE);
            while (all.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                check(Instant.now().isBefore(deadline), topic + " does not end at " + ends);
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    values.get(record.partition()).add(record.value());
                }
            }
        }
        return values;
    }

    /** The last transaction's end may still be on its way to some partitions. */
    private void eventuallyReads(String isolation, List<List<String>> wanted) {
        var deadline = Instant.now().plus(PATIENCE);
        for (var seen = readAll(isolation); !seen.equals(wanted); seen = readAll(isolation)) {
            check(Instant.now().isBefore(deadline), isolation + ": " + seen + ", not " + wanted);
        }
    }

    private void write() {
        var all = lists();
        var committed = lists();
        try (var producer = producer(options.get("--group"))) {
            producer.initTransactions();
            for (int round = 0; round < ROUNDS; round++) {
                boolean aborts = round % 3 == 2;
                producer.beginTransaction();
                for (int i = 0; i < RECORDS; i++) {
                    int partition = i % partitions;
                    var value = round + ":" + i;
                    producer.send(new ProducerRecord<>(topic, partition, null, value));
                    all.get(partition).add(value);
                    if (!aborts) {
                        committed.get(partition).add(value);
                    }
                }
                if (aborts) {
                    // What is not sent yet would not be sent any more.
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        eventuallyReads("read_committed", committed);
        var seen = readAll("read_uncommitted");
        check(seen.equals(all), "read_uncommitted: " + seen + ", not " + all);
    }

    private void fence() {
        var name = options.get("--group");
        try (var first = producer(name); var second = producer(name)) {
            first.initTransactions();
            first.beginTransaction();
            first.send(new ProducerRecord<>(topic, 0, null, "first"));
            first.flush();
            second.initTransactions();
            boolean fenced = false;
            try {
                first.commitTransaction();
            } catch (ProducerFencedException told) {
                fenced = true;
            }
            check(fenced, "a producer that is fenced commits");
            second.beginTransaction();
            second.send(new ProducerRecord<>(topic, 0, null, "second"));
            second.commitTransaction();
        }
        var wanted = lists();
        wanted.get(0).add("second");
        eventuallyReads("read_committed", wanted);
    }

    private void transform() {
        long count = Long.parseLong(options.get("--count"));
        try (var consumer = consumer("read_committed");
                var producer = producer(options.get("--group") + "-transform")) {
            producer.initTransactions();
            consumer.subscribe(List.of(topic));
            for (int number = 1; ; ) {
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                long done = transaction(consumer, producer, records, number++ % 5 == 0);
                if (done == ABORTED) {
                    rewind(consumer);
                    continue;
                }
                System.out.println("transaction");
                if (done == count) {
                    break;
                }
            }
        }
        System.out.println("done");
    }

    private static final long ABORTED = -1;

    /** How many records of the partitions that it has are transformed with this, or ABORTED. */
    private long transaction(
            KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer,
            ConsumerRecords<String, String> records, boolean aborts) {
        producer.beginTransaction();
        try {
            for (var record : records) {
                producer.send(
                        new ProducerRecord<>(options.get("--output"), record.partition(), null, record.value()));
            }
            var positions = new HashMap<TopicPartition, OffsetAndMetadata>();
            for (var partition : consumer.assignment()) {
                positions.put(partition, new OffsetAndMetadata(consumer.position(partition)));
            }
            producer.sendOffsetsToTransaction(positions, consumer.groupMetadata());
            if (!aborts) {
                producer.commitTransaction();
                return positions.values().stream().mapToLong(OffsetAndMetadata::offset).sum();
            }
        } catch (ProducerFencedException | OutOfOrderSequenceException | AuthorizationException
                | UnsupportedVersionException fatal) {
            throw fatal;
        } catch (KafkaException refused) {
            // Of what is left a transaction can only be aborted; abortTransaction throws what is fatal.
            System.err.println(refused);
        }
        producer.abortTransaction();
        return ABORTED;
    }

    /** To what is committed: what was read since is read again. */
    private static void rewind(KafkaConsumer<String, String> consumer) {
        var committed = consumer.committed(consumer.assignment(), PATIENCE);
        committed.forEach((partition, offset) -> consumer.seek(partition, offset == null ? 0 : offset.offset()));
    }

    private List<List<String>> lists() {
        return Stream.generate(() -> (List<String>) new ArrayList<String>()).limit(partitions).toList();
    }

    private static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
