//! kafka-consumer-groups and kafka-groups against corelane and against Apache Kafka, side by side, with the same live and
//! abandoned groups: what they print agrees.

use std::path::Path;
use std::thread;

use corelane_perf::compare::Process;

use crate::groups::clients::{confluent, java};
use crate::groups::group::Group;
use crate::harness::{Setup, TempDir, free_port};
use crate::install::kafka;
use crate::kafka_tools_agree::{Step, agree, step, transcript};

const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";

/// The groups are of the protocols that their names say, with a member each; `gone` has none any more, and what it has
/// committed. Each reads the topic of its name.
const SCRIPT: &[Step] = &[
    step(GROUPS, "--bootstrap-server BOOTSTRAP --list"),
    step(GROUPS, "--bootstrap-server BOOTSTRAP --list --group-type consumer"),
    step(GROUPS, "--bootstrap-server BOOTSTRAP --list --consumer"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --list"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --list --state --type"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --list --state empty"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --all-groups"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --all-groups --offsets --verbose"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --all-groups --members --verbose"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --all-groups --state --verbose"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --group nobody"),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group gone --topic gone:0,1 --to-earliest --dry-run",
    ),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group gone --topic gone:0 --shift-by -7 --execute",
    ),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group gone --all-topics --to-current --export --dry-run",
    ),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group new --topic gone --to-offset 5 --execute",
    ),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group classic --topic classic --to-earliest --execute",
    ),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --reset-offsets --group consumer --topic consumer --to-earliest --execute",
    ),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --delete-offsets --group gone --topic gone:1"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --delete-offsets --group classic --topic classic"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --delete-offsets --group consumer --topic consumer"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --delete-offsets --group nobody --topic gone"),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --describe --group gone --group new"),
    step(
        CONSUMER_GROUPS,
        "--bootstrap-server BOOTSTRAP --delete --group classic --group consumer --group new --group nobody",
    ),
    step(CONSUMER_GROUPS, "--bootstrap-server BOOTSTRAP --list --state --type"),
];

#[test]
fn kafkas_group_tools_say_the_same_of_kafka() {
    let scratch = TempDir::new();
    let port = free_port();
    let theirs: Process =
        kafka().start(port, free_port(), &scratch.path().join("kafka"), None).expect("Kafka starts");
    let mut ours = Setup::new().set("group.initial.rebalance.delay.ms", 0).start();
    let (folder, bootstrap) = (scratch.path().join("theirs"), format!("127.0.0.1:{port}"));
    let kafka = thread::spawn(move || said(&bootstrap, &folder));
    let own = said(ours.bootstrap(), &scratch.path().join("ours"));
    agree(SCRIPT, &own, &kafka.join().expect("the script runs against Kafka"));
    theirs.stop().expect("Kafka stops");
    ours.stop();
}

/// Makes the groups and runs the script.
fn said(bootstrap: &str, folder: &Path) -> Vec<String> {
    std::fs::create_dir_all(folder).expect("target/tmp is writable");
    let group = |name, client| {
        let mut group = Group::new(bootstrap, folder, client, name, 3);
        group.grow(1, 300);
        group.caught_up();
        group
    };
    group("gone", java("range")).end();
    let live = [group("classic", confluent("cooperative-sticky")), group("consumer", java("consumer"))];
    let said = transcript(SCRIPT, bootstrap, folder);
    live.into_iter().for_each(Group::end);
    said
}
