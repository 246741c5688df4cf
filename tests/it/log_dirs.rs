//! Replicas that move between the log directories of a broker (AlterReplicaLogDirs), and what DescribeLogDirs tells of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsPartition;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest, TopicName,
};

use crate::harness::{Broker, Setup, TempDir};
use crate::wire::{self, Producer, Wire, batch, string};

const NONE: i16 = 0;
const LIMIT: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
const PATIENCE: Duration = Duration::from_secs(60);

fn setup(directories: &[PathBuf]) -> Setup {
    let paths: Vec<String> = directories.iter().map(|path| path.display().to_string()).collect();
    Setup::new().set("log.dirs", paths.join(","))
}

fn directories(scratch: &TempDir, count: usize) -> Vec<PathBuf> {
    (0..count).map(|number| scratch.path().join(format!("disk{number}"))).collect()
}

/// Asks for a move; the error code.
pub fn relocate(wire: &mut Wire, topic: &str, partition: i32, to: &Path) -> io::Result<i16> {
    let of = AlterReplicaLogDirTopic::default()
        .with_name(TopicName(string(topic)))
        .with_partitions(vec![partition]);
    let to = AlterReplicaLogDir::default().with_path(string(&to.to_string_lossy())).with_topics(vec![of]);
    let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![to]);
    let id = wire.try_send(&request, 2)?;
    let mut answer = wire.try_receive::<AlterReplicaLogDirsRequest>(id, 2)?;
    Ok(answer.results.remove(0).partitions.remove(0).error_code)
}

/// What each directory has of the topic's partitions: current ones and those on their way.
struct Places {
    current: BTreeMap<i32, (PathBuf, DescribeLogDirsPartition)>,
    future: BTreeMap<i32, (PathBuf, DescribeLogDirsPartition)>,
}

impl Places {
    fn of(wire: &mut Wire, topic: &str) -> Places {
        let mut places = Places { current: BTreeMap::new(), future: BTreeMap::new() };
        for directory in wire.call(&DescribeLogDirsRequest::default().with_topics(None), 4).results {
            assert_eq!(directory.error_code, NONE);
            let path = PathBuf::from(directory.log_dir.to_string());
            for told in directory.topics.into_iter().filter(|told| told.name.0.as_str() == topic) {
                for partition in told.partitions {
                    let places = match partition.is_future_key {
                        true => &mut places.future,
                        false => &mut places.current,
                    };
                    let before = places.insert(partition.partition_index, (path.clone(), partition));
                    assert!(before.is_none(), "a partition is in one directory");
                }
            }
        }
        places
    }

    /// Waits until nothing is on its way.
    fn settled(wire: &mut Wire, topic: &str) -> Places {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let places = Places::of(wire, topic);
            if places.future.is_empty() {
                return places;
            }
            assert!(Instant::now() < deadline, "not moved after {PATIENCE:?}: {:?}", places.future);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The folders of a partition in all directories.
fn folders(directories: &[PathBuf], topic: &str, partition: i32) -> Vec<PathBuf> {
    let name = format!("{topic}-{partition}");
    let mut found = Vec::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).expect("the directory is there") {
            let path = entry.expect("it can be listed").path();
            let file_name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if file_name == name || file_name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) {
                found.push(path);
            }
        }
    }
    found
}

