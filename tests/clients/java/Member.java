import java.io.IOException;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** A member of a consumer group by Kafka's own consumer; ../group_member.py says what it says. */
class Member implements ConsumerRebalanceListener {
    private final KafkaConsumer<String, String> consumer;
    private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
    private volatile boolean leaving;

    public static void main(String[] arguments) {
        var options = new HashMap<String, String>();
        for (int at = 0; at < arguments.length; at += 2) {
            options.put(arguments[at], arguments[at + 1]);
        }
        var config = new Properties();
        config.put("bootstrap.servers", options.get("--bootstrap"));
        config.put("group.id", options.get("--group"));
        config.put("client.id", options.get("--client-id"));
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", "1000");
        config.put("fetch.max.wait.ms", "100");
        config.put("reconnect.backoff.max.ms", "500");
        config.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        config.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        switch (options.get("--protocol")) {
            // The broker says how long sessions are.
            case "consumer" -> config.put("group.protocol", "consumer");
            case "range" -> classic(config, "RangeAssignor");
            case "cooperative-sticky" -> classic(config, "CooperativeStickyAssignor");
            default -> throw new IllegalArgumentException(options.get("--protocol"));
        }
        new Member(config).run(options.get("--topic"));
    }

    private static void classic(Properties config, String assignor) {
        config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
        config.put("session.timeout.ms", "6000");
        config.put("heartbeat.interval.ms", "500");
    }

    private Member(Properties config) {
        consumer = new KafkaConsumer<>(config);
    }

    private void run(String topic) {
        var stdin = new Thread(this::waitForStdin);
        stdin.setDaemon(true);
        stdin.start();
        consumer.subscribe(List.of(topic), this);
        while (!leaving) {
            take(consumer.poll(Duration.ofMillis(100)));
            commit(List.copyOf(uncommitted.keySet()), 1);
        }
        consumer.close();
        say("left", "");
    }

    private void waitForStdin() {
        try {
            System.in.readAllBytes();
        } catch (IOException ended) {
            // as good as its end
        }
        leaving = true;
    }

    private void take(ConsumerRecords<String, String> polled) {
        for (var partition : polled.partitions()) {
            long first = -1;
            long last = -1;
            for (ConsumerRecord<String, String> record : polled.records(partition)) {
                if (Long.parseLong(record.value()) != record.offset()) {
                    throw new IllegalStateException(partition + " has " + record.value() + " at " + record.offset());
                }
                if (first < 0) {
                    first = record.offset();
                } else if (record.offset() != last + 1) {
                    sayRead(partition, first, last);
                    first = record.offset();
                }
                last = record.offset();
            }
            sayRead(partition, first, last);
            uncommitted.put(partition, new OffsetAndMetadata(last + 1));
        }
    }

    private void commit(Collection<TopicPartition> partitions, int tries) {
        var offsets = new HashMap<>(uncommitted);
        offsets.keySet().retainAll(partitions);
        for (int left = tries; left > 0 && !offsets.isEmpty(); left--) {
            try {
                consumer.commitSync(offsets);
            } catch (KafkaException refused) {
                say("uncommitted", ",\"reason\":\"" + refused.getClass().getName() + "\"");
                continue;
            }
            var text = offsets.entrySet().stream()
                    .map(entry -> "\"" + entry.getKey().partition() + "\":" + entry.getValue().offset())
                    .collect(Collectors.joining(","));
            say("committed", ",\"offsets\":{" + text + "}");
            uncommitted.keySet().removeAll(offsets.keySet());
            return;
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        sayPartitions("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit(partitions, 5);
        uncommitted.keySet().removeAll(partitions);
        sayPartitions("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        uncommitted.keySet().removeAll(partitions);
        sayPartitions("lost", partitions);
    }

    private static void sayRead(TopicPartition partition, long first, long last) {
        say("read", ",\"partition\":" + partition.partition() + ",\"first\":" + first + ",\"last\":" + last);
    }

    private static void sayPartitions(String event, Collection<TopicPartition> partitions) {
        var numbers = partitions.stream().map(TopicPartition::partition).toList();
        say(event, ",\"partitions\":" + numbers);
    }

    private static void say(String event, String fields) {
        System.out.println("{\"event\":\"" + event + "\"" + fields + "}");
    }
}
