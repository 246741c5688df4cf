//! `corelane group` against Apache Kafka and against corelane, with the same expectations; what it exports and reads, Kafka's
//! own tool reads and exports, too.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Setup, TempDir, free_port};
use crate::install::{kafka, kafka_tool, script};
use crate::people::{People, row};
use crate::run::run_with;

/// Of topic orders; each has [`RECORDS`].
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 10;
/// 2023-11-14T22:13:20Z; a record is a second younger than the one before it.
const FIRST_MS: i64 = 1_700_000_000_000;
/// More than consumers need to share out partitions on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn the_group_commands_work_against_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let broker = kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    let people = People { bootstrap: format!("127.0.0.1:{port}") };
    people.fill();
    offsets_without_members(&people, &scratch);
    members_are_told_and_keep_their_offsets(&people, "classic");
    members_are_told_and_keep_their_offsets(&people, "consumer");
    broker.stop().expect("Kafka stops");
}

#[test]
fn the_group_commands_work_against_corelane() {
    let scratch = TempDir::new();
    let mut broker = Setup::new().shards(2).start();
    let people = People { bootstrap: broker.bootstrap().to_owned() };
    people.fill();
    offsets_without_members(&people, &scratch);
    members_are_told_and_keep_their_offsets(&people, "classic");
    members_are_told_and_keep_their_offsets(&people, "consumer");
    broker.stop();
}

impl People {
    /// Topics orders and payments.
    fn fill(&self) {
        // the records are old
        self.run(&format!("topic create orders -p {PARTITIONS} -c retention.ms=-1"));
        self.run("topic create payments -p 1");
        let lines = (0..RECORDS).flat_map(|number| {
            (0..PARTITIONS).map(move |index| format!("{index} {} x\n", FIRST_MS + number * 1_000))
        });
        self.run_with("topic produce orders -f %p\\x20%T\\x20%v", &lines.collect::<String>());
        self.run_with("topic produce payments", "a\nb\n");
    }

    /// What a group has committed for the partitions of orders.
    fn committed(&self, group: &str) -> Vec<Value> {
        let told = self.json(&format!("group describe {group}"));
        let partitions = told["groups"][0]["partitions"].as_array().expect("partitions").clone();
        let orders = partitions.into_iter().filter(|partition| partition["topic"] == "orders");
        orders.map(|partition| partition["committed"].clone()).collect()
    }

    /// Of each group listed with these filters: name, type, state, number of members.
    fn listed(&self, filters: &str) -> Vec<[Value; 4]> {
        let told = self.json(&format!("group list{filters}"));
        let groups = told["groups"].as_array().expect("groups").clone();
        groups
            .iter()
            .map(|group| ["group", "type", "state", "members"].map(|key| group[key].clone()))
            .collect()
    }
}

/// All that is done to a group that only has offsets.
fn offsets_without_members(people: &People, scratch: &TempDir) {
    let reset = |words: &str| people.run(&format!("group reset-offsets batch {words}"));

    // a group that is not there: nothing but a look, then it is made
    let (_, unknown) = people.refused("group describe batch");
    assert_eq!(unknown, "group batch does not exist; `corelane group list` shows those that do");
    let shown = reset("--to-offset 4 --topic orders");
    assert_eq!(row(&shown, &["orders", "1"]), ["orders", "1", "-", "4", "-", "0", "10"]);
    assert!(shown.ends_with("\nnothing was changed: --execute sets 3 offsets\n"), "{shown}");
    assert_eq!(people.listed("").len(), 0);
    let done = reset("--to-offset 4 --topic orders --execute");
    assert!(done.ends_with("\ngroup batch: 3 offsets set\n"), "{done}");
    reset("--to-offset 1 --topic payments --execute");
    assert_eq!(people.listed(""), [[json!("batch"), json!("classic"), json!("Empty"), json!(0)]]);
    assert_eq!(people.listed(" --prefix bat --state empty --type classic").len(), 1);
    for other in [" --prefix bit", " --state stable", " --type consumer"] {
        assert_eq!(people.listed(other).len(), 0, "{other}");
    }
    let (_, near) = people.refused("group describe batsh");
    assert_eq!(near, "group batsh does not exist, did you mean batch?");

    let told = people.run("group describe batch");
    assert!(told.starts_with("batch: classic group, Empty, 0 members, coordinator broker 1 ("), "{told}");
    assert_eq!(row(&told, &["orders", "2"]), ["orders", "2", "4", "0", "10", "6", "-"]);
    let lag = people.json("group lag");
    let worst = json!({ "topic": "orders", "partition": 0, "lag": 6 });
    assert_eq!((&lag["groups"][0]["lag"], &lag["groups"][0]["worst"]), (&json!(19), &worst));
    people.run("group lag batch --fail-above 19");
    let (table, behind) = people.refused("group lag --fail-above 18");
    assert_eq!(row(&table, &["batch"]), ["batch", "Empty", "0", "4", "0", "19", "6", "orders:0"]);
    assert_eq!(behind, "more than 18 records behind: batch (19)");

    every_goal(people);
    files(people, scratch);

    people.run("group delete-offsets batch -T orders:0,2 --yes");
    assert_eq!(people.committed("batch").len(), 1);
    let (_, nothing) = people.refused("group delete-offsets batch -T orders:0-1 --yes");
    assert_eq!(nothing, "group batch has committed nothing for orders partition 0");
    let (_, unsaid) = people.refused("group delete batch");
    assert!(unsaid.starts_with("delete group batch with all committed offsets: "), "{unsaid}");
    assert_eq!(people.run("group delete batch --yes"), "deleted group batch\n");
    assert_eq!(people.listed("").len(), 0);
    let (_, gone) = people.refused("group delete batch --yes");
    assert_eq!(gone, "group batch does not exist; `corelane group list` shows those that do");
    people.run("group delete batch --yes --if-exists");
}

