//! What `tuning/` brings for running the broker as a service: the systemd unit, and the container's files.
//!
//! Neither systemd nor a container runtime runs here. Of the unit, systemd's own checker reads it and tells what its filter
//! lets through. Of the container, the steps are taken as the Containerfile has them, and the program runs in namespaces
//! with the image as its root, as its user and without privilege.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;

use crate::harness::{Process, Setup, TempDir, binary, free_port, listener};
use crate::wire::{Wire, batch};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(path)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a program that must be there and succeed; what it printed to stdout and to stderr.
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("tools print text"));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
    (stdout, stderr)
}

// ---- systemd ----

fn systemd_analyze() -> Command {
    Command::new("systemd-analyze")
}

/// The values of a key in the unit, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let line = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(line).collect()
}

#[test]
fn systemd_takes_the_unit_without_a_word() {
    let unit = read(&shipped("systemd/corelane.service"));
    let [start] = values(&unit, "ExecStart")[..] else { panic!("one ExecStart") };
    let (program, arguments) = start.split_once(' ').expect("a program and its arguments");
    assert_eq!((program, arguments), ("/usr/bin/corelane", "start --config /etc/corelane/server.properties"));
    // The checker wants the program to be there.
    let dir = TempDir::new();
    let copy = dir.path().join("corelane.service");
    let built = binary();
    fs::write(&copy, unit.replace(program, built.to_str().expect("paths of tests are text")))
        .expect("scratch is writable");
    let (stdout, stderr) = run(systemd_analyze().args(["verify", "--man=no"]).arg(&copy));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""), "an unknown key or a bad value is a line here");
    let (exposure, _) = run(systemd_analyze().args(["security", "--offline=true", "--no-pager"]).arg(&copy));
    println!("{exposure}");
}

/// The system calls in a set of systemd's, the sets in it taken apart.
fn calls_in(set: &str, into: &mut BTreeSet<String>) {
    if !set.starts_with('@') {
        into.insert(set.to_owned());
        return;
    }
    let (listed, _) = run(systemd_analyze().args(["syscall-filter", "--no-pager", set]));
    // first its name, then a comment, then what is in it
    let names =
        listed.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.for_each(|name| calls_in(name, into));
}

/// The calls that hardening forbids most easily; without any of them the broker does not start, or not well.
#[test]
fn the_units_filter_lets_the_broker_work() {
    let unit = read(&shipped("systemd/corelane.service"));
    let mut allowed = BTreeSet::new();
    for value in values(&unit, "SystemCallFilter") {
        let mut calls = BTreeSet::new();
        let sets = value.trim_start_matches('~');
        sets.split_whitespace().for_each(|set| calls_in(set, &mut calls));
        match value.starts_with('~') {
            true => allowed.retain(|call| !calls.contains(call)),
            false => allowed.append(&mut calls),
        }
    }
    for call in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "sched_setaffinity",
        "sched_getaffinity",
        "membarrier",
        "prlimit64",
        "eventfd2",
        "statx",
        "statfs",
        "fcntl",
        "fsync",
        "ftruncate",
        "flock",
        "rename",
        "getdents64",
        "accept",
        "sendmsg",
        "clone3",
        "madvise",
    ] {
        assert!(allowed.contains(call), "{call} is forbidden");
    }
    for call in ["mount", "ptrace", "init_module", "reboot", "setuid", "bpf"] {
        assert!(!allowed.contains(call), "{call} is allowed");
    }
    assert_eq!(values(&unit, "LimitMEMLOCK"), ["infinity"]);
    assert_eq!(values(&unit, "KillSignal"), ["SIGTERM"]);
}

/// Every key is known and has a value that is allowed, and the directory is in what the unit lets it write to.
#[test]
fn the_properties_of_both_are_understood() {
    for file in ["systemd/server.properties", "container/server.properties"] {
        let path = shipped(file);
        assert!(read(&path).lines().any(|line| line == "log.dirs=/var/lib/corelane/data"), "{file}");
        let mut broker = Setup::new().start();
        broker.stop();
        // What the test sets is over the file: its port and its directory.
        broker.restart_with(&["--config", path.to_str().expect("a plain path")]);
        assert!(!broker.stderr().contains("WARN"), "{file}: {}", broker.stderr());
        broker.stop();
    }
    let unit = read(&shipped("systemd/corelane.service"));
    assert_eq!(values(&unit, "StateDirectory"), ["corelane"]);
}

