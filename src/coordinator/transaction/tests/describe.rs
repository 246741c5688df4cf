//! DescribeTransactions, ListTransactions.

use super::*;
use crate::protocol::messages::ListTransactionsRequest;

/// Of each state one, by its name.
fn driver() -> Driver {
    let mut driver = Driver::new(Version::ZERO);
    for id in ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"] {
        assert!(driver.ask(&format!("init {id}")).starts_with("ok"));
    }
    driver.pass(1_000);
    driver.check(&[
        ("add Ongoing 1001:0 t-0 u-0 t-2", "ok"),
        ("add PrepareCommit 1002:0 t-0", "ok"),
        ("commit PrepareCommit 1002:0", "ok"),
        ("add PrepareAbort 1003:0 t-0", "ok"),
        ("abort PrepareAbort 1003:0", "ok"),
        ("add CompleteCommit 1004:0 t-0", "ok"),
        ("commit CompleteCommit 1004:0", "ok"),
        ("written CompleteCommit", "ok"),
        ("add CompleteAbort 1005:0 t-0", "ok"),
        ("abort CompleteAbort 1005:0", "ok"),
        ("written CompleteAbort", "ok"),
    ]);
    driver.pass(100);
    driver
}

fn list(driver: &mut Driver, request: ListTransactionsRequest) -> (Vec<String>, Vec<String>, i16) {
    let Reply::List(reply) = driver.request(2, Body::List(request)) else { panic!("in kind") };
    for listed in &reply.transaction_states {
        assert_eq!(**listed.transactional_id, *listed.transaction_state, "they are named so");
    }
    let ids = reply.transaction_states.iter().map(|listed| listed.transactional_id.to_string()).collect();
    let unknown = reply.unknown_state_filters.iter().map(ToString::to_string).collect();
    (ids, unknown, reply.error_code)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[test]
fn transactions_are_listed_by_filters() {
    let all = || ListTransactionsRequest::default().with_duration_filter(-1);
    let mut driver = driver();
    let everything = ["CompleteAbort", "CompleteCommit", "Empty", "Ongoing", "PrepareAbort", "PrepareCommit"];
    for (request, expected) in [
        (all(), &everything[..]),
        (all().with_state_filters(vec![text("Ongoing"), text("Empty")]), &["Empty", "Ongoing"]),
        (all().with_state_filters(vec![text("Dead")]), &[]),
        (
            all().with_producer_id_filters(vec![1001.into(), 1002.into(), 5.into()]),
            &["Ongoing", "PrepareCommit"],
        ),
        (
            all()
                .with_producer_id_filters(vec![1001.into(), 1002.into()])
                .with_state_filters(vec![text("PrepareCommit")]),
            &["PrepareCommit"],
        ),
        (all().with_duration_filter(99), &everything),
        (all().with_duration_filter(100), &["Empty"]),
        (all().with_transactional_id_pattern(Some(text(".*Commit"))), &["CompleteCommit", "PrepareCommit"]),
        (all().with_transactional_id_pattern(Some(text("Commit"))), &[]),
        (all().with_transactional_id_pattern(Some(text(""))), &everything),
    ] {
        let (ids, unknown, error) = list(&mut driver, request.clone());
        assert_eq!(ids, expected, "{request:?}");
        assert!(unknown.is_empty() && error == 0, "{request:?}");
    }
}

#[test]
fn filters_that_mean_nothing_are_told() {
    let mut driver = driver();
    let request = ListTransactionsRequest::default().with_duration_filter(-1);
    let odd =
        request.clone().with_state_filters(vec![text("ongoing"), text("Ongoing"), text("PrepareEpochFence")]);
    assert_eq!(list(&mut driver, odd), (vec!["Ongoing".to_owned()], vec!["ongoing".to_owned()], 0));
    let only_odd = request.clone().with_state_filters(vec![text("x")]);
    assert_eq!(list(&mut driver, only_odd), (Vec::new(), vec!["x".to_owned()], 0));
    let pattern = request.with_transactional_id_pattern(Some(text("a(")));
    assert_eq!(list(&mut driver, pattern).2, ErrorCode::InvalidRegularExpression.code());
}

#[test]
fn transactions_are_described() {
    let mut driver = driver();
    let ids = ["Ongoing", "nothing", "", "Empty"].map(|id| TransactionalId(text(id)));
    let Reply::Describe(described) = driver.request(0, Body::Describe(ids.to_vec())) else {
        panic!("in kind")
    };
    let errors: Vec<_> = described.iter().map(|one| ErrorCode::from_code(one.error_code).unwrap()).collect();
    assert_eq!(
        errors,
        [ErrorCode::None, ErrorCode::TransactionalIdNotFound, ErrorCode::InvalidRequest, ErrorCode::None]
    );
    let one = &described[0];
    assert_eq!((&**one.transactional_id, &*one.transaction_state), ("Ongoing", "Ongoing"));
    assert_eq!((one.producer_id.0, one.producer_epoch), (1001, 0));
    assert_eq!(
        (one.transaction_timeout_ms, one.transaction_start_time_ms),
        (TIMEOUT_MS, driver.now.wall - 100)
    );
    let topics: Vec<_> =
        one.topics.iter().map(|topic| (topic.topic.to_string(), topic.partitions.clone())).collect();
    assert_eq!(topics, [("t".to_owned(), vec![0, 2]), ("u".to_owned(), vec![0])]);
    assert_eq!((described[3].transaction_start_time_ms, described[3].topics.len()), (-1, 0));
}
