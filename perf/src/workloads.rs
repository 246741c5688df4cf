//! Workloads that people know by name, as command lines of this tool, and recipes to begin with.

/// A named set of runs.
pub struct Workload {
    pub name: &'static str,
    /// Where it comes from and what it shows.
    pub about: &'static str,
    /// Label and command line of each run.
    pub runs: &'static [(&'static str, &'static str)],
}

/// Every workload; sizes are of one machine, options that follow the name override them.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "linkedin-2014",
        about: "Jay Kreps' \"2 million writes per second\" set: records of 100 B, 6 partitions, batches of 8 KiB. \
                Replication is the broker's default: give --replication-factor 3 on a cluster",
        runs: &[
            (
                "one producer, acks 1",
                "produce --producers 1 --partitions 6 -s 100 --batch-bytes 8KiB --acks 1 -d 30s",
            ),
            (
                "one producer, acks all",
                "produce --producers 1 --partitions 6 -s 100 --batch-bytes 8KiB --acks all -d 30s",
            ),
            (
                "three producers, acks 1",
                "produce --producers 3 --partitions 6 -s 100 --batch-bytes 8KiB --acks 1 -d 30s",
            ),
            (
                "throughput over stored data",
                "produce --producers 1 --partitions 6 -s 100 --batch-bytes 8KiB --acks 1 -d 5m",
            ),
            (
                "one consumer",
                "consume --consumers 1 --partitions 6 -s 100 --batch-bytes 8KiB --preload 1GiB -d 30s",
            ),
            (
                "three consumers",
                "consume --consumers 3 --partitions 6 -s 100 --batch-bytes 8KiB --preload 1GiB -d 30s",
            ),
            (
                "producer and consumer",
                "end-to-end --producers 1 --consumers 1 --partitions 6 -s 100 --batch-bytes 8KiB --acks 1 -d 30s",
            ),
            (
                "end-to-end latency",
                "end-to-end --producers 1 --consumers 1 --partitions 6 -s 100 --batch-bytes 8KiB --in-flight 1 -r 500 -d 30s",
            ),
            (
                "records of 10 B",
                "produce --producers 1 --partitions 6 -s 10 --batch-bytes 8KiB --acks 1 -d 15s",
            ),
            (
                "records of 1 kB",
                "produce --producers 1 --partitions 6 -s 1000 --batch-bytes 8KiB --acks 1 -d 15s",
            ),
            (
                "records of 10 kB",
                "produce --producers 1 --partitions 6 -s 10kB --batch-bytes 8KiB --acks 1 -d 15s",
            ),
            (
                "records of 100 kB",
                "produce --producers 1 --partitions 6 -s 100kB --batch-bytes 8KiB --acks 1 -d 15s",
            ),
        ],
    },
    Workload {
        name: "omb-1-topic-100-partitions-1kb-4p-4c",
        about: "The OpenMessaging benchmark's, with its batches of up to 1 MiB and 1 ms linger, at 50,000 records/s: \
                give another --rate",
        runs: &[(
            "1 topic, 100 partitions, 1 kB, 4 producers, 4 consumers",
            "end-to-end --producers 4 --consumers 4 --partitions 100 -s 1KiB --batch-bytes 1MiB --linger 1ms \
             --payload random -r 50k -d 60s --warm-up 10s",
        )],
    },
    Workload {
        name: "many-producers-keyed",
        about: "100 producers, 1,000 partitions, small records with keys: what batches badly and is common",
        runs: &[
            (
                "as fast as it goes",
                "produce --producers 100 --partitions 1000 -s 100 --keys 100k --linger 5ms --request-bytes 64KiB -d 30s",
            ),
            (
                "20,000 records/s",
                "produce --producers 100 --partitions 1000 -s 100 --keys 100k --linger 5ms -r 20k -d 30s",
            ),
        ],
    },
    Workload {
        name: "catch-up-under-load",
        about: "Readers begin at the beginning of 2 GiB while producers and readers at the tail go on at a fixed rate: \
                what catching up costs the others",
        runs: &[
            ("without", "end-to-end --producers 4 --consumers 4 --partitions 16 -r 10k -d 60s"),
            (
                "with",
                "mixed --producers 4 --consumers 4 --partitions 16 -r 10k -d 60s --catch-up-readers 4 --preload 2GiB",
            ),
        ],
    },
    Workload {
        name: "past-retention",
        about: "Records are deleted while they are written and read: 64 MiB kept of each partition. Kafka looks for what \
                to delete every five minutes, so the run is longer than that",
        runs: &[(
            "retention.bytes of 64 MiB",
            "mixed --producers 4 --consumers 4 --partitions 8 -r 20k --preload 1GiB --catch-up-readers 1 \
             --topic-config retention.bytes=67108864 --topic-config segment.bytes=16777216 -d 15m",
        )],
    },
];

/// What `bench examples` prints.
pub const EXAMPLES: &str = "\
How fast is the broker on this machine?
  corelane bench produce                               as fast as it answers: 4 producers, 1 KiB, acks=all
  corelane bench produce -s 100 --codec lz4            small records, compressed
  corelane bench consume                               read 256 MiB again and again
  corelane bench end-to-end                            produce and consume, latency from one to the other

How long does a record take? (at a fixed rate; latency counts from when the record was due)
  corelane bench produce -r 5000 -d 60s
  corelane bench end-to-end -r 5000 -d 60s --linger 5ms
  corelane bench produce --search 10ms                 the highest rate whose p99 stays below 10 ms

What does it cost the broker?
  corelane bench produce -r 20k --pid $(pidof corelane)   CPU, memory, disk and context switches per record;
                                                       on this machine the pid is found without the option

Consumer groups, without records
  corelane bench groups --groups 1000 --members 5 -d 30s   until all are stable, a heartbeat's latency, CPU and memory
  corelane bench groups --groups 1000 --protocol consumer  KIP-848
  corelane bench groups --groups 1 --members 500 -p 1000 --rebalances 4 --heartbeat 1s

What does a transaction cost?
  corelane bench transactions --partitions 10          latency of a transaction and of its commit, CPU a partition
  corelane bench transactions --partitions 10 --protocol classic   as clients before 4.0: AddPartitionsToTxn first
  corelane bench transactions --partitions 10 --protocol none      the same batches without it
  corelane bench transactions --producers 10 -r 100 -d 60s         at a fixed rate: latency from when one was due

Pictures, and runs side by side
  corelane bench produce -r 5000 --label before --json before.json
  corelane bench produce -r 5000 --label after --json after.json --html after.html
  corelane bench report before.json after.json --html both.html

Like real life
  corelane bench produce --producers 100 -p 1000 --keys 100k -s 100..2KiB --headers 2 --idempotence -r 20k --linger 5ms
  corelane bench mixed -r 10k --catch-up-readers 4 --preload 2GiB
  corelane bench consume --group readers --topic orders
  corelane bench workload                              names of workloads that people know
  corelane bench workload omb-1-topic-100-partitions-1kb-4p-4c --html omb.html -- -r 20k -d 30s

How fast is the tool itself?
  corelane bench null-broker --listen 127.0.0.1:19092 --core 0
  corelane bench produce -b 127.0.0.1:19092 --threads 1 --cores 1

Against Apache Kafka, by turns on the same cores and disk (from a checkout)
  perf/compare                                         Kafka comes from Maven Central
  perf/compare --other localhost:9092                  or a broker of any kind that runs already
";