// ---- the container ----

/// What a Containerfile makes, with its files in a folder.
#[derive(Debug, Default)]
struct Image {
    root: PathBuf,
    environment: Vec<(String, String)>,
    user: String,
    directory: String,
    ports: Vec<u16>,
    volumes: Vec<String>,
    stop_signal: String,
    entrypoint: Vec<String>,
    command: Vec<String>,
    /// Folders that were given to a user: by path.
    owners: Vec<(String, String)>,
}

impl Image {
    /// Takes the steps of a Containerfile, with `context` as the folder it copies from.
    fn build(containerfile: &str, context: &Path, root: PathBuf) -> Image {
        fs::create_dir(&root).expect("scratch is writable");
        let mut image = Image { root, ..Image::default() };
        let lines = containerfile.lines().map(str::trim);
        let mut steps = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(steps.next(), Some("FROM scratch"), "nothing is downloaded");
        for step in steps {
            assert!(!step.ends_with('\\'), "a step is a line: {step}");
            let (instruction, rest) = step.split_once(' ').unwrap_or_else(|| panic!("{step}: of what?"));
            match instruction {
                "COPY" => image.copy(rest.split_whitespace().collect(), context),
                "ENV" => {
                    let (name, value) = rest.split_once('=').expect("ENV name=value");
                    image.environment.push((name.to_owned(), value.trim_matches('"').to_owned()));
                }
                "USER" => image.user = rest.to_owned(),
                "WORKDIR" => image.directory = rest.to_owned(),
                "EXPOSE" => {
                    image
                        .ports
                        .extend(rest.split_whitespace().map(|port| port.parse::<u16>().expect("a port")));
                }
                "VOLUME" => image.volumes.push(rest.to_owned()),
                "STOPSIGNAL" => image.stop_signal = rest.to_owned(),
                // A string instead of a list would need a shell, and there is none.
                "ENTRYPOINT" => image.entrypoint = serde_json::from_str(rest).expect("a list of words"),
                "CMD" => image.command = serde_json::from_str(rest).expect("a list of words"),
                unknown => panic!("this test does not know what {unknown} does"),
            }
        }
        image
    }

    /// The content of a folder into a folder, as COPY does it.
    fn copy(&mut self, mut words: Vec<&str>, context: &Path) {
        let owner = words[0].strip_prefix("--chown=").map(str::to_owned);
        words.drain(..usize::from(owner.is_some()));
        let [from, to] = words[..] else { panic!("COPY {words:?}: from one folder to another") };
        assert!(to.starts_with('/') && to.ends_with('/') && from.ends_with('/'), "COPY {from} {to}");
        let target = self.place(to);
        fs::create_dir_all(&target).expect("scratch is writable");
        run(Command::new("cp").arg("-a").arg(context.join(from).join(".")).arg(&target));
        self.owners.extend(owner.map(|owner| (to.trim_end_matches('/').to_owned(), owner)));
    }

    /// A path of the image on this machine.
    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Entrypoint and command in namespaces of their own, with `volume` at the one volume. No process is in between: its
    /// id and its end are the broker's.
    ///
    /// The outer namespace may mount, the inner one changes the root and has the image's user in it: with the exec that
    /// user loses what was allowed before. Nobody needs to be root here for it, and root becomes nobody.
    fn command(&self, volume: &Path, more: &[String]) -> Command {
        let [mount_point] = &self.volumes[..] else { panic!("one volume: {:?}", self.volumes) };
        let (user, group) = self.user.split_once(':').expect("a user and a group");
        // What every container runtime brings.
        for folder in ["/proc", "/sys"] {
            fs::create_dir_all(self.place(folder)).expect("scratch is writable");
        }
        let script = r#"
            set -e
            root=$1 volume=$2 mount_point=$3 user=$4 group=$5 directory=$6; shift 6
            mount --rbind /proc "$root/proc"
            mount --rbind /sys "$root/sys"
            mount --bind "$volume" "$root$mount_point"
            exec unshare --user --map-user="$user" --map-group="$group" --root="$root" --wd="$directory" -- "$@"
        "#;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(&self.root).arg(volume).args([mount_point, user, group, &self.directory]);
        command.args(self.entrypoint.iter().chain(&self.command).chain(more));
        command.env_clear().envs(self.environment.iter().cloned());
        // for the programs above, which the image has not
        command.env("PATH", std::env::var_os("PATH").expect("a shell has one"));
        command
    }
}

