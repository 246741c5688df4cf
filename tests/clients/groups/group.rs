//! A consumer group of real clients on a topic of its own: starts members, hears what they say (`group_member.py` tells
//! in which words), and holds them to what a group promises, at each word:
//!
//! - a member reads a partition from no earlier than the last answered commit, and on without a gap or a repetition;
//! - nobody reads what nobody wrote;
//! - until somebody crashed, nobody reads what somebody has read.
//!
//! That nothing is left out is for the test to wait for ([`Group::caught_up`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::clients::Client;
use crate::run::run_with;
use crate::wire::Wire;

/// Nothing that a test waits for takes this long, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Words printed when a test fails.
const LAST_WORDS: usize = 80;

pub struct Group {
    client: Client,
    bootstrap: String,
    /// The topic's and the group's.
    name: String,
    scratch: PathBuf,
    partitions: Vec<Partition>,
    members: Vec<Member>,
    tell: Sender<(usize, Said)>,
    heard: Receiver<(usize, Said)>,
    begun: Instant,
    history: Vec<String>,
    /// Somebody went without a chance to commit, so records may be read twice from now on.
    crashed: bool,
}

/// What is known of a partition; its records' values are their offsets.
#[derive(Default)]
struct Partition {
    times_read: Vec<u8>,
    unread: usize,
    /// The last answered commit.
    committed: usize,
    /// Who read it last was killed, and may have committed more than it has said.
    reader_died: bool,
}

struct Member {
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    /// By partition, the next offset it will read, once it has read.
    assigned: BTreeMap<usize, Option<usize>>,
    /// What it had when the group was settled last, and what was taken from it since.
    had: BTreeSet<usize>,
    gave_up: BTreeSet<usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// By SIGSTOP: it is as good as crashed, but its connections are open.
    Frozen,
    /// It was told to.
    Leaving,
    Killed,
    Ended,
}

enum Said {
    Line(String),
    Ended(ExitStatus),
}

impl Group {
    /// No members yet, and an empty topic of the same name.
    pub fn new(bootstrap: &str, scratch: &Path, client: Client, name: &str, partitions: usize) -> Group {
        let count = i32::try_from(partitions).expect("a few");
        Wire::connect(bootstrap).create_topic(name, count, &[]);
        let (tell, heard) = channel();
        Group {
            client,
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
            scratch: scratch.to_owned(),
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            members: Vec::new(),
            tell,
            heard,
            begun: Instant::now(),
            history: Vec::new(),
            crashed: false,
        }
    }

    /// Writes that many records more to the partitions in turn.
    pub fn write(&mut self, records: usize) {
        if records == 0 {
            return;
        }
        let count = self.partitions.len();
        let mut input = String::new();
        for record in 0..records {
            let partition = &mut self.partitions[record % count];
            input += &format!("{} {}\n", record % count, partition.times_read.len());
            partition.times_read.push(0);
            partition.unread += 1;
        }
        let mut produce = Command::new(env!("CARGO_BIN_EXE_corelane"));
        produce.args(["topic", "produce", &self.name, "-f", "%p %v", "-b", &self.bootstrap]);
        run_with(produce, input.into_bytes());
    }

