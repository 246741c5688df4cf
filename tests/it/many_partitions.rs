//! Ten thousand partitions in 200 topics: what their creation, description, change and deletion take, and what a producer
//! of another topic notices of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, TopicName,
};

use crate::admin::Scrape;
use crate::harness::{Broker, Setup};
use crate::wire::{Wire, batch, string};

const TOPICS: usize = 200;
const PARTITIONS: i32 = 50;

fn name(index: usize) -> String {
    format!("many-{index:03}")
}

fn names() -> impl Iterator<Item = TopicName> {
    (0..TOPICS).map(|index| TopicName(string(&name(index))))
}

/// `cargo test --release --test it many_partitions -- --ignored --nocapture`
#[test]
#[ignore = "measures time"]
fn ten_thousand_partitions() {
    let mut broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("other", 2, &[]);
    measure(&mut broker, "nothing else", |_| std::thread::sleep(Duration::from_secs(5)));
    for (how, topics_at_once) in [("20 requests", 10), ("one request", TOPICS)] {
        measure(&mut broker, &format!("created in {how}"), |wire| {
            for few in names().collect::<Vec<_>>().chunks(topics_at_once) {
                create(wire, few);
            }
        });
        measure(&mut broker, "described: Metadata", |wire| {
            let topics = wire.call(&MetadataRequest::default().with_topics(None), 12).topics;
            assert_eq!(topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 10_002);
        });
        measure(&mut broker, "described: DescribeTopicPartitions", describe_by_pages);
        measure(&mut broker, "described: DescribeConfigs", describe_configs);
        measure(&mut broker, "altered: a config of each topic", alter);
        measure(&mut broker, &format!("deleted in {how}"), |wire| {
            for few in names().collect::<Vec<_>>().chunks(topics_at_once) {
                let request =
                    DeleteTopicsRequest::default().with_topic_names(few.to_vec()).with_timeout_ms(60_000);
                assert!(wire.call(&request, 5).responses.iter().all(|told| told.error_code == 0));
            }
        });
    }
    create(&mut wire, &names().collect::<Vec<_>>());
    broker.kill();
    let begun = Instant::now();
    broker.restart();
    println!("ready {:.2} s after a kill -9", begun.elapsed().as_secs_f64());
    broker.stop();
}

fn create(wire: &mut Wire, names: &[TopicName]) {
    let topics = names.iter().map(|name| {
        CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(PARTITIONS)
            .with_replication_factor(1)
    });
    let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_timeout_ms(60_000);
    assert!(wire.call(&request, 7).topics.iter().all(|told| told.error_code == 0));
}

fn describe_by_pages(wire: &mut Wire) {
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2_000);
    request.topics = names().map(|name| TopicRequest::default().with_name(name)).collect();
    let mut count = 0;
    loop {
        let answer = wire.call(&request, 0);
        count += answer.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        let Some(next) = answer.next_cursor else { break };
        request.cursor = Some(
            kafka_protocol::messages::describe_topic_partitions_request::Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index),
        );
    }
    assert_eq!(count, 10_000);
}

fn describe_configs(wire: &mut Wire) {
    let resources = names().map(|name| {
        DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(name.0)
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    assert!(wire.call(&request, 4).results.iter().all(|told| told.error_code == 0));
}

fn alter(wire: &mut Wire) {
    let config =
        AlterableConfig::default().with_name(string("retention.ms")).with_value(Some(string("123456789")));
    let resources = names().map(|name| {
        AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(name.0)
            .with_configs(vec![config.clone()])
    });
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources.collect());
    assert!(wire.call(&request, 1).responses.iter().all(|told| told.error_code == 0));
}

/// Does it beside producers of the other topic's two partitions, and prints what it took and what they noticed.
fn measure(broker: &mut Broker, what: &str, work: impl FnOnce(&mut Wire)) {
    let ends = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..2)
        .map(|partition| produce(broker.bootstrap().to_owned(), partition, Arc::clone(&ends)))
        .collect();
    let mut wire = Wire::connect(broker.bootstrap());
    let begun = Instant::now();
    work(&mut wire);
    let took = begun.elapsed();
    ends.store(true, Ordering::Relaxed);
    let mut latencies: Vec<Duration> =
        producers.into_iter().flat_map(|producer| producer.join().expect("it is acknowledged")).collect();
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{what:40} {:7.3} s, {:4} MiB resident; {:6} appends beside it, ms: median {:.2}, p99 {:.2}, longest {:.2}; \
         longest stalls so far {}",
        took.as_secs_f64(),
        broker.resident_bytes() >> 20,
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        stalls(broker)
    );
}

/// Of each shard, ms.
fn stalls(broker: &Broker) -> String {
    let scrape = Scrape::of(broker);
    let of_shard = |shard: usize| {
        scrape.sum("corelane_shard_longest_stall_seconds", &[("shard", &shard.to_string())]) * 1e3
    };
    format!("{:.1} and {:.1}", of_shard(0), of_shard(1))
}

fn produce(bootstrap: String, partition: i32, ends: Arc<AtomicBool>) -> JoinHandle<Vec<Duration>> {
    std::thread::spawn(move || {
        let mut wire = Wire::connect(&bootstrap);
        let batch = batch(&[Bytes::from_static(b"beside it")]);
        let mut latencies = Vec::new();
        while !ends.load(Ordering::Relaxed) || latencies.is_empty() {
            let begun = Instant::now();
            assert_eq!(wire.produce("other", partition, -1, batch.clone()).error_code, 0);
            latencies.push(begun.elapsed());
        }
        latencies
    })
}
