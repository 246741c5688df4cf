import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;

/**
 * Counts the words in the values of one topic and writes each count to another, by Kafka Streams. Arguments: the
 * broker, the application's id, the folder of its state, the two topics, the guarantee of processing. Says its states;
 * ends at SIGTERM.
 */
class WordCount {
    public static void main(String[] arguments) {
        var config = new Properties();
        config.put("bootstrap.servers", arguments[0]);
        config.put("application.id", arguments[1]);
        config.put("state.dir", arguments[2]);
        config.put("default.key.serde", Serdes.StringSerde.class);
        config.put("default.value.serde", Serdes.StringSerde.class);
        config.put("processing.guarantee", arguments[5]);
        config.put("commit.interval.ms", "200");
        config.put("consumer.auto.offset.reset", "earliest");
        config.put("consumer.session.timeout.ms", "6000");
        config.put("consumer.heartbeat.interval.ms", "500");

        var builder = new StreamsBuilder();
        builder.<String, String>stream(arguments[3])
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                // The words are keys now, so they pass through a topic of Streams' own, and their counts are kept in
                // another.
                .groupBy((key, word) -> word, Grouped.as("words"))
                .count()
                .toStream()
                .mapValues(count -> count.toString())
                .to(arguments[4]);

        var streams = new KafkaStreams(builder.build(), config);
        streams.setStateListener((state, before) -> System.out.println(state));
        streams.setUncaughtExceptionHandler(exception -> StreamThreadExceptionResponse.SHUTDOWN_CLIENT);
        // the last state may be told too late for anybody to hear of it
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close();
            System.out.println("CLOSED");
        }));
        streams.start();
    }
}
