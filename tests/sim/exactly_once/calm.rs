//! The faults have ended: soon no transaction is open, and what was committed is there.

use std::rc::Rc;
use std::time::Duration;

use super::{World, parts, reader};
use crate::protocol::messages::ListTransactionsRequest;
use crate::reactor;
use crate::sim_tests::node::Node;

/// For transactions whose producers are gone to run out of time, whatever the clock said in the life before.
const PATIENCE_S: u32 = 120;

const COMPLETE: [&str; 3] = ["Empty", "CompleteCommit", "CompleteAbort"];

pub async fn demand_progress(world: &Rc<World>, node: &Rc<Node>) {
    let mut missing = Vec::new();
    for _ in 0..PATIENCE_S {
        reactor::sleep(Duration::from_secs(1)).await;
        missing = what_is_missing(world, node).await;
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "{}: {missing:#?} of {:#?}", world.place(), world.ledger);
    for (part, partition) in parts(&node.shard) {
        let read = reader::look(world, &node.shard, &part, partition, true).await;
        assert!(read.is_some(), "{}: {part:?} cannot be read", world.place());
    }
    for client in &world.clients {
        assert!(reader::look_at_offset(world, &node.shard, client, true).await, "{}", world.place());
    }
    let whole = world.ledger.borrow().check_whole();
    whole.unwrap_or_else(|why| panic!("{}: {why}", world.place()));
}

async fn what_is_missing(world: &Rc<World>, node: &Node) -> Vec<String> {
    let shard = &node.shard;
    let mut missing = Vec::new();
    for client in &world.clients {
        if !client.is_content() {
            missing.push(format!("{} has no transaction that succeeds", client.id));
        }
        if !reader::look_at_offset(world, shard, client, false).await {
            missing.push(format!("nobody can tell the offset of {}", client.group));
        }
    }
    for (part, partition) in parts(shard) {
        match reader::look(world, shard, &part, partition, false).await {
            Some((stable, high)) if stable == high => {}
            read => missing.push(format!("{part:?} is not to be read to its end: {read:?}")),
        }
    }
    let listed = shard.list_transactions(None, ListTransactionsRequest::default()).await;
    if listed.error_code != 0 {
        missing.push(format!("a coordinator answers with error {}", listed.error_code));
    }
    let open =
        listed.transaction_states.iter().filter(|state| !COMPLETE.contains(&&*state.transaction_state));
    missing.extend(open.map(|state| format!("{state:?}")));
    missing
}