/// From offset 4 in each of the partitions.
fn every_goal(people: &People) {
    let none = Value::Null;
    let check = |goal: &str, after: [i64; 3], note: &Value| {
        for doing in ["", " --execute"] {
            let words = format!("group reset-offsets batch {goal} --topic orders{doing}");
            let told = people.json(&words);
            assert_eq!(told["executed"], !doing.is_empty());
            let partitions = told["partitions"].as_array().expect("partitions");
            let planned: Vec<&Value> = partitions.iter().map(|partition| &partition["after"]).collect();
            assert_eq!(planned, after.map(|offset| json!(offset)).iter().collect::<Vec<_>>(), "{told}");
            assert!(partitions.iter().all(|partition| partition["note"] == *note), "{told}");
        }
        assert_eq!(people.committed("batch"), after, "{goal}");
    };
    check("--shift-by -3", [1; 3], &none);
    check("--shift-by -3", [0; 3], &json!("-2 is before the start, which is taken"));
    check("--to-latest", [10; 3], &none);
    check("--to-datetime 2023-11-14T22:13:24.500Z", [5; 3], &none);
    check("--to-datetime 2023-11-15T00:13:27+02:00", [7; 3], &none);
    check("--to-datetime @1700000003000", [3; 3], &none);
    check("--ago 1h", [10; 3], &json!("no record is so new: the end"));
    check("--to-offset 11", [10; 3], &json!("11 is behind the end, which is taken"));
    check("--to-earliest", [0; 3], &none);
    check("--to-current", [0; 3], &none);

    // of some partitions only, and of all that are committed
    people.run("group reset-offsets batch --to-offset 6 --topic orders:0,2 --execute");
    assert_eq!(people.committed("batch"), [6, 0, 6]);
    let all = people.json("group reset-offsets batch --shift-by 1 --all-topics");
    assert_eq!(all["partitions"].as_array().map(Vec::len), Some(4));
    let (_, missing) = people.refused("group reset-offsets batch --to-offset 6 --topic orders:3");
    assert_eq!(missing, "topic orders has no partition 3: it has 0 to 2");
    let (_, unknown) = people.refused("group reset-offsets batch --to-offset 6 --topic order");
    assert_eq!(unknown, "topic order does not exist, did you mean orders?");
    let (_, nothing) = people.refused("group reset-offsets other --shift-by 1 --topic orders");
    assert!(nothing.starts_with("group other has committed nothing for orders partition 0 "), "{nothing}");
}

/// From offsets 6, 0, 6.
fn files(people: &People, scratch: &TempDir) {
    let file = |name: &str| scratch.path().join(name).to_str().expect("paths of tests are text").to_owned();
    let (ours, theirs) = (file("ours.csv"), file("theirs.csv"));
    let exported = people.run("group reset-offsets batch --shift-by 1 --topic orders --export");
    assert_eq!(exported, "orders,0,7\norders,1,1\norders,2,7\n");
    std::fs::write(&ours, exported).expect("target/tmp is writable");

    let tool = |words: &str| {
        let mut command = kafka_tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        command.args(["--bootstrap-server", &people.bootstrap, "--reset-offsets", "--group", "batch"]);
        command.args(words.split(' '));
        String::from_utf8(run_with(command, Vec::new()).stdout).expect("text")
    };
    tool(&format!("--from-file {ours} --execute"));
    assert_eq!(people.committed("batch"), [7, 1, 7]);

    std::fs::write(&theirs, tool("--to-current --topic orders --dry-run --export")).expect("it is writable");
    people.run("group reset-offsets batch --to-earliest --topic orders --execute");
    people.run(&format!("group reset-offsets batch --from-file {theirs} --execute"));
    assert_eq!(people.committed("batch"), [7, 1, 7]);
    people.run_with("group reset-offsets batch --from-file - --execute", "orders,1,9\n");
    assert_eq!(people.committed("batch"), [7, 9, 7]);
}

