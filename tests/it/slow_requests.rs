//! The slow-request log: what is slow is told with the stage that took the time, what waits because its client wished it
//! to is not.

use std::time::Duration;

use bytes::Bytes;

use crate::harness::Setup;
use crate::wire::{self, Wire, batch, fetch_request};

const TOLD: &str = "slow request";

#[test]
fn a_slow_request_is_told_with_the_stage_that_took_the_time() {
    let mut broker = Setup::new().set("corelane.slow.request.ms", 150).start();
    let mut wire = Wire::connect(broker.bootstrap());
    wire.create_topic("slow", 1, &[]);
    let value = Bytes::from(vec![b'~'; 900_000]);
    for _ in 0..40 {
        assert_eq!(wire.produce("slow", 0, -1, batch(std::slice::from_ref(&value))).error_code, 0);
    }
    let before = broker.stderr().matches(TOLD).count();

    // a fetch that waits for data as long as its client wants it to is not slow
    let end = wire.end_offset("slow", 0);
    assert!(wire.fetch("slow", 0, end, 600).records.unwrap_or_default().is_empty());

    // a client that does not take its reply for a while makes it slow: there is no event, the time itself is what is tested
    let mut request = fetch_request("slow", 0, 0, 0);
    request.max_bytes = 40 << 20;
    request.topics[0].partitions[0].partition_max_bytes = 40 << 20;
    wire.send(&request, wire::FETCH);
    std::thread::sleep(Duration::from_millis(400));
    assert!(wire.receive_bytes().is_ok());
    let line = broker.wait_logged(TOLD, before + 1);
    for words in ["api=\"Fetch\"", "slowest=\"sent\"", "client_id=", "peer=127.0.0.1:", "correlation_id="] {
        assert!(line.contains(words), "{words} in {line}");
    }

    // what takes the broker long is told as handled
    wire.create_topic("many", 2_000, &[]);
    let line = broker.wait_logged(TOLD, before + 2);
    assert!(line.contains("api=\"CreateTopics\"") && line.contains("slowest=\"handled\""), "{line}");
    broker.stop();
}
