//! AddPartitionsToTxn.

use super::*;

#[test]
fn partitions_gather() {
    for level in [Version::ZERO, Version::TWO] {
        let mut driver = Driver::new(level);
        driver.check(&[
            ("init a", "ok 1000:0"),
            ("add a 1000:0 t-2 t-0", "ok"),
            ("add a 1000:0 u-0 t-0", "ok"),
        ]);
        let started = driver.of("a").started;
        assert_eq!(started, driver.now.wall);
        driver.pass(5);
        let records = driver.log.len();
        driver.check(&[("add a 1000:0 t-0 u-0", "ok")]);
        assert_eq!(driver.log.len(), records, "nothing new");
        driver.check(&[("add a 1000:0 t-1", "ok")]);
        assert_eq!((driver.of("a").started, driver.of("a").updated), (started, started + 5));
        assert_eq!(driver.of("a").version, level);
        let _ = driver.ask("commit a 1000:0");
        let epoch = i16::from(level.raises_epoch());
        assert_eq!(driver.commanded(), [format!("a commit 1000:{epoch} t-0 t-1 t-2 u-0")]);
    }
}

#[test]
fn all_are_added_or_none() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[
        ("init a", "ok 1000:0"),
        ("add a 1000:0 t-0 t-3 nothing-0 t--1", "OperationNotAttempted UnknownTopicOrPartition"),
        ("add a 1000:0 t-3", "UnknownTopicOrPartition"),
    ]);
    assert_eq!(driver.state("a"), TransactionState::Empty);
}

#[test]
fn only_the_ids_producer_adds() {
    for what in ["add", "verify"] {
        let mut driver = Driver::new(Version::ZERO);
        driver.check(&[("init a", "ok 1000:0"), ("init a", "ok 1000:1"), ("add a 1000:1 t-0", "ok")]);
        for (asked, expected) in [
            ("b 1000:1 t-0", "InvalidProducerIdMapping"),
            (" 1000:1 t-0", "InvalidRequest"),
            ("a 1001:1 t-0", "InvalidProducerIdMapping"),
            ("a 1000:0 t-0", "ProducerFenced"),
            ("a 1000:2 t-0", "ProducerFenced"),
            ("a 1000:1 t-0", "ok"),
        ] {
            assert_eq!(driver.ask(&format!("{what} {asked}")), expected, "{what} {asked}");
        }
        driver.check(&[("commit a 1000:1", "ok")]);
        assert_eq!(driver.ask(&format!("{what} a 1000:1 t-0")), "ConcurrentTransactions");
        driver.check(&[("written a", "ok")]);
    }
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[("init a", "ok 1000:0"), ("add/1 a 1000:5 t-0", "InvalidProducerEpoch")]);
}

/// KIP-890: a partition asks whether its leader may append.
#[test]
fn a_partition_is_looked_for() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[
        ("init a", "ok 1000:0"),
        ("verify a 1000:0 t-0", "TransactionAbortable"),
        ("add a 1000:0 t-0", "ok"),
        ("verify a 1000:0 t-0", "ok"),
        ("verify a 1000:0 t-0 t-1", "ok TransactionAbortable"),
        ("commit a 1000:0", "ok"),
        ("written a", "ok"),
        ("verify a 1000:0 t-0", "TransactionAbortable"),
    ]);
    assert_eq!(driver.state("a"), TransactionState::CompleteCommit, "to look adds nothing");
}

#[test]
fn a_new_transaction_begins_behind_the_last() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[
        ("init a", "ok 1000:0"),
        ("add a 1000:0 t-0", "ok"),
        ("commit a 1000:0", "ok"),
        ("written a", "ok"),
    ]);
    driver.pass(1_000);
    driver.check(&[("add a 1000:0 u-0", "ok")]);
    assert_eq!(driver.of("a").started, driver.now.wall);
    driver.check(&[("abort a 1000:0", "ok")]);
    assert_eq!(driver.commanded(), ["a abort 1000:0 u-0"]);
}
