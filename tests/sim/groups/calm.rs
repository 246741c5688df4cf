//! The faults have ended: soon everything is assigned, and what was committed is there.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::client::{Client, Speech, ask, text};
use super::life::topics;
use super::node::Node;
use super::{Part, World, offsets};
use crate::coordinator::group::{Body, Reply};
use crate::metadata::OFFSETS_TOPIC;
use crate::model::PartitionId;
use crate::protocol::messages::GroupId;
use crate::reactor;

/// For sessions of members that are gone to end, for regular expressions to be looked at again, and for the rebalances
/// that come of it.
const PATIENCE_S: u32 = 60;

pub async fn demand_progress(world: &Rc<World>, node: &Rc<Node>) {
    let mut missing = Vec::new();
    for _ in 0..PATIENCE_S {
        reactor::sleep(Duration::from_secs(1)).await;
        missing = Vec::new();
        for group in world.groups() {
            missing.extend(what_is_missing(world, node, group));
            missing.extend(what_is_its_state(world, node, group).await);
        }
        if missing.is_empty() {
            break;
        }
    }
    assert!(missing.is_empty(), "{}: {missing:#?} of {:#?}", world.place(), world.clients);
    for group in world.groups() {
        let fetched = offsets::fetch(world, &node.shard, group).await;
        assert_eq!(fetched, Ok(()), "{}: {group}", world.place());
    }
    compare(node).await;
}

/// Why the members of a group do not have everything yet.
fn what_is_missing(world: &World, node: &Node, group: &str) -> Vec<String> {
    let members: Vec<&Rc<Client>> = world.clients.iter().filter(|client| client.group == group).collect();
    let mut missing = Vec::new();
    let mut owned: BTreeSet<Part> = BTreeSet::new();
    for member in &members {
        let state = member.state.borrow();
        let is_classic = state.speech != Speech::Consumer;
        if state.epoch <= 0 || state.has_to_give_up() || (is_classic && state.rejoins) {
            missing.push(format!("{group}: {} is not settled", member.number));
        }
        for part in &state.owned {
            if !owned.insert(part.clone()) {
                missing.push(format!("{group}: {part:?} has two readers"));
            }
        }
    }
    for (topic, partitions) in topics(&node.shard) {
        let is_read = members.iter().any(|member| reads(member, &topic));
        for part in (0..partitions).map(|partition| (topic.clone(), partition)) {
            if owned.remove(&part) != is_read {
                missing
                    .push(format!("{group}: {part:?} has no reader, or one that does not subscribe to it"));
            }
        }
    }
    missing.extend(owned.iter().map(|part| format!("{group}: {part:?} is read and not there")));
    missing
}

fn reads(member: &Client, topic: &str) -> bool {
    let state = member.state.borrow();
    match state.regex.filter(|_| state.speech == Speech::Consumer) {
        Some("t.*") => true,
        Some(_) => topic.len() == 2 && "02468".contains(&topic[1..]),
        None => state.topics.contains(topic),
    }
}

async fn what_is_its_state(world: &Rc<World>, node: &Node, group: &str) -> Option<String> {
    let ids = vec![GroupId(text(group))];
    let describe =
        |version, body| ask(Rc::clone(world), Rc::clone(&node.shard), group.to_owned(), version, body);
    let state = match describe(1, Body::DescribeConsumer(ids.clone())).await {
        Ok(Reply::DescribeConsumer(groups)) if groups[0].error_code == 0 => groups[0].group_state.to_string(),
        _ => match describe(6, Body::Describe(ids)).await {
            Ok(Reply::Describe(groups)) => groups[0].group_state.to_string(),
            other => format!("{other:?}"),
        },
    };
    (state != "Stable").then(|| format!("{group} is {state}"))
}

/// Coordinators that read the log are like those that wrote it.
async fn compare(node: &Node) {
    let (topic, count) = {
        let image = node.shard.image();
        let topic = image.topic_by_name(OFFSETS_TOPIC).expect("it was made");
        (topic.id, i32::try_from(topic.partitions.len()).expect("few"))
    };
    for index in 0..count {
        let partition = PartitionId { topic, index };
        if node.shard.log(partition).is_some() {
            while !node.shard.check_coordinator(partition).await {
                reactor::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
