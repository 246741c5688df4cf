//! Start and stop: what the banner says, what is refused and in which words, and what a stop leaves behind.

use crate::admin::Scrape;
use crate::harness::{Broker, Ended, Setup, TempDir, binary, run_to_end};
use crate::wire::{self, Wire, batch};
use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn value(text: &str) -> [Bytes; 1] {
    [Bytes::from(text.to_owned())]
}

/// Asserts that a start was refused as a person wants it: exit code 1 and one line that holds every one of `words`.
fn assert_refused(what: &str, ended: &Ended, words: &[&str]) {
    let Ended { status, stdout, stderr } = ended;
    assert_eq!(status.code(), Some(1), "{what}: ended with {status}\n{stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{what}: one line says what is wrong\n{stderr}");
    for word in words {
        assert!(lines[0].contains(word), "{what}: the line should name `{word}`: {}", lines[0]);
    }
    assert_no_panic(what, stderr);
    assert!(stdout.is_empty(), "{what}: it went on to say {stdout:?}");
}

fn assert_no_panic(what: &str, stderr: &str) {
    for sign in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!stderr.contains(sign), "{what}: `{sign}` is nothing to show to a user\n{stderr}");
    }
}

/// A start with these arguments and nothing else, in a directory of its own.
fn start(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("start").args(arguments).current_dir(dir.path());
    command.args(["--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command
}

#[test]
fn the_banner_says_what_runs_where() {
    let broker = Setup::new().shards(2).start();
    let banner = broker.banner().join("\n");
    for (word, value) in [
        ("shards", "2".to_owned()),
        ("cores", String::new()),
        ("listener", format!("PLAINTEXT://{}", broker.bootstrap())),
        ("data", broker.data().display().to_string()),
        ("try it", broker.bootstrap().to_owned()),
    ] {
        let told = broker.banner().iter().any(|line| line.contains(word) && line.contains(&value));
        assert!(told, "no line with `{word}` and `{value}` in\n{banner}");
    }
    assert!(broker.banner().last().is_some_and(|line| line.starts_with("ready")), "{banner}");
}

#[test]
fn signals_end_it_cleanly_whatever_clients_do() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut broker = Broker::start();
        let mut wire = Wire::connect(broker.bootstrap());
        let topic = wire::unique("stop");
        wire.create_topic(&topic, 2, &[]);
        assert_eq!(wire.produce(&topic, 0, 1, batch(&value("kept"))).error_code, 0);
        // One connection idles, one is half way through a frame, one waits a minute for records.
        let _idle = Wire::connect(broker.bootstrap());
        let mut half = Wire::connect(broker.bootstrap());
        half.send_bytes(&[0, 0, 1, 0, 0, 3]);
        let mut waiting = Wire::connect(broker.bootstrap());
        let long_poll = wire::fetch_request(&topic, 1, 0, 60_000);
        waiting.send::<FetchRequest>(&long_poll, wire::FETCH);
        // The broker has taken the fetch when it has answered a later request of somebody else.
        assert_eq!(wire.end_offset(&topic, 0), 1);
        broker.stop_with(signal);
        broker.restart();
        let kept = Wire::connect(broker.bootstrap()).read_all(&topic, 0);
        assert_eq!(kept.iter().map(|record| record.value.clone()).collect::<Vec<_>>(), [Some("kept".into())]);
        broker.stop();
    }
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let broker = Broker::start();
    let data = broker.data();
    let same_directory = run_to_end(Setup::new().command(&data, 0));
    assert_refused("the same directory", &same_directory, &[&data.display().to_string()]);

    let other = TempDir::new();
    let port: u16 =
        broker.bootstrap().rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
    let same_port = run_to_end(Setup::new().command(&other.path().join("data"), port));
    assert_refused("the port of another broker", &same_port, &[&port.to_string()]);

    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("alive", 1, &[]);
    assert_eq!(wire.produce("alive", 0, -1, batch(&value("still"))).error_code, 0);
}

#[test]
fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let dir = TempDir::new();
    let ended = run_to_end(Setup::new().command(&dir.path().join("data"), port));
    assert_refused("a port in use", &ended, &[&port.to_string()]);
}

/// The kernel holds the listeners of a killed process for some milliseconds; a supervisor restarts sooner.
#[test]
fn a_killed_broker_restarts_on_its_port_at_once() {
    let mut broker = Broker::start();
    for _ in 0..10 {
        let _clients: Vec<Wire> = (0..5).map(|_| Wire::connect(broker.bootstrap())).collect();
        broker.kill();
        broker.restart();
    }
}