/// Every path below a folder, but not what is below `except`.
fn paths(folder: &Path, except: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder of ours").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if entry.file_type().expect("it has one").is_dir() && !except.contains(&path) {
            found.append(&mut paths(&path, except));
        }
        found.insert(path);
    }
    found
}

fn number_of(signal: &str) -> i32 {
    match signal {
        "SIGTERM" => libc::SIGTERM,
        "SIGINT" => libc::SIGINT,
        other => panic!("{other} is no clean stop"),
    }
}

#[test]
fn the_container_serves_and_stops_and_writes_to_its_volume_only() {
    let dir = TempDir::new();
    let [context, root, volume] = ["context", "image", "volume"].map(|name| dir.path().join(name));
    let rootfs = shipped("container/rootfs");
    run(Command::new(&rootfs).arg(binary()).arg(&context));
    // once more over what it has made, as before every build of an image
    run(Command::new(&rootfs).arg(binary()).arg(&context));
    let image = Image::build(&read(&shipped("container/Containerfile")), &context, root);

    let [mount_point] = &image.volumes[..] else { panic!("one volume: {:?}", image.volumes) };
    assert_eq!(image.owners, [(mount_point.clone(), image.user.clone())], "the user may write to its volume");
    let (uid, gid) = image.user.split_once(':').expect("a user and a group");
    assert!(uid != "0" && gid != "0" && uid.parse::<u32>().is_ok(), "orchestrators want a number but 0");
    let passwd = read(&image.place("/etc/passwd"));
    assert!(passwd.lines().any(|line| line.starts_with(&format!("corelane:x:{uid}:{gid}:"))), "{passwd}");
    let properties = read(&image.place("/etc/corelane/server.properties"));
    for port in &image.ports {
        let listens =
            properties.lines().any(|line| line.contains("listener") && line.ends_with(&format!(":{port}")));
        assert!(listens, "port {port} is exposed: {properties}");
    }
    assert_eq!(image.ports, [9092, 9644]);

    // A new volume has what the image has at its place.
    run(Command::new("cp").arg("-a").arg(image.place(mount_point)).arg(&volume));
    let port = free_port();
    let own = [
        format!("--set=listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("--set=advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
        "--set=admin.listener=127.0.0.1:0".to_owned(),
        "--shards=2".to_owned(),
    ];
    let mut before = None;
    for stored in 0..2 {
        let command = image.command(&volume, &own);
        let outside = [image.place("/proc"), image.place("/sys"), image.place(mount_point)];
        let found = paths(&image.root, &outside);
        assert_eq!(before.get_or_insert_with(|| found.clone()), &found, "it wrote beside its volume");
        let mut process = Process::spawn(command);
        let banner = process.wait_ready();
        let status = read(&PathBuf::from(format!("/proc/{}/status", process.pid())));
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
        assert_eq!(capabilities, Some("0000000000000000"), "it runs without privilege");

        let mut wire = Wire::connect(&listener(&banner));
        if stored == 0 {
            wire.create_topic("contained", 1, &[]);
        }
        let value = Bytes::from(format!("run {stored}"));
        let answer = wire.produce("contained", 0, -1, batch(std::slice::from_ref(&value)));
        assert_eq!((answer.error_code, answer.base_offset), (0, stored));
        let last = wire.read_all("contained", 0).pop().expect("it was stored");
        assert_eq!(last.value, Some(value));

        process.signal(number_of(&image.stop_signal));
        let status = process.wait_exit();
        assert_eq!(status.code(), Some(0), "{}", process.stderr());
        assert!(!process.stderr().contains("panicked"), "{}", process.stderr());
        assert!(volume.join("data/contained-0").is_dir(), "the data is in the volume");
    }
    // nothing in it but the folder the image names
    let entries = fs::read_dir(&volume).expect("it is ours").count();
    assert_eq!(entries, 1, "log.dirs is all that a volume has");
}