/// Consumers that read topic orders until they are told to leave.
struct Members {
    child: Child,
}

impl Members {
    /// `consumers` of a group, that have shared out the partitions and committed offset 2 in each.
    fn join(people: &People, protocol: &str, group: &str, consumers: usize) -> Members {
        let mut command = script("confluent_members.py");
        command.args(["--bootstrap", &people.bootstrap, "--protocol", protocol, "--group", group]);
        command.args(["--topic", "orders", "--commit", "2"]);
        command.arg("--partitions").arg(PARTITIONS.to_string());
        command.arg("--consumers").arg(consumers.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // from here on a panic ends it
        let members = Members { child };
        let (sender, settled) = channel();
        thread::spawn(move || sender.send(lines.next()));
        let line = settled.recv_timeout(LIMIT).expect("the consumers settle in time");
        assert_eq!(line.and_then(Result::ok).as_deref(), Some("settled"));
        members
    }

    fn leave(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it can be waited for").success());
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // it has ended already, unless the test failed
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two consumers by one of the two protocols.
fn members_are_told_and_keep_their_offsets(people: &People, protocol: &str) {
    let group = format!("readers-{protocol}");
    let members = Members::join(people, protocol, &group, 2);
    assert_eq!(people.listed(""), [[json!(group), json!(protocol), json!("Stable"), json!(2)]]);
    let told = people.json(&format!("group describe {group}"));
    let told = &told["groups"][0];
    assert_eq!((&told["type"], &told["state"]), (&json!(protocol), &json!("Stable")));
    assert!(told["assignor"].as_str().is_some_and(|assignor| !assignor.is_empty()), "{told}");
    assert_eq!(told["epoch"].is_i64(), protocol == "consumer", "{told}");
    let readers = told["members"].as_array().expect("members");
    let clients: Vec<&Value> = readers.iter().map(|member| &member["client"]).collect();
    assert_eq!(clients, ["reader-0", "reader-1"]);
    for partition in told["partitions"].as_array().expect("partitions") {
        let reader = readers.iter().find(|member| member["member"] == partition["member"]);
        let assigned = reader.expect("somebody reads it")["assigned"]["orders"].as_array();
        assert!(assigned.expect("partitions").contains(&partition["partition"]), "{told}");
        assert_eq!((&partition["committed"], &partition["lag"]), (&json!(2), &json!(8)));
    }
    for reader in readers {
        assert_eq!(reader["host"], "127.0.0.1");
        // nothing moves
        let target = if protocol == "consumer" { reader["assigned"].clone() } else { Value::Null };
        assert_eq!(reader["target"], target);
    }
    let text = people.run(&format!("group describe {group}"));
    assert!(text.starts_with(&format!("{group}: {protocol} group, Stable, 2 members, ")), "{text}");
    assert_eq!(row(&people.run("group lag"), &[&group])[1..6], ["Stable", "2", "3", "0", "24"]);

    // what they read stays theirs
    let reset = format!("group reset-offsets {group} --to-earliest --topic orders");
    assert!(people.run(&reset).contains(&format!("group {group} has 2 members (it is Stable): stop its")));
    let (_, busy) = people.refused(&format!("{reset} --execute"));
    let expect =
        format!("group {group} has 2 members (it is Stable); stop its consumers first, nothing was changed");
    assert_eq!(busy, expect);
    let (_, busy) = people.refused(&format!("group delete {group} --yes"));
    assert!(busy.contains("NON_EMPTY_GROUP (error 68): the group has members"), "{busy}");
    let (_, read) = people.refused(&format!("group delete-offsets {group} -T orders --yes"));
    assert!(read.contains("GROUP_SUBSCRIBED_TO_TOPIC (error 86): a member of the group reads"), "{read}");
    assert_eq!(people.committed(&group), [2, 2, 2]);

    members.leave();
    assert_eq!(people.listed(" --state empty"), [[json!(group), json!(protocol), json!("Empty"), json!(0)]]);
    people.run(&format!("{reset} --execute"));
    assert_eq!(people.committed(&group), [0, 0, 0]);
    people.run(&format!("group delete {group} --yes"));
    assert_eq!(people.listed("").len(), 0);
}