#[test]
fn bad_core_lists_are_refused() {
    for list in ["0-99999", "99999", "x", "1-0", "0,,1", "", "-1", "0-"] {
        let dir = TempDir::new();
        let ended = run_to_end(start(&dir, &[&format!("--cores={list}")]));
        assert_refused(&format!("--cores={list}"), &ended, &[list]);
    }
}

#[test]
fn bad_settings_are_refused_by_name_and_value() {
    let dir = TempDir::new();
    for (key, value) in [
        ("num.partitions", "many"),
        ("num.partitions", "0"),
        ("num.partitions", "-7"),
        ("log.segment.bytes", "12"),
        ("message.max.bytes", "-5"),
        ("message.max.bytes", "99999999999999999999"),
        ("auto.create.topics.enable", "perhaps"),
        ("node.id", "-3"),
        ("listeners", "PLAINTEXT//:9092"),
        ("listeners", "PLAINTEXT://:99999"),
        ("log.cleanup.policy", "burn"),
    ] {
        let set = format!("{key}={value}");
        let mut command = start(&dir, &[]);
        // Behind the harness's own listener, since the last one wins.
        command.args(["--set", &set]);
        let ended = run_to_end(command);
        assert_refused(&set, &ended, &[key, value]);
    }
    let ended = run_to_end(start(&dir, &["--set", "nothing"]));
    assert_refused("--set without a value", &ended, &["nothing"]);
    let ended = run_to_end(start(&dir, &["--config", "not-there.properties"]));
    assert_refused("a configuration that is not there", &ended, &["not-there.properties"]);
    std::fs::write(dir.path().join("bad.properties"), "# ours\nnum.partitions=some\n")
        .expect("scratch is writable");
    let ended = run_to_end(start(&dir, &["--config", "bad.properties"]));
    assert_refused("a bad value in the file", &ended, &["num.partitions", "some"]);
    assert!(!dir.path().join("corelane-data").exists(), "a refused configuration leaves nothing behind");
}

#[test]
fn the_file_is_read_the_command_line_wins_and_unknown_keys_are_named() {
    let mut broker = Setup::new().set("num.partitions", 3).start();
    let properties = broker.scratch().join("server.properties");
    let text = "# Kafka's own names\nnum.partitions = 5\nmessage.max.bytes=2000\nlog.cleaner.colour=green\n";
    std::fs::write(&properties, text).expect("scratch is writable");
    broker.stop();
    broker.restart_with(&["--config", properties.to_str().expect("a plain path")]);
    let warnings: Vec<String> = broker
        .stderr()
        .lines()
        .filter(|line| line.contains("log.cleaner.colour"))
        .map(str::to_owned)
        .collect();
    assert_eq!(warnings.len(), 1, "one warning names the unknown key:\n{}", broker.stderr());
    assert!(warnings[0].contains("WARN"), "{}", warnings[0]);

    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("three", -1, &[]);
    assert_eq!(wire.metadata("three").topics[0].partitions.len(), 3, "--set wins over the file");
    let large = [Bytes::from(vec![b'x'; 2500])];
    assert_eq!(
        wire.produce("three", 0, -1, batch(&large)).error_code,
        10,
        "the file's message.max.bytes holds"
    );
}

/// The one word an operator searches the log for when the port is open to everybody.
#[test]
fn an_open_listener_is_worth_a_warning() {
    let quiet = Broker::start();
    assert!(!quiet.stderr().contains("without authentication"), "{}", quiet.stderr());
    let mut open = Broker::start();
    open.stop();
    open.restart_with(&[
        "--set",
        "listeners=PLAINTEXT://0.0.0.0:0",
        "--set",
        "advertised.listeners=PLAINTEXT://localhost:0",
    ]);
    let stderr = open.stderr();
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.contains("without authentication")).collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("WARN"), "{stderr}");
}