    /// Starts a member and waits for nothing; its number.
    pub fn start(&mut self) -> usize {
        let number = self.members.len();
        let mut command = self.client.command();
        command.args(["--bootstrap", &self.bootstrap, "--topic", &self.name, "--group", &self.name]);
        command.args(["--client-id", &format!("m{number}"), "--protocol", self.client.protocol]);
        let stderr = File::create(self.stderr(number)).expect("target/tmp is writable");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        // SAFETY: prctl with PR_SET_PDEATHSIG is a plain system call that touches no memory; it is safe between fork
        // and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let child = Arc::new(Mutex::new(child));
        let (ends, tell) = (Arc::clone(&child), self.tell.clone());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send((number, Said::Line(line)));
            }
            let ended = lock(&ends).wait().expect("a child can be waited for");
            let _ = tell.send((number, Said::Ended(ended)));
        });
        self.note(number, "starts");
        let (had, gave_up) = (BTreeSet::new(), BTreeSet::new());
        let assigned = BTreeMap::new();
        self.members.push(Member { child, stdin, assigned, had, gave_up, state: State::Running });
        number
    }

    /// Starts members until there are so many, and waits until each has its share. Records are written meanwhile.
    pub fn grow(&mut self, members: usize, records: usize) {
        self.write(records / 2);
        while self.running().count() < members {
            self.start();
        }
        self.write(records - records / 2);
        self.settled();
    }

    /// Tells a member to leave and waits until it has.
    pub fn leave(&mut self, number: usize) {
        self.members[number].stdin = None;
        self.members[number].state = State::Leaving;
        self.note(number, "is told to leave");
        self.until("a member leaves", |group| group.members[number].state == State::Ended);
    }

    /// Tells all to, one behind the other.
    pub fn end(mut self) {
        for number in self.running().collect::<Vec<_>>() {
            self.leave(number);
        }
    }

    /// kill -9, and waits for nothing.
    pub fn kill(&mut self, number: usize) {
        self.members[number].signal(libc::SIGKILL);
        self.members[number].state = State::Killed;
        for partition in self.members[number].partitions() {
            self.partitions[partition].reader_died = true;
        }
        self.note(number, "is killed");
        self.crashed = true;
    }

    /// From now on a member does nothing, and the broker is not told. It is to be killed later.
    pub fn freeze(&mut self, number: usize) {
        self.members[number].signal(libc::SIGSTOP);
        self.members[number].state = State::Frozen;
        self.note(number, "is frozen");
        self.crashed = true;
    }

    pub fn reads_on_while_rebalanced(&self) -> bool {
        self.client.reads_on_while_rebalanced()
    }

    /// The numbers of those that read.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|number| self.members[*number].state == State::Running)
    }

    /// Waits until each partition is some running member's, and nobody has two more than another.
    ///
    /// In a cooperative group nobody was stopped for what it keeps: it was not taken and given back.
    pub fn settled(&mut self) {
        self.until("each member has its share", Group::is_settled);
        for number in self.running().collect::<Vec<_>>() {
            let member = &mut self.members[number];
            let now = member.partitions();
            let kept: BTreeSet<usize> = member.had.intersection(&now).copied().collect();
            let stopped: Vec<_> = kept.intersection(&member.gave_up).collect();
            assert!(
                stopped.is_empty() || !self.client.is_cooperative(),
                "m{number} keeps {kept:?} and was stopped for {stopped:?}"
            );
            member.had = now;
            member.gave_up.clear();
        }
    }

    fn is_settled(&self) -> bool {
        let shares = || self.running().map(|number| self.members[number].assigned.len());
        let all: BTreeSet<usize> =
            self.running().flat_map(|number| self.members[number].partitions()).collect();
        let (least, most) = (shares().min().unwrap_or(0), shares().max().unwrap_or(0));
        all.len() == self.partitions.len() && shares().sum::<usize>() == all.len() && most - least <= 1
    }

    /// Waits until everything written has been read, and committed.
    pub fn caught_up(&mut self) {
        self.until("all is read and committed", |group| {
            let committed = |part: &Partition| part.committed == part.times_read.len() || part.reader_died;
            group.partitions.iter().all(|part| part.unread == 0 && committed(part))
        });
    }

    /// Writes a little, again and again, until the partitions of the frozen member are others': for as long as the
    /// coordinator waited for it, those who run have read what they had.
    pub fn reads_on(&mut self, frozen: usize) {
        let waiting = self.members[frozen].partitions();
        let held: BTreeSet<usize> =
            self.running().flat_map(|number| self.members[number].partitions()).collect();
        let taken = |group: &Group| {
            group.running().any(|number| !group.members[number].partitions().is_disjoint(&waiting))
        };
        let (begun, mut read) = (Instant::now(), Duration::ZERO);
        loop {
            self.write(self.partitions.len());
            self.until("those who run read on", |group| {
                taken(group) || held.iter().all(|partition| group.partitions[*partition].unread == 0)
            });
            if taken(self) {
                break;
            }
            read = begun.elapsed();
        }
        let waited = begun.elapsed();
        // stopped, they would have read until their next heartbeat, a twelfth of a session
        assert!(read > waited / 2, "they read for {read:?} of the {waited:?} that the group waited");
    }

    /// How many records were read more than once.
    pub fn repeated(&self) -> usize {
        let times = self.partitions.iter().flat_map(|partition| &partition.times_read);
        times.filter(|times| **times > 1).count()
    }

    /// Hears the members until this is so.
    fn until(&mut self, what: &str, holds: impl Fn(&Group) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((number, said)) = self.heard.recv_timeout(left) else {
                let state = |number: usize| (number, self.members[number].partitions());
                let held: Vec<_> = self.running().map(state).collect();
                let unread: Vec<_> = self.partitions.iter().map(|partition| partition.unread).collect();
                panic!("not within {PATIENCE:?}: {what}; members hold {held:?}, unread are {unread:?}");
            };
            match said {
                Said::Line(line) => {
                    self.note(number, &line);
                    self.hear(number, &line);
                }
                Said::Ended(status) => self.ended(number, status),
            }
        }
    }

    fn hear(&mut self, number: usize, line: &str) {
        let said: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("m{number}: {line}: {error}"));
        let index = |value: &Value| {
            let number = value.as_u64().unwrap_or_else(|| panic!("m{number}: {line}"));
            usize::try_from(number).expect("64 bits")
        };
        let partitions =
            || said["partitions"].as_array().unwrap_or_else(|| panic!("{line}")).iter().map(index);
        let member = &mut self.members[number];
        match said["event"].as_str() {
            Some("assigned") => member.assigned.extend(partitions().map(|partition| (partition, None))),
            Some("revoked" | "lost") => {
                for partition in partitions() {
                    member.assigned.remove(&partition);
                    member.gave_up.insert(partition);
                }
            }
            Some("read") => {
                self.read(number, index(&said["partition"]), index(&said["first"]), index(&said["last"]))
            }
            Some("committed") => {
                for (partition, offset) in said["offsets"].as_object().unwrap_or_else(|| panic!("{line}")) {
                    let partition = &mut self.partitions[partition.parse::<usize>().expect("a number")];
                    partition.committed = partition.committed.max(index(offset));
                }
            }
            Some("uncommitted" | "error" | "left") => {}
            _ => panic!("m{number} says {line}"),
        }
    }

    fn read(&mut self, number: usize, partition: usize, first: usize, last: usize) {
        let next = (self.members[number].assigned.get_mut(&partition))
            .unwrap_or_else(|| panic!("m{number} reads partition {partition}, which it was not given"));
        let state = &mut self.partitions[partition];
        match *next {
            Some(next) => {
                assert_eq!(first, next, "m{number}, partition {partition}: the offset after the last")
            }
            None => assert!(
                first >= state.committed,
                "m{number} reads partition {partition} from {first}, {} is committed",
                state.committed
            ),
        }
        *next = Some(last + 1);
        state.reader_died &= self.members[number].state == State::Killed;
        assert!(last < state.times_read.len(), "partition {partition}: nobody wrote {last}");
        for offset in first..=last {
            let times = &mut state.times_read[offset];
            state.unread -= usize::from(*times == 0);
            *times = times.saturating_add(1);
            assert!(*times == 1 || self.crashed, "m{number}: partition {partition}, {offset} is read again");
        }
    }

    fn ended(&mut self, number: usize, status: ExitStatus) {
        self.note(number, &status.to_string());
        let member = &mut self.members[number];
        match member.state {
            State::Killed => {}
            State::Leaving => assert!(status.success(), "m{number} left with {status}"),
            state => panic!("m{number}, {state:?}, ended with {status}"),
        }
        member.state = State::Ended;
    }

    fn note(&mut self, number: usize, words: &str) {
        self.history.push(format!("{:7.3} m{number} {words}", self.begun.elapsed().as_secs_f64()));
    }

    fn stderr(&self, number: usize) -> PathBuf {
        self.scratch.join(format!("{}-m{number}.stderr", self.name))
    }
}

impl Member {
    fn partitions(&self) -> BTreeSet<usize> {
        self.assigned.keys().copied().collect()
    }

    fn signal(&self, signal: i32) {
        let mut child = lock(&self.child);
        if child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let pid = i32::try_from(child.id()).expect("a process id is positive and small");
            // SAFETY: kill takes two integers; the child has not been waited for.
            unsafe { libc::kill(pid, signal) };
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for member in &self.members {
            member.signal(libc::SIGKILL);
        }
        if thread::panicking() {
            let from = self.history.len().saturating_sub(LAST_WORDS);
            eprintln!("--- {} said\n{}", self.name, self.history[from..].join("\n"));
            for number in 0..self.members.len() {
                let text = std::fs::read_to_string(self.stderr(number)).unwrap_or_default();
                if !text.is_empty() {
                    eprintln!("--- stderr of m{number}\n{text}");
                }
            }
        }
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
