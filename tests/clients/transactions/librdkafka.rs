//! librdkafka's own tests of idempotent and transactional producers, those that need one broker and no mock of one.
//!
//! They are in the npm package of a client that carries librdkafka's source, and are built without what they do not need.
//! Left out: what runs against librdkafka's own mock of a cluster, and shares.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Setup;
use crate::install::{self, clients, sources};
use crate::run::run;

/// By the number in their files' names, with the names under which they tell how they ended.
const TESTS: [(&str, &[&str]); 5] = [
    ("0090", &["0090_idempotence"]),
    ("0094", &["0094_idempotence_msg_timeout"]),
    ("0098", &["0098_consumer_txn"]),
    ("0103", &["0103_transactions_local", "0103_transactions"]),
    ("0129", &["0129_fetch_aborted_msgs"]),
];

/// Kafka's broker and tools, as librdkafka's tests look for them.
fn kafka(folder: &Path) -> PathBuf {
    let path = folder.join("kafka");
    std::fs::create_dir_all(&path).expect("target/tmp is writable");
    for (name, target) in [("bin", sources().join("librdkafka/bin")), ("libs", install::kafka().jars())] {
        let link = path.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(target, link).expect("target/tmp is writable");
    }
    path
}

/// The folder of the tests, built.
fn built(folder: &Path) -> PathBuf {
    let librdkafka = folder.join("node_modules/@confluentinc/kafka-javascript/deps/librdkafka");
    let tests = librdkafka.join("tests");
    install::system_package("make", "make");
    install::system_package("g++", "g++");
    install::system_file("/usr/include/rapidjson/schema.h", "rapidjson-dev");
    install::npm(folder, "librdkafka", || {
        // Topics have three replicas, whatever the brokers.
        let file = tests.join("test.c");
        let text = std::fs::read_to_string(&file).expect("the package has it");
        let three = "rd_kafka_NewTopic_new(topicname, partition_cnt, replication_factor,";
        assert_eq!(text.matches(three).count(), 1, "another test.c");
        let one = three.replace("replication_factor", "1");
        std::fs::write(&file, text.replace(three, &one)).expect("target/tmp is writable");

        let without = ["ssl", "gssapi", "curl", "zstd", "syslog", "optimization"];
        let mut configure = Command::new("./configure");
        configure.args(without.map(|what| format!("--disable-{what}"))).current_dir(&librdkafka);
        run(configure);
        for (part, target) in
            [("src", "librdkafka.a"), ("src-cpp", "librdkafka++.a"), ("tests", "test-runner")]
        {
            let mut make = Command::new("make");
            make.args(["-s", "-j2", "-C", part, target]).current_dir(&librdkafka);
            run(make);
        }
    });
    tests
}

#[test]
#[ignore = "librdkafka is built for it, and its tests wait a lot: three minutes and a half"]
fn librdkafkas_own_tests_of_transactions() {
    let folder = clients().join("librdkafka");
    let tests = built(&folder);
    let broker = Setup::new().start();
    std::fs::write(tests.join("test.conf"), format!("bootstrap.servers={}\n", broker.bootstrap()))
        .expect("target/tmp is writable");
    let paths = std::env::var_os("PATH").expect("programs are found by it");
    let paths = std::iter::once(sources().join("librdkafka/bin")).chain(std::env::split_paths(&paths));
    let mut command = Command::new("./test-runner");
    command
        .arg(format!("-p{}", TESTS.len()))
        .env("TESTS", TESTS.map(|(number, _)| number).join(","))
        .env("TEST_KAFKA_VERSION", "4.0.0")
        .env("KAFKA_PATH", kafka(&folder))
        .env("PATH", std::env::join_paths(paths).expect("paths without a colon"))
        .current_dir(&tests);
    let told = run(command).text();
    for name in TESTS.iter().flat_map(|(_, names)| *names) {
        assert!(told.contains(&format!("Test {name} PASSED")), "{name} did not pass:\n{told}");
    }
}