#[test]
fn a_directory_says_whose_it_is() {
    let mut broker = Broker::start();
    broker.stop();
    let path = broker.data().join("meta.properties");
    let properties = std::fs::read_to_string(&path).expect("a log directory has meta.properties");
    for key in ["version=", "cluster.id=", "node.id=", "directory.id="] {
        let line = properties.lines().find_map(|line| line.strip_prefix(key));
        assert!(line.is_some_and(|value| !value.is_empty()), "`{key}` in\n{properties}");
    }
    let alter = |key: &str, value: &str| {
        let lines = properties.lines().map(|line| match line.split_once('=') {
            Some((name, _)) if name == key => format!("{key}={value}"),
            _ => line.to_owned(),
        });
        std::fs::write(&path, lines.collect::<Vec<_>>().join("\n") + "\n")
            .expect("the directory is writable");
    };
    alter("version", "99");
    let newer = run_to_end(Setup::new().command(&broker.data(), 0));
    assert_refused("a newer format", &newer, &["meta.properties", "99"]);
    alter("node.id", "4711");
    let foreign = run_to_end(Setup::new().command(&broker.data(), 0));
    assert_refused("the directory of another node", &foreign, &["4711"]);
    std::fs::write(&path, "\u{0}\u{1}rubbish").expect("the directory is writable");
    let rubbish = run_to_end(Setup::new().command(&broker.data(), 0));
    assert_refused("rubbish in meta.properties", &rubbish, &["meta.properties"]);
    // Nothing of that did harm.
    std::fs::write(&path, &properties).expect("the directory is writable");
    broker.restart();
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), properties);
}

fn metadata_folder(data: &Path) -> PathBuf {
    data.join("__cluster_metadata-0")
}

#[test]
fn lost_metadata_stops_the_broker_and_is_never_recreated() {
    let mut broker = Broker::start();
    Wire::connect(broker.bootstrap()).create_topic("known", 1, &[]);
    broker.stop();
    let folder = metadata_folder(&broker.data());
    let aside = broker.scratch().join("aside");
    std::fs::rename(&folder, &aside).expect("the metadata log has its folder");
    let lost = run_to_end(Setup::new().command(&broker.data(), 0));
    assert_refused("lost metadata", &lost, &["__cluster_metadata-0"]);
    assert!(!folder.exists(), "an empty metadata log would forget every topic");
    std::fs::rename(&aside, &folder).expect("the folder goes back");
    broker.restart();
    assert_eq!(Wire::connect(broker.bootstrap()).metadata("known").topics[0].error_code, 0);
}

#[test]
fn a_lost_partition_is_offline_and_the_others_serve() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("half", 2, &[]);
    for partition in 0..2 {
        assert_eq!(wire.produce("half", partition, -1, batch(&value("once"))).error_code, 0);
    }
    broker.stop();
    let folder = broker.data().join("half-1");
    std::fs::remove_dir_all(&folder).expect("a partition has its folder");
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    assert_eq!(wire.read_all("half", 0).len(), 1);
    assert_eq!(wire.produce("half", 0, -1, batch(&value("twice"))).error_code, 0);
    assert_eq!(wire.produce("half", 1, -1, batch(&value("twice"))).error_code, KAFKA_STORAGE_ERROR);
    assert_eq!(wire.fetch("half", 1, 0, 0).error_code, KAFKA_STORAGE_ERROR);
    assert!(!folder.exists(), "an empty folder would pass for a log that lost nothing");
    broker.stop();
}

/// A deletion that a crash cut short is finished; a folder nobody knows is kept, out of the way.
#[test]
fn folders_that_metadata_does_not_know_are_set_aside() {
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.bootstrap());
    for topic in ["stays", "goes"] {
        wire.create_topic(topic, 1, &[]);
        assert_eq!(wire.produce(topic, 0, -1, batch(&value("kept"))).error_code, 0);
    }
    let (data, saved) = (broker.data(), broker.scratch().join("goes-0"));
    copy_folder(&data.join("goes-0"), &saved);
    wire.delete_topic("goes");
    broker.stop();
    std::fs::rename(&saved, data.join("goes-0")).expect("the folder goes back");
    let unknown = "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAACg\n";
    copy_folder(&data.join("stays-0"), &data.join("ghost-7"));
    std::fs::write(data.join("ghost-7/partition.metadata"), unknown).expect("a folder of ours");
    broker.restart();
    let folders = || -> Vec<String> {
        let entries =
            std::fs::read_dir(&data).expect("the data directory").map(|entry| entry.expect("an entry"));
        let mut names: Vec<_> = (entries.filter(|entry| entry.path().is_dir()))
            .map(|entry| entry.file_name().into_string().expect("names are ASCII"))
            .collect();
        names.sort();
        names
    };
    // A stop waits for removals under way.
    assert_eq!(Wire::connect(broker.bootstrap()).read_all("stays", 0).len(), 1);
    broker.stop();
    let found = folders();
    let [metadata, ghost, stays] = &found[..] else { panic!("{found:?}") };
    assert_eq!((metadata.as_str(), stays.as_str()), ("__cluster_metadata-0", "stays-0"));
    assert!(ghost.starts_with("ghost-7.") && ghost.ends_with("-stray"), "{ghost}");
    assert!(data.join(ghost).join("00000000000000000000.log").metadata().is_ok_and(|file| file.len() > 0));
    assert!(broker.stderr().contains("set aside"), "{}", broker.stderr());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        std::fs::copy(from.join(&name), to.join(&name)).expect("a plain file");
    }
}

