//! InitProducerId.

use super::*;
use crate::coordinator::record::TEXT_BYTES_MAX;

const LAST: i16 = i16::MAX - 1;

fn request(id: &str) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(StrBytes::from_string(id.to_owned()))))
        .with_transaction_timeout_ms(TIMEOUT_MS)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}

#[test]
fn each_producer_of_an_id_fences_the_one_before() {
    for level in [Version::ZERO, Version(1), Version::TWO] {
        let mut driver = Driver::new(level);
        driver.check(&[
            ("init a", "ok 1000:0"),
            ("init b", "ok 1001:0"),
            ("init a", "ok 1000:1"),
            ("add a 1000:0 t-0", "ProducerFenced"),
            ("commit a 1000:0", "ProducerFenced"),
            ("init/0 a", "ok 1000:2"),
        ]);
        assert_eq!(driver.state("a"), TransactionState::Empty);
        assert_eq!(driver.of("a").started, -1);
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let mut driver = Driver::new(Version::TWO);
    let too_long = "x".repeat(TEXT_BYTES_MAX + 1);
    for (request, expected) in [
        (request(""), "InvalidRequest"),
        (request(&too_long), "InvalidRequest"),
        (request("a").with_producer_id(5.into()), "InvalidRequest"),
        (request("a").with_producer_epoch(5), "InvalidRequest"),
        (request("a").with_transaction_timeout_ms(0), "InvalidTransactionTimeout"),
        (request("a").with_transaction_timeout_ms(-1), "InvalidTransactionTimeout"),
        (request("a").with_transaction_timeout_ms(900_001), "InvalidTransactionTimeout"),
        (request("a").with_enable_2_pc(true), "TransactionalIdAuthorizationFailed"),
        (request("a").with_keep_prepared_txn(true), "UnsupportedVersion"),
    ] {
        assert_eq!(driver.init(5, request), expected);
    }
    assert!(driver.machine.is_empty() && driver.log.is_empty());
    assert_eq!(driver.init(5, request("a").with_transaction_timeout_ms(900_000)), "ok 1000:0");
    assert_eq!(driver.init(5, request(&too_long[1..])), "ok 1001:0");
}

/// KIP-360: a producer goes on with the next epoch, if nobody else has come.
#[test]
fn a_producer_may_say_who_it_is() {
    let mut driver = Driver::new(Version::TWO);
    driver.check(&[
        // it may have been forgotten
        ("init a 77:5", "ok 1000:0"),
        ("init a 1000:0", "ok 1000:1"),
        // the reply was lost
        ("init a 1000:0", "ok 1000:1"),
        ("init a 1000:1", "ok 1000:2"),
        ("init a 1000:0", "ProducerFenced"),
        ("init/3 a 1000:0", "InvalidProducerEpoch"),
        ("init a 77:2", "ProducerFenced"),
        // another producer
        ("init a", "ok 1000:3"),
        ("init a 1000:2", "ProducerFenced"),
        ("init a 1000:3", "ok 1000:4"),
    ]);
    // which epoch was before is not in the log, as in Kafka
    driver.restart(0);
    driver.check(&[("init a 1000:3", "ProducerFenced"), ("init a 1000:4", "ok 1000:5")]);
}

#[test]
fn what_is_under_way_is_aborted_first() {
    for (level, version) in [(Version::ZERO, 0), (Version::TWO, 2)] {
        let mut driver = Driver::new(level);
        driver.check(&[
            ("init a", "ok 1000:0"),
            ("add a 1000:0 t-0", "ok"),
            ("init a 1000:7", "ProducerFenced"),
            ("init a 5:0", "ProducerFenced"),
        ]);
        assert_eq!(driver.state("a"), TransactionState::Ongoing, "a fenced producer aborts nothing");
        driver.check(&[
            ("init a", "ConcurrentTransactions"),
            ("init a", "ConcurrentTransactions"),
            ("add a 1000:0 t-1", "ConcurrentTransactions"),
        ]);
        assert_eq!(driver.commanded(), ["a abort 1000:1 t-0"]);
        assert_eq!(driver.commands[0].version, Version(version));
        driver.check(&[
            ("written a", "ok"),
            ("add a 1000:0 t-1", "ProducerFenced"),
            ("init a", "ok 1000:2"),
            ("add a 1000:2 t-0", "ok"),
        ]);
    }
}

#[test]
fn an_id_is_replaced_when_its_epochs_are_used_up() {
    for level in [Version::ZERO, Version::TWO] {
        let mut driver = Driver::new(level);
        driver.has_been("a", 7, LAST - 1);
        driver.check(&[
            ("init a", "ok 7:32766"),
            ("init a", "ok 1000:0"),
            ("init a 7:32766", "ProducerFenced"),
        ]);
        // by a producer that says who it is
        driver.has_been("b", 8, LAST);
        driver.check(&[("init b 8:32765", "ProducerFenced")]);
        driver.check(&[("init b 8:32766", "ok 1001:0"), ("init b 8:32766", "ok 1001:0")]);
        driver.check(&[("init b 1001:0", "ok 1001:1"), ("init b 8:32766", "ProducerFenced")]);
    }
}

/// The highest epoch is kept for that.
#[test]
fn the_last_epoch_can_be_fenced() {
    let mut driver = Driver::new(Version::ZERO);
    driver.has_been("a", 7, LAST);
    driver.check(&[("add a 7:32766 t-0", "ok"), ("init a", "ConcurrentTransactions")]);
    assert_eq!(driver.commanded(), ["a abort 7:32767 t-0"]);
    driver.check(&[("written a", "ok"), ("init a", "ok 1000:0")]);

    let mut driver = Driver::new(Version::TWO);
    driver.has_been("a", 7, LAST);
    driver.check(&[("add a 7:32766 t-0", "ok"), ("init a", "ConcurrentTransactions")]);
    assert_eq!(driver.commanded(), ["a abort 7:32767 t-0"]);
    driver.check(&[("written a", "ok"), ("init a", "ok 1000:1")]);
}

#[test]
fn without_a_producer_id_at_hand_the_client_is_to_come_again() {
    let mut driver = Driver::new(Version::TWO);
    driver.has_been("old", 7, LAST);
    driver.has_been("open", 8, LAST);
    driver.check(&[("add open 8:32766 t-0", "ok")]);
    driver.has_producer_ids = false;
    let records = driver.log.len();
    driver.check(&[
        ("init new", "CoordinatorLoadInProgress"),
        ("init old", "CoordinatorLoadInProgress"),
        ("init open", "CoordinatorLoadInProgress"),
        ("commit open 8:32766", "CoordinatorLoadInProgress"),
    ]);
    assert_eq!((driver.log.len(), driver.state("open")), (records, TransactionState::Ongoing));
    driver.has_producer_ids = true;
    driver.check(&[
        ("init new", "ok 1000:0"),
        ("init old", "ok 1001:0"),
        ("commit open 8:32766", "ok 1002:0"),
    ]);
}
