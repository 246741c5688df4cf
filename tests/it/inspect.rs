//! `corelane inspect` on what a broker has left: sound files pass, and each kind of damage is found where it is.

use crate::harness::{Broker, Ended, Setup, run_to_end};
use crate::wire::{self, Wire, batch};
use bytes::Bytes;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Batches of a partition, and records of each.
const BATCHES: usize = 60;
const RECORDS: usize = 10;

/// A broker that has written a topic of two partitions in segments of a MiB, three each.
fn written() -> (Broker, String) {
    written_by(Setup::new())
}

fn written_by(setup: Setup) -> (Broker, String) {
    let broker = setup.set("log.segment.bytes", 1 << 20).start();
    let topic = wire::unique("inspected");
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic(&topic, 2, &[]);
    for number in 0..BATCHES {
        let values: Vec<Bytes> =
            (0..RECORDS).map(|record| format!("{number}/{record}/{}", "~".repeat(5_000)).into()).collect();
        for partition in 0..2 {
            let answer = wire.produce(&topic, partition, -1, batch(&values));
            assert_eq!(answer.error_code, 0);
        }
    }
    (broker, topic)
}

fn inspect(path: &Path, options: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("inspect").arg(path).args(options);
    run_to_end(command)
}

fn json(path: &Path, options: &[&str]) -> Value {
    let ended = inspect(path, &[options, &["--json"]].concat());
    serde_json::from_str(&ended.stdout.join("\n")).expect("JSON")
}

/// Verifies, and gives the findings that are damage: file and words.
fn damage(path: &Path) -> Vec<(String, String)> {
    let report = json(path, &["--verify"]);
    let of_partitions =
        report["partitions"].as_array().expect("partitions").iter().map(|partition| &partition["findings"]);
    let all = of_partitions
        .chain([&report["findings"]])
        .flat_map(|findings| findings.as_array().expect("findings"));
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("text").to_owned();
    let found: Vec<_> = all
        .filter(|finding| finding["severity"] == "damage")
        .map(|finding| (text(finding, "file"), text(finding, "what")))
        .collect();
    let ended = inspect(path, &["--verify"]);
    assert_eq!(ended.status.success(), found.is_empty(), "{:?}", ended.stdout);
    assert_eq!(ended.stderr.contains("damage"), !found.is_empty(), "{}", ended.stderr);
    found
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a partition has a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Changes a file, looks, and puts it back.
fn with_changed<T>(path: &Path, change: impl FnOnce(&mut Vec<u8>), look: impl FnOnce() -> T) -> T {
    let before = std::fs::read(path).expect("it can be read");
    let mut bytes = before.clone();
    change(&mut bytes);
    std::fs::write(path, bytes).expect("it can be written");
    let found = look();
    std::fs::write(path, before).expect("it can be written");
    found
}

#[test]
fn a_stopped_broker_s_files_are_told_and_each_damage_is_found() {
    let (mut broker, topic) = written();
    broker.stop();
    let data = broker.data();
    let folder = data.join(format!("{topic}-0"));
    assert_eq!(damage(&data), []);

    let report = json(&data, &["--verify"]);
    assert_eq!(report["properties"]["stopped"], "cleanly");
    let partitions = report["partitions"].as_array().expect("partitions");
    let names: Vec<&str> =
        partitions.iter().map(|partition| partition["name"].as_str().expect("a name")).collect();
    let of_topic = [0, 1].map(|partition| format!("{topic}-{partition}"));
    assert_eq!(names, ["__cluster_metadata-0", &of_topic[0], &of_topic[1]]);
    for partition in &partitions[1..] {
        assert_eq!(partition["end_offset"], BATCHES * RECORDS);
        let segments = partition["segments"].as_array().expect("segments");
        let sum = |key: &str| {
            segments.iter().map(|segment| segment["content"][key].as_u64().expect("a count")).sum::<u64>()
        };
        assert_eq!((sum("batches"), sum("records")), (BATCHES as u64, (BATCHES * RECORDS) as u64));
        assert_eq!(sum("missing_offsets"), 0);
        assert!(segments.len() > 2, "{segments:?}");
        assert!(segments[0]["offset_index"].as_u64() > Some(3), "{segments:?}");
    }
    let outline = inspect(&data, &[]);
    assert!(outline.status.success() && outline.stdout.iter().any(|line| line.contains("damage: 0")));
    let whole = inspect(&folder, &["--batches"]).stdout;
    assert_eq!(whole.iter().filter(|line| line.trim_start().starts_with('@')).count(), BATCHES);

    let files = segments(&folder);
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let middle = &files[1];
    // one bit in the records of a closed segment's second batch
    let found = with_changed(middle, |bytes| bytes[60_000] ^= 1, || (damage(&data), damage(middle)));
    let [(file, what)] = &found.0[..] else { panic!("{found:?}") };
    assert_eq!(*file, name(middle));
    assert!(what.contains("a batch with checksum") && what.contains("good batches go on at byte"), "{what}");
    assert_eq!(found.0, found.1, "the segment alone tells the same");
    // in the last segment, too, where the broker was stopped cleanly; and the end of a closed one is cut off
    let last = &files[files.len() - 1];
    for file in [middle, last] {
        let found =
            with_changed(file, |bytes| bytes.truncate(bytes.len() - 100), || damage(&folder.join("..")));
        assert!(
            found.iter().any(|(at, what)| *at == name(file) && what.contains("bytes of a batch")),
            "{found:?}"
        );
    }
    let index = middle.with_extension("index");
    let found = with_changed(&index, |bytes| bytes[15] ^= 1, || damage(&data));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, name(&index));
    let times = middle.with_extension("timeindex");
    let found = with_changed(&times, |bytes| bytes[7] ^= 1, || damage(&data));
    assert!(found.iter().any(|(file, _)| *file == name(&times)), "{found:?}");
    // a segment is gone
    let away = folder.join("away");
    std::fs::rename(middle, &away).expect("it can be renamed");
    let found = damage(&data);
    assert!(found.iter().any(|(_, what)| what.contains("are missing before it")), "{found:?}");
    // but not where records were deleted, and a removal was cut short
    let starts = data.join("log-start-offsets.0");
    let topic_id = partitions[1]["topic_id"].as_str().expect("an id");
    let end = BATCHES * RECORDS;
    std::fs::write(&starts, format!("0\n1\n{topic_id} 0 {}\n", end - 1)).expect("it can be written");
    assert_eq!(damage(&data), []);
    let report = json(&data, &[]);
    assert_eq!(report["partitions"][1]["log_start"], end - 1);
    assert_eq!(report["partitions"][1]["segments"].as_array().map(Vec::len), Some(1));
    let told = inspect(&data, &["--verify"]).stdout.join("\n");
    assert!(told.contains(&format!("offsets {} to {end} (exclusive)", end - 1)), "{told}");
    assert!(told.contains("lies below the log start"), "{told}");
    std::fs::remove_file(&starts).expect("it can be removed");
    std::fs::rename(&away, middle).expect("it can be renamed");
    assert_eq!(damage(&data), [], "all is as it was");

    broker.restart();
    assert_eq!(Wire::connect(broker.bootstrap()).read_all(&topic, 0).len(), BATCHES * RECORDS);
}