/// Nothing is lost when the number of shards changes, after a clean stop and after a crash.
#[test]
fn more_and_fewer_shards_serve_the_same_records() {
    let mut broker = Setup::new().shards(1).start();
    let topics = ["one", "two"];
    let mut wire = Wire::connect(broker.bootstrap());
    topics.iter().for_each(|topic| wire.create_topic(topic, 5, &[]));
    for (round, shards) in (1..).zip([3, 2, 4, 1]) {
        let mut wire = Wire::connect(broker.bootstrap());
        for (topic, partition) in
            topics.iter().flat_map(|topic| (0..5).map(move |partition| (topic, partition)))
        {
            let stored = wire.produce(topic, partition, -1, batch(&value(&format!("round {round}"))));
            assert_eq!((stored.error_code, stored.base_offset), (0, round - 1));
        }
        if round % 2 == 0 {
            broker.kill();
        } else {
            broker.stop();
        }
        broker.restart_on(shards);
        let mut wire = Wire::connect(broker.bootstrap());
        for (topic, partition) in
            topics.iter().flat_map(|topic| (0..5).map(move |partition| (topic, partition)))
        {
            assert_eq!(wire.read_all(topic, partition).len() as i64, round, "{topic} {partition}");
        }
    }
}

#[test]
fn too_little_locked_memory_is_refused() {
    let dir = TempDir::new();
    let mut command = Setup::new().command(&dir.path().join("data"), 0);
    // SAFETY: setrlimit reads the struct given and changes the calling process only; safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    assert_refused("64 KiB of locked memory", &run_to_end(command), &["memlock"]);
}

#[test]
fn a_kernel_without_io_uring_is_refused() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let dir = TempDir::new();
        let mut command = Setup::new().command(&dir.path().join("data"), 0);
        // SAFETY: see `refuse_io_uring`: two system calls over a program that lives through them.
        unsafe {
            command.pre_exec(move || refuse_io_uring(errno));
        }
        assert_refused(&format!("io_uring gives errno {errno}"), &run_to_end(command), &["io_uring"]);
    }
}

/// Lets io_uring_setup fail with `errno` in this process and its children, as container runtimes do it.
fn refuse_io_uring(errno: i32) -> std::io::Result<()> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("an instruction has 16 bits"),
        jt,
        jf,
        k,
    };
    let call = u32::try_from(libc::SYS_io_uring_setup).expect("a system call has a number");
    let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).expect("an errno is positive");
    let mut program = [
        // the number of the system call, the first word of seccomp_data
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: both calls read their arguments and change the calling process only; `program` outlives them.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    if installed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn log_lines_can_be_json() {
    let mut broker = Broker::start();
    broker.stop();
    broker.restart_with(&["--log-format", "json", "--set", "no.such.key=1"]);
    broker.stop_with(libc::SIGTERM);
    let stderr = broker.stderr();
    assert!(stderr.lines().count() > 0, "at least the unknown key is worth a line");
    for line in stderr.lines() {
        let object = line.starts_with('{') && line.ends_with('}') && line.contains("\"level\":");
        assert!(object, "not a JSON object: {line}");
    }
}

/// Consumers wait for records nearly all the time, some of them long.
#[test]
fn a_stop_answers_fetches_that_wait() {
    let mut broker = Setup::new().shards(2).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("empty", 4, &[]);
    let mut waiting: Vec<(Wire, i32)> = (0..4)
        .map(|partition| {
            let mut wire = Wire::connect(broker.bootstrap());
            let id = wire.send(&wire::fetch_request("empty", partition, 0, 600_000), wire::FETCH);
            (wire, id)
        })
        .collect();
    while Scrape::of(&broker).sum("corelane_waiting_fetches", &[]) < 4.0 {}
    broker.stop();
    for (wire, id) in &mut waiting {
        let answer = wire.receive::<FetchRequest>(*id, wire::FETCH);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((answer.error_code, partition.error_code), (0, 0));
        assert!(partition.records.as_ref().is_none_or(Bytes::is_empty));
    }
    assert!(!broker.stderr().contains("cutting their connections"), "{}", broker.stderr());
}
