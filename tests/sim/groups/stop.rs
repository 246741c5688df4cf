//! A node that stops: its coordinators hear nobody any more, so no member is taken for gone, and nothing is written to logs
//! that are being closed.

use std::rc::Rc;
use std::time::Duration;

use super::client::{Player, ask, text};
use super::{SESSION_MS, World, upheaval};
use crate::coordinator::group::Body;
use crate::model::ErrorCode;
use crate::partition::{Lifecycle, Message};
use crate::protocol::messages::GroupId;
use crate::reactor::sim::{Simulation, check_seeds};
use crate::reactor::{self, ShardContext};
use crate::sim_tests::node::Node;
use crate::storage::testing::Noise;

#[test]
fn a_stop_quiets_the_coordinators() {
    super::super::show_log_of_one_seed();
    check_seeds(20, |seed| {
        let world = World::new(seed, &mut Noise(seed));
        let stopped = Simulation::new(seed).disk(&world.disk).run({
            let world = Rc::clone(&world);
            move |context: ShardContext<Message>| stop_under_members(Rc::clone(&world), context)
        });
        let trace = stopped.trace;
        stopped.done();
        trace
    });
}

async fn stop_under_members(world: Rc<World>, context: ShardContext<Message>) {
    let node = Node::start(world.coordinators(), context);
    node.boot(&world.identified, &world.place()).await;
    upheaval::begin(&world, &node).await;
    let members: Vec<Player> = (world.clients.iter())
        .map(|client| Player {
            world: Rc::clone(&world),
            shard: Rc::clone(&node.shard),
            client: Rc::clone(client),
        })
        .collect();
    let joined: Vec<_> = members.iter().map(|member| reactor::spawn(join(member.clone()))).collect();
    for joined in joined {
        joined.await;
    }
    node.every_shard(&Lifecycle::StopServing).await;
    for member in &members {
        let body = Body::Describe(vec![GroupId(text(&member.client.group))]);
        let asked = ask(Rc::clone(&world), Rc::clone(&node.shard), member.client.group.clone(), 6, body);
        assert_eq!(asked.await, Err(ErrorCode::NotCoordinator));
    }
    // the server may take its time to close connections
    if world.seed.is_multiple_of(2) {
        reactor::sleep(Duration::from_millis(2 * SESSION_MS)).await;
    }
    node.stop_controller().await;
    let written = node.shard.describe_logs(None).await;
    node.every_shard(&Lifecycle::StopStorage).await;
    reactor::sleep(Duration::from_millis(2 * SESSION_MS)).await;
    assert_eq!(node.shard.failed_coordinators(), 0);
    let ends = |logs: &crate::partition::ShardLogs| {
        let mut ends: Vec<_> = logs.logs.iter().map(|log| (log.partition, log.end_offset)).collect();
        ends.sort_unstable();
        ends
    };
    assert_eq!(ends(&node.shard.describe_logs(None).await), ends(&written), "something was written");
}

/// Until the member has an epoch, and with it a session.
async fn join(member: Player) {
    member.begin_process();
    while member.client.state.borrow().epoch <= 0 {
        member.act().await;
        reactor::sleep(Duration::from_millis(200)).await;
    }
}