/// A changed byte in, and a lost end of, each kind of file is found, by whatever it is held against.
#[test]
fn each_kind_of_file_is_held_against_the_others() {
    let (mut broker, topic) = written();
    // a log that does not start at 0, of a second leadership
    broker.stop();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    for partition in 0..2 {
        let answer = wire.produce(&topic, partition, -1, batch(&["in another epoch".into()]));
        assert_eq!(answer.error_code, 0);
    }
    broker.stop();
    let data = broker.data();
    let folder = data.join(format!("{topic}-0"));
    assert_eq!(damage(&data), []);
    let files = |folder: &Path| {
        let entries =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
        paths.sort();
        paths
    };
    // what is empty after a clean stop, and what says nothing of the log
    let is_out = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        name.starts_with("journal-") || name.starts_with('.') || name == "meta.properties"
    };
    let mut kinds = std::collections::BTreeSet::new();
    let all: Vec<PathBuf> = [files(&folder), files(&data)].concat();
    for path in all.iter().filter(|path| !is_out(path)) {
        let bytes = std::fs::read(path).expect("it can be read");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        if bytes.is_empty() {
            continue;
        }
        kinds.insert(name.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned());
        let is_times = name.ends_with(".timeindex");
        // of a time index' entry the offset may be another one of its batch; 12 bytes each
        let places = if is_times { [0, 7, 18] } else { [0, bytes.len() / 2, bytes.len() - 2] };
        for at in places.into_iter().filter(|at| *at < bytes.len()) {
            let found = with_changed(path, |bytes| bytes[at] ^= 1, || damage(&data));
            assert_ne!(found, [], "{name}: byte {at} of {} is another", bytes.len());
        }
        // an offset index that ends early serves as well, up to 16 MiB of it
        let is_spared = name.ends_with(".index");
        for length in [0, bytes.len() / 2].into_iter().filter(|_| !is_spared) {
            let found = with_changed(path, |bytes| bytes.truncate(length), || damage(&data));
            assert_ne!(found, [], "{name}: {length} of {} bytes are left", bytes.len());
        }
    }
    let expect = [
        ".index",
        ".log",
        ".snapshot",
        ".timeindex",
        "leader-epoch-checkpoint",
        "partition.metadata",
        "recovery-points.0",
        "recovery-points.1",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expect);
    // files under the name of another
    let logs = segments(&folder);
    let renamed = |from: &Path, to: &Path| {
        std::fs::rename(from, to).expect("it can be renamed");
        let found = damage(&data);
        std::fs::rename(to, from).expect("it can be renamed");
        found
    };
    assert_ne!(renamed(&logs[1], &folder.join("00000000000000000007.log")), []);
    assert_ne!(renamed(&logs[1], &folder.join("0000000000000000007.log")), [], "19 digits");
    assert_ne!(renamed(&logs[0], &folder.join("first.log")), []);
    let (metadata, other) =
        (folder.join("partition.metadata"), data.join("__cluster_metadata-0/partition.metadata"));
    let foreign = std::fs::read(other).expect("it can be read");
    let found = with_changed(&metadata, |bytes| bytes.clone_from(&foreign), || damage(&data));
    assert!(found.iter().any(|(_, what)| what.contains("says topic id")), "{found:?}");
    // an index of a transaction that nobody has aborted
    let transactions = logs[0].with_extension("txnindex");
    let mut entry = [0; 34];
    (entry[9], entry[17], entry[25], entry[33]) = (7, 0, 5, 6);
    std::fs::write(&transactions, entry).expect("it can be written");
    let found = damage(&data);
    assert!(found.iter().any(|(_, what)| what.contains("which no batch does")), "{found:?}");
    std::fs::remove_file(&transactions).expect("it can be removed");
    assert_eq!(damage(&data), [], "all is as it was");
}

