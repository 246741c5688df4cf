//! EndTxn, and the markers it commands.

use super::*;

/// An id whose producer is at epoch 5, in each of the states. In version 2 the producer was at 4 when it ended its last.
fn in_state(level: Version, state: TransactionState) -> Driver {
    let mut driver = Driver::new(level);
    driver.has_been("a", 7, if level.raises_epoch() && state != TransactionState::Empty { 4 } else { 5 });
    let epoch = driver.of("a").epoch.0;
    let mut go = |lines: &[&str]| {
        for line in lines {
            let line = line.replace('#', &format!("7:{epoch}"));
            assert!(driver.ask(&line).starts_with("ok"), "{line}");
        }
    };
    match state {
        TransactionState::Empty => {}
        TransactionState::Ongoing => {
            driver.has_been("a", 7, 5);
            assert_eq!(driver.ask("add a 7:5 t-0"), "ok");
        }
        TransactionState::PrepareCommit => go(&["add a # t-0", "commit a #"]),
        TransactionState::PrepareAbort => go(&["add a # t-0", "abort a #"]),
        TransactionState::CompleteCommit => go(&["add a # t-0", "commit a #", "written a"]),
        TransactionState::CompleteAbort => go(&["add a # t-0", "abort a #", "written a"]),
    }
    assert_eq!((driver.state("a"), driver.of("a").epoch.0), (state, 5));
    driver
}

fn check(level: Version, state: TransactionState, line: &str, expected: &str) {
    let mut driver = in_state(level, state);
    let records = driver.log.len();
    assert_eq!(driver.ask(line), expected, "{line} when {state:?} in version {level:?}");
    let decides = expected == "ok" && state == TransactionState::Ongoing;
    if !expected.starts_with("ok 7:6") && !decides {
        assert_eq!(driver.log.len(), records, "{line} when {state:?} in version {level:?} changes nothing");
    }
}

#[test]
fn by_clients_of_versions_0_and_1() {
    use TransactionState::*;
    for (state, commit, abort) in [
        (Empty, "InvalidTxnState", "InvalidTxnState"),
        (Ongoing, "ok", "ok"),
        (PrepareCommit, "ConcurrentTransactions", "ConcurrentTransactions"),
        (PrepareAbort, "ConcurrentTransactions", "ConcurrentTransactions"),
        (CompleteCommit, "ok", "InvalidTxnState"),
        (CompleteAbort, "InvalidTxnState", "ok"),
    ] {
        check(Version::ZERO, state, "commit a 7:5", commit);
        check(Version::ZERO, state, "abort a 7:5", abort);
        for line in ["commit a 7:4", "abort a 7:4", "commit a 7:6"] {
            check(Version::ZERO, state, line, "ProducerFenced");
        }
        check(Version::ZERO, state, "abort/1 a 7:4", "InvalidProducerEpoch");
        check(Version::ZERO, state, "abort a 8:5", "InvalidProducerIdMapping");
        check(Version::ZERO, state, "commit b 7:5", "InvalidProducerIdMapping");
    }
    assert_eq!(Driver::new(Version::ZERO).ask("commit  7:5"), "InvalidRequest");
}

#[test]
fn by_clients_of_version_2() {
    use TransactionState::*;
    // with the epoch before, and with the current one
    for (state, end, repeated, current) in [
        (Empty, "abort", "ProducerFenced", "ok 7:6"),
        (Empty, "commit", "ProducerFenced", "InvalidTxnState"),
        (Ongoing, "abort", "ProducerFenced", "ok 7:6"),
        (Ongoing, "commit", "ProducerFenced", "ok 7:6"),
        (CompleteAbort, "abort", "ok 7:5", "ok 7:6"),
        (CompleteAbort, "commit", "InvalidTxnState", "InvalidTxnState"),
        (CompleteCommit, "abort", "InvalidTxnState", "ok 7:6"),
        (CompleteCommit, "commit", "ok 7:5", "InvalidTxnState"),
    ] {
        check(Version::TWO, state, &format!("{end} a 7:4"), repeated);
        check(Version::TWO, state, &format!("{end} a 7:5"), current);
        check(Version::TWO, state, &format!("{end} a 7:6"), "ProducerFenced");
        check(Version::TWO, state, &format!("{end} a 7:3"), "ProducerFenced");
        check(Version::TWO, state, &format!("{end} a 8:5"), "InvalidProducerIdMapping");
    }
    // whoever it is, the next epoch or id may be his
    for state in [PrepareCommit, PrepareAbort] {
        for line in
            ["abort a 7:4", "commit a 7:4", "abort a 7:5", "commit a 7:5", "abort a 7:6", "abort a 8:0"]
        {
            check(Version::TWO, state, line, "ConcurrentTransactions");
        }
    }
}

