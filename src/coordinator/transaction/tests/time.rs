//! What happens by itself: transactions that take too long, ids that nobody uses.

use super::*;

const HOUR_MS: u64 = 60 * 60 * 1_000;

#[test]
fn a_transaction_has_its_time() {
    for level in [Version::ZERO, Version::TWO] {
        let mut driver = Driver::new(level);
        driver.check(&[("init a", "ok 1000:0")]);
        driver.pass(HOUR_MS);
        driver.check(&[("add a 1000:0 t-0", "ok")]);
        driver.pass(TIMEOUT_MS as u64 / 2);
        driver.check(&[("add a 1000:0 t-1", "ok")]);
        driver.pass(TIMEOUT_MS as u64 / 2 - 1);
        assert_eq!(driver.state("a"), TransactionState::Ongoing, "not before its time");
        driver.pass(driver.settings.abort_interval_ms + 1);
        assert_eq!(driver.commanded(), ["a abort 1000:1 t-0 t-1"]);
        assert_eq!(driver.commands[0].version, level);
        assert_eq!([driver.machine.take_timed_out(), driver.machine.take_timed_out()], [1, 0]);
        driver.check(&[("written a", "ok"), ("add a 1000:0 t-0", "ProducerFenced"), ("init a", "ok 1000:2")]);
        assert_eq!(driver.machine.take_timed_out(), 0);
    }
}

/// Its client hears that the transaction was aborted, and takes the next epoch.
#[test]
fn a_client_of_version_2_hears_of_it() {
    let mut driver = Driver::new(Version::TWO);
    driver.check(&[("init a", "ok 1000:0"), ("add a 1000:0 t-0", "ok")]);
    driver.pass(2 * TIMEOUT_MS as u64);
    driver.check(&[
        ("commit a 1000:0", "ConcurrentTransactions"),
        ("abort a 1000:0", "ConcurrentTransactions"),
        ("written a", "ok"),
        ("commit a 1000:0", "InvalidTxnState"),
        ("abort a 1000:0", "ok 1000:1"),
        ("add a 1000:1 t-0", "ok"),
    ]);
}

#[test]
fn what_is_decided_has_no_end_of_its_time() {
    let mut driver = Driver::new(Version::ZERO);
    driver.check(&[("init a", "ok 1000:0"), ("add a 1000:0 t-0", "ok"), ("commit a 1000:0", "ok")]);
    driver.pass(2 * TIMEOUT_MS as u64);
    driver.check(&[("written a", "ok")]);
    driver.pass(2 * TIMEOUT_MS as u64);
    assert_eq!(
        (driver.state("a"), driver.of("a").epoch),
        (TransactionState::CompleteCommit, ProducerEpoch(0))
    );
}

/// The wall clock says how much of the time is left.
#[test]
fn a_restart_gives_no_new_time() {
    for (off_ms, rest_ms) in [(0, 30_000), (10_000, 20_000), (500_000, 0)] {
        let mut driver = Driver::new(Version::TWO);
        driver.settings.abort_interval_ms = 1;
        driver.check(&[("init a", "ok 1000:0"), ("add a 1000:0 t-0", "ok")]);
        driver.pass(30_000);
        // off for a while, and the steady clock begins anew
        driver.now = Now { steady: 5, wall: driver.now.wall + off_ms };
        driver.restart(0);
        if rest_ms > 0 {
            driver.pass(rest_ms - 1);
            assert!(driver.commands.is_empty());
        }
        driver.pass(1);
        assert_eq!(driver.commanded(), ["a abort 1000:1 t-0"]);
    }
}

/// KIP-939, in a log that Kafka has written.
#[test]
fn a_transaction_that_others_decide_waits_for_ever() {
    let mut driver = Driver::new(Version::TWO);
    driver.has_been("a", 7, 0);
    let mut transaction = driver.of("a").clone();
    transaction.timeout_ms = i32::MAX;
    transaction.add([("t", &[0][..])].into_iter(), Version::TWO, driver.now.wall);
    let value = Some(transaction.value(Version::TWO));
    driver.log.push(TransactionRecord { transactional_id: "a".to_owned(), value }.encode());
    driver.restart(0);
    driver.pass(1_000 * HOUR_MS);
    assert_eq!(driver.state("a"), TransactionState::Ongoing);
}

#[test]
fn without_a_producer_id_an_abort_is_tried_again() {
    let mut driver = Driver::new(Version::TWO);
    driver.has_been("a", 7, i16::MAX - 1);
    driver.check(&[("add a 7:32766 t-0", "ok")]);
    driver.has_producer_ids = false;
    driver.pass(2 * TIMEOUT_MS as u64);
    assert_eq!(driver.state("a"), TransactionState::Ongoing);
    driver.has_producer_ids = true;
    driver.pass(driver.settings.abort_interval_ms + ABORT_PAUSE_MS);
    assert_eq!(driver.commanded(), ["a abort 7:32767 t-0"]);
    driver.check(&[("written a", "ok"), ("init a", "ok 1000:1")]);
}

#[test]
fn unused_ids_are_forgotten() {
    let mut driver = Driver::new(Version::TWO);
    driver.settings.id_expiration_ms = 3 * HOUR_MS as i64;
    driver.restart(0);
    for id in ["empty", "committed", "open", "decided", "used"] {
        assert!(driver.ask(&format!("init {id}")).starts_with("ok"));
    }
    driver.check(&[("add committed 1001:0 t-0", "ok"), ("commit committed 1001:0", "ok 1001:1")]);
    driver.check(&[("written committed", "ok"), ("add decided 1003:0 t-0", "ok")]);
    driver.check(&[("commit decided 1003:0", "ok 1003:1"), ("add open 1002:0 t-0", "ok")]);
    for _ in 0..5 {
        driver.pass(HOUR_MS);
        assert!(driver.ask("init used").starts_with("ok"));
    }
    // what was open was aborted long ago, but its markers are not written
    let known: Vec<_> = driver.machine.transactions.keys().map(|id| id.to_string()).collect();
    assert_eq!(known, ["decided", "open", "used"]);
    driver.check(&[("init empty", "ok 1005:0")]);
}

/// However many there are, they go in slices.
#[test]
fn many_ids_are_forgotten_in_slices() {
    let mut driver = Driver::new(Version::TWO);
    for id in 0..2 * SWEPT_AT_ONCE + 1 {
        // without the look at the whole log after each step
        let transaction = Transaction::new(ProducerId(id as i64), TIMEOUT_MS, driver.now.wall);
        let record = TransactionRecord {
            transactional_id: id.to_string(),
            value: Some(transaction.value(Version::TWO)),
        };
        driver.log.push(record.encode());
    }
    driver.restart(0);
    driver.now.wall += driver.settings.id_expiration_ms;
    driver.move_clock(driver.machine.next_tick().unwrap());
    for left in [SWEPT_AT_ONCE + 1, 1, 0] {
        let _ = driver.act(|machine, context| machine.tick(context));
        assert_eq!(driver.machine.len(), left);
    }
    assert_eq!(driver.machine.next_tick(), Some(driver.now.steady + HOUR_MS), "until the next sweep");
}