#[test]
fn what_a_crash_leaves_is_no_damage() {
    let (mut broker, topic) = written_by(Setup::new().set("corelane.shard.journal.bytes", 0));
    broker.kill();
    let data = broker.data();
    let last = segments(&data.join(format!("{topic}-1"))).pop().expect("a segment");
    assert_eq!(damage(&data), []);
    // a write that was cut short: half a batch at the end
    let torn = with_changed(
        &last,
        |bytes| {
            let used = bytes.iter().rposition(|byte| *byte != 0).expect("batches") + 1;
            bytes.truncate(used - 1_000);
        },
        || (damage(&data), inspect(&data, &["--verify"]).stdout.join("\n")),
    );
    // what was flushed is missing now, and that is damage where a recovery point says so
    assert!(torn.0.iter().all(|(_, what)| what.contains("was flushed")), "{torn:?}");
    assert!(torn.1.contains("a write that was cut short"), "{}", torn.1);
}

/// As the README says: copy a directory, look at the copy, put it back.
#[test]
fn a_copy_of_a_killed_broker_s_directory_is_verified_and_restored() {
    let (mut broker, topic) = written_by(Setup::new().shards(2));
    broker.kill();
    let (data, copy) = (broker.data(), broker.scratch().join("copy"));
    copy_all(&data, &copy);
    assert_eq!(damage(&copy), [], "what is in the journal is not missing from the segments");
    let report = json(&copy, &["--verify"]);
    assert!(
        report["properties"]["journal"].as_str().is_some_and(|text| text.contains("bytes of batches of")),
        "{}",
        report["properties"]
    );
    let journal = copy.join("journal-0.0");
    let found = with_changed(&journal, |bytes| bytes[9] ^= 1, || damage(&copy));
    assert!(found.iter().any(|(file, what)| file == "journal-0.0" && what.contains("head")), "{found:?}");

    // the original goes on and is lost; the copy takes its place, with fewer shards
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(wire.produce(&topic, 0, -1, batch(&["not in the copy".into()])).error_code, 0);
    broker.kill();
    std::fs::remove_dir_all(&data).expect("it can be removed");
    copy_all(&copy, &data);
    broker.restart_on(1);
    for partition in 0..2 {
        let records = Wire::connect(broker.bootstrap()).read_all(&topic, partition);
        assert_eq!(records.len(), BATCHES * RECORDS, "partition {partition}");
    }
}

/// A folder with all its files, dot files included.
fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be listed") {
        let entry = entry.expect("it has a name");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

#[test]
fn what_is_no_log_is_an_error() {
    let (broker, topic) = written();
    let running = inspect(&broker.data(), &[]).stdout.join("\n");
    assert!(running.contains("a broker runs on this directory"), "{running}");
    let check = |path: &Path, says: &str| {
        let ended = inspect(path, &[]);
        assert!(!ended.status.success() && ended.stderr.contains(says), "{}", ended.stderr);
    };
    check(Path::new("/nowhere"), "error: cannot look at /nowhere");
    check(Path::new("/proc/self"), "is no log directory");
    let metadata = broker.data().join(format!("{topic}-0/partition.metadata"));
    check(&metadata, "is no file of a segment");
}
