//! What transactional ids cost that nobody uses: their coordinators keep each for a week.

use std::thread;
use std::time::Instant;

use kafka_protocol::messages::ListTransactionsRequest;

use super::{NONE, PATIENCE, describe, find, init_once, list};
use crate::harness::Setup;
use crate::wire::Wire;

const IDS: usize = 20_000;
const CONNECTIONS: usize = 40;
/// As `coordinator/transaction` says: an id's entry. Its name is twelve bytes more.
const BYTES_EACH_MAX: u64 = 300 + 12;
/// What a start that reads the records has in its pools beyond one that reads none.
const SLACK: u64 = 2 << 20;

fn wait_until_loaded(wire: &mut Wire, transactional: &str) {
    const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    let begun = Instant::now();
    loop {
        match describe(wire, transactional).error_code {
            NONE => return,
            COORDINATOR_LOAD_IN_PROGRESS => {
                assert!(begun.elapsed() < PATIENCE, "its coordinator loads for ever")
            }
            error => panic!("{transactional}: error {error}"),
        }
    }
}

/// Measured behind a clean restart: what the log's tail has in memory is another budget.
#[test]
fn twenty_thousand_ids_cost_what_is_documented() {
    let name = |number: usize| format!("idle-{number:07}");
    let mut broker = Setup::new().shards(2).set("transaction.state.log.num.partitions", 8).start();
    find(&mut Wire::connect(broker.bootstrap()));
    broker.stop();
    broker.restart();
    find(&mut Wire::connect(broker.bootstrap()));
    let before = broker.resident_bytes();
    let bootstrap = broker.bootstrap().to_owned();
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let bootstrap = &bootstrap;
            scope.spawn(move || {
                let mut wire = Wire::connect(bootstrap);
                for number in (connection..IDS).step_by(CONNECTIONS) {
                    init_once(&mut wire, &name(number), 4).expect("it is a new id");
                }
            });
        }
    });
    let with_log = broker.resident_bytes().saturating_sub(before);
    broker.stop();
    broker.restart();
    let mut wire = Wire::connect(broker.bootstrap());
    find(&mut wire);
    // every coordinator has read its log
    for number in 0..100 {
        wait_until_loaded(&mut wire, &name(number));
    }
    let bytes = broker.resident_bytes().saturating_sub(before);
    let each = bytes / IDS as u64;
    println!(
        "{IDS} ids: {} KiB more when they were taken, {} KiB after a restart, {each} bytes each",
        with_log >> 10,
        bytes >> 10
    );
    assert!(bytes <= IDS as u64 * BYTES_EACH_MAX + SLACK, "{bytes} bytes, {each} each");
    assert_eq!(list(&mut wire, ListTransactionsRequest::default().with_duration_filter(-1), 1).len(), IDS);
}