/// Both kinds of clients on one id, one after the other.
#[test]
fn clients_may_be_updated() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[("init a", "ok 1000:0"), ("add a 1000:0 t-0", "ok"), ("commit a 1000:0", "ok")]);
    assert_eq!(driver.last["a"].version, 0);
    driver.set_level(Version::TWO);
    driver.check(&[("written a", "ok")]);
    assert_eq!(driver.last["a"].version, 1);
    driver.client = Version::TWO;
    driver.check(&[("add a 1000:0 t-0", "ok"), ("commit a 1000:0", "ok 1000:1"), ("written a", "ok")]);
    driver.client = Version::ZERO;
    driver.check(&[("add a 1000:1 t-0", "ok"), ("abort a 1000:1", "ok"), ("written a", "ok")]);
    // the level is taken back under a client that has not heard of it
    driver.client = Version::TWO;
    driver.set_level(Version::ZERO);
    driver.check(&[("add a 1000:1 t-0", "ok"), ("commit a 1000:1", "ok 1000:2"), ("written a", "ok")]);
}

/// Nothing was produced, so nothing has to be written but the epoch.
#[test]
fn without_partitions_a_transaction_is_complete_at_once() {
    let mut driver = Driver::new(Version::TWO);
    driver.check(&[("init a", "ok 1000:0"), ("abort a 1000:0", "ok 1000:1")]);
    assert_eq!((driver.state("a"), driver.commands.len()), (TransactionState::CompleteAbort, 0));
    assert_eq!(driver.of("a").started, driver.now.wall);
    driver.check(&[
        ("abort a 1000:0", "ok 1000:1"),
        ("abort a 1000:1", "ok 1000:2"),
        ("add a 1000:2 t-0", "ok"),
    ]);

    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[("init a", "ok 1000:0"), ("add a 1000:0", ""), ("commit a 1000:0", "ok")]);
    assert_eq!(driver.state("a"), TransactionState::CompleteCommit);
}

#[test]
fn an_id_is_replaced_at_the_end_of_its_last_transaction() {
    let mut driver = Driver::new(Version::TWO);
    driver.has_been("a", 7, i16::MAX - 1);
    driver.check(&[
        ("add a 7:32766 t-0", "ok"),
        ("commit a 7:32766", "ok 1000:0"),
        ("commit a 7:32766", "ConcurrentTransactions"),
        // its markers are still written, and the new id is its own
        ("add a 1000:0 t-0", "ConcurrentTransactions"),
        ("abort a 1000:0", "ConcurrentTransactions"),
        ("init a 1000:0", "ConcurrentTransactions"),
    ]);
    assert_eq!(driver.commanded(), ["a commit 7:32767 t-0"], "the markers are for the old one");
    driver.restart(0);
    assert_eq!(driver.commanded(), ["a commit 7:32767 t-0"]);
    driver.check(&[
        ("written a", "ok"),
        ("commit a 7:32766", "ok 1000:0"),
        ("abort a 7:32766", "InvalidTxnState"),
        ("add a 1000:0 t-0", "ok"),
        ("commit a 7:32766", "InvalidProducerIdMapping"),
        ("commit a 1000:0", "ok 1000:1"),
    ]);
}

#[test]
fn markers_are_commanded_until_they_are_written() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[
        ("init a", "ok 1000:0"),
        ("add a 1000:0 t-0 t-1", "ok"),
        ("init b", "ok 1001:0"),
        ("add b 1001:0 u-0", "ok"),
        ("commit a 1000:0", "ok"),
    ]);
    let first = driver.commands[0].decided.clone();
    for _ in 0..3 {
        driver.restart(0);
        assert_eq!(driver.commanded(), ["a commit 1000:0 t-0 t-1"]);
    }
    // of another producer, of another epoch
    let records = driver.log.len();
    driver.written(&Decided { producer_epoch: ProducerEpoch(1), ..first.clone() });
    driver.written(&Decided { producer_id: ProducerId(1001), ..first.clone() });
    driver.written(&Decided { transactional_id: Rc::from("c"), ..first.clone() });
    assert_eq!((driver.state("a"), driver.log.len()), (TransactionState::PrepareCommit, records));
    driver.written(&first);
    assert_eq!(driver.state("a"), TransactionState::CompleteCommit);
    driver.check(&[("add a 1000:0 t-0", "ok")]);
    // told once more, in the next transaction
    driver.written(&first);
    assert_eq!(driver.state("a"), TransactionState::Ongoing);
    driver.restart(0);
    assert!(driver.commands.is_empty());
}