/// Waits until the partition's folder is the only one there is of it.
fn wait_for_one_folder(directories: &[PathBuf], topic: &str, partition: i32, directory: &Path) {
    let (expected, deadline) =
        (vec![directory.join(format!("{topic}-{partition}"))], Instant::now() + PATIENCE);
    // what is removed goes in the background
    while folders(directories, topic, partition) != expected {
        assert!(Instant::now() < deadline, "{:?}", folders(directories, topic, partition));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sets the limit of the copies, in bytes a second.
fn limit(wire: &mut Wire, bytes: u64) {
    let config = AlterableConfig::default()
        .with_name(string(LIMIT))
        .with_config_operation(0)
        .with_value(Some(string(&bytes.to_string())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(string("1"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(wire.call(&request, 1).responses[0].error_code, NONE);
}

fn value(number: usize) -> Bytes {
    format!("{number} {}", "~".repeat(number % 700)).into()
}

/// Appends batches of an idempotent producer, each once, in order.
fn append(wire: &mut Wire, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    for first in numbers.step_by(10) {
        let values: Vec<Bytes> = (first..first + 10).map(value).collect();
        let producer = Producer { id: 77, epoch: 0, sequence: first as i32 };
        let answer = wire.produce(topic, partition, -1, producer.stamp(&batch(&values)));
        assert_eq!((answer.error_code, answer.base_offset), (NONE, first as i64));
    }
}

fn check(wire: &mut Wire, topic: &str, partition: i32, count: usize) {
    let records = wire.read_all(topic, partition);
    assert_eq!(records.len(), count);
    for (number, record) in records.iter().enumerate() {
        assert_eq!((record.offset, record.value.as_deref()), (number as i64, Some(&*value(number))));
    }
}

fn is_in(
    places: &BTreeMap<i32, (PathBuf, DescribeLogDirsPartition)>,
    partition: i32,
    directory: &Path,
) -> bool {
    places.get(&partition).is_some_and(|(path, _)| path == directory)
}

#[test]
fn a_replica_moves_is_called_off_and_sent_elsewhere() {
    let scratch = TempDir::new();
    let directories = directories(&scratch, 3);
    let mut broker = setup(&directories).set(LIMIT, 0).start();
    let mut wire = Wire::connect(broker.bootstrap());
    let topic = wire::unique("moves");
    wire.create_topic(&topic, 1, &[]);
    let mut count = 2_000;
    append(&mut wire, &topic, 0, 0..count);
    let here = Places::of(&mut wire, &topic).current[&0].0.clone();
    let others: Vec<&PathBuf> = directories.iter().filter(|directory| **directory != here).collect();

    // halted, it is seen on its way
    assert_eq!(relocate(&mut wire, &topic, 0, others[0]).unwrap(), NONE);
    let places = Places::of(&mut wire, &topic);
    assert!(is_in(&places.current, 0, &here) && is_in(&places.future, 0, others[0]));
    let (current, future) = (&places.current[&0].1, &places.future[&0].1);
    assert!(future.partition_size <= current.partition_size && future.offset_lag <= count as i64);
    assert_eq!(current.offset_lag, 0);
    // to another one, and not at all
    assert_eq!(relocate(&mut wire, &topic, 0, others[1]).unwrap(), NONE);
    assert!(is_in(&Places::of(&mut wire, &topic).future, 0, others[1]));
    append(&mut wire, &topic, 0, count..count + 100);
    count += 100;
    assert_eq!(relocate(&mut wire, &topic, 0, &here).unwrap(), NONE);
    assert!(Places::of(&mut wire, &topic).future.is_empty());
    wait_for_one_folder(&directories, &topic, 0, &here);
    check(&mut wire, &topic, 0, count);

    // what is wanted is wanted after a kill and after a stop, too
    assert_eq!(relocate(&mut wire, &topic, 0, others[1]).unwrap(), NONE);
    for kill in [true, false] {
        if kill {
            broker.kill();
        } else {
            broker.stop();
        }
        broker.restart();
        wire = Wire::connect(broker.bootstrap());
        let deadline = Instant::now() + PATIENCE;
        while !is_in(&Places::of(&mut wire, &topic).future, 0, others[1]) {
            assert!(Instant::now() < deadline, "the move is not wanted any more");
            thread::sleep(Duration::from_millis(5));
        }
    }
    limit(&mut wire, 1 << 40);
    let places = Places::settled(&mut wire, &topic);
    assert!(is_in(&places.current, 0, others[1]));
    wait_for_one_folder(&directories, &topic, 0, others[1]);
    check(&mut wire, &topic, 0, count);
    append(&mut wire, &topic, 0, count..count + 100);
    count += 100;
    broker.kill();
    broker.restart();
    wire = Wire::connect(broker.bootstrap());
    check(&mut wire, &topic, 0, count);

    // deleted on its way
    limit(&mut wire, 0);
    assert_eq!(relocate(&mut wire, &topic, 0, others[0]).unwrap(), NONE);
    wire.delete_topic(&topic);
    let deadline = Instant::now() + PATIENCE;
    while !folders(&directories, &topic, 0).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", folders(&directories, &topic, 0));
        thread::sleep(Duration::from_millis(5));
    }
    broker.stop();
}

/// Moves partitions about until it is over.
pub struct Mover {
    pub topic: String,
    pub partitions: usize,
    pub directories: Vec<PathBuf>,
}

impl Mover {
    pub fn setup(scratch: &TempDir) -> (Vec<PathBuf>, Setup) {
        let directories = directories(scratch, 2);
        let setup = setup(&directories);
        (directories, setup)
    }

    /// One life of the broker.
    pub fn run(
        &self,
        bootstrap: &str,
        random: &mut impl FnMut() -> usize,
        is_over: &impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut wire = Wire::try_connect(bootstrap)?;
        while !is_over() {
            let (partition, to) = (random() % self.partitions, random() % self.directories.len());
            let error = relocate(&mut wire, &self.topic, partition as i32, &self.directories[to])?;
            assert_eq!(error, NONE, "partition {partition}");
            thread::sleep(Duration::from_millis(random() as u64 % 20));
        }
        Ok(())
    }

    /// In the end each partition is in one place.
    pub fn check(&self, broker: &Broker) {
        let mut wire = Wire::connect(broker.bootstrap());
        let places = Places::settled(&mut wire, &self.topic);
        assert_eq!(places.current.len(), self.partitions);
        for (partition, (directory, _)) in places.current {
            wait_for_one_folder(&self.directories, &self.topic, partition, &directory);
        }
    }
}
