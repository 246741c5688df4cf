#!/bin/sh
# What librdkafka's tests run Kafka's producer by.
exec java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$CLASSPATH:$KAFKA_PATH/libs/*" "$@"
