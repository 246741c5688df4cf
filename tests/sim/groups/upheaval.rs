//! What happens around the members: topics come, grow and go, offsets and groups are deleted.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::client::{ask, error_of, text};
use super::node::Node;
use super::offsets::{self, Commit, Outcome, SOLO};
use super::{Part, World, life, pause};
use crate::coordinator::group::{Body, Reply as Answer};
use crate::metadata::{CreatePartitions, CreateTopic, OFFSETS_TOPIC, Reply, Request, TopicRef, TopicResult};
use crate::model::ErrorCode;
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::{GroupId, OffsetDeleteRequest, TopicName};
use crate::reactor;

/// A topic that comes back under its name.
const AGAIN: &str = "again";
const TOPICS_MAX: usize = 5;

/// What there has to be before members come.
pub async fn begin(world: &World, node: &Node) {
    if node.shard.image().topic_by_name(OFFSETS_TOPIC).is_none() {
        let configs = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "8192"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("min.compaction.lag.ms", "8000"),
        ];
        let partitions = 1 + (reactor::random_u64() % 3) as i32;
        create(node, OFFSETS_TOPIC, partitions, &configs).await;
    }
    while life::topics(&node.shard).len() < 2 {
        create_next(world, node).await;
    }
    learn_names(world, node);
}

/// Answers to members may tell of topics that are gone by the time they come.
fn learn_names(world: &World, node: &Node) {
    let image = node.shard.image();
    let topics = image.topics().map(|topic| (topic.id, topic.name.clone()));
    world.names.borrow_mut().extend(topics);
}

/// Until the storm is over.
pub async fn rage(world: Rc<World>, node: Rc<Node>) {
    while world.life().is_stormy() {
        match reactor::random_u64() % 8 {
            0 if life::topics(&node.shard).len() < TOPICS_MAX => create_next(&world, &node).await,
            1 => grow(&node).await,
            2 if life::topics(&node.shard).len() > 1 => {
                if let Some((name, _)) = any(&node) {
                    delete(&world, &node, &name).await;
                }
            }
            3 => delete_offsets(&world, &node).await,
            4 => delete_group(&world, &node).await,
            5 => come_back(&world, &node).await,
            _ => {}
        }
        pause(2_500).await;
    }
}

fn any(node: &Node) -> Option<(String, i32)> {
    let topics: Vec<_> = life::topics(&node.shard).into_iter().collect();
    (!topics.is_empty()).then(|| topics[(reactor::random_u64() % topics.len() as u64) as usize].clone())
}

async fn create_next(world: &World, node: &Node) {
    let name = format!("t{}", world.next_name.replace(world.next_name.get() + 1));
    create(node, &name, 1 + (reactor::random_u64() % 4) as i32, &[]).await;
}

async fn create(node: &Node, name: &str, partitions: i32, configs: &[(&str, &str)]) -> ErrorCode {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    result(node.control(Request::CreateTopics { topics: vec![topic], validate_only: false }).await)
}

fn result(reply: Reply) -> ErrorCode {
    match reply {
        Reply::Topics(results) => match results[..] {
            [TopicResult { error, .. }] => error,
            _ => panic!("{results:?}"),
        },
        Reply::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

async fn grow(node: &Node) {
    if let Some((topic, partitions)) = any(node).filter(|(_, partitions)| *partitions < 6) {
        let topics = vec![CreatePartitions { topic, count: partitions + 1, assignments: None }];
        node.control(Request::CreatePartitions { topics, validate_only: false }).await;
    }
}

/// Its offsets go with it.
async fn delete(world: &World, node: &Node, topic: &str) -> Outcome {
    let removal = world.offsets.borrow_mut().begin_removal(topic, |(_, part)| part.0 == topic);
    let Some(removal) = removal else { return Outcome::Refused };
    learn_names(world, node);
    let request = Request::DeleteTopics { topics: vec![TopicRef::Name(topic.to_owned())] };
    let error = result(node.control(request).await);
    // what cannot be written now is not known to whoever reads the log after a crash
    let outcome = if world.life().is_damaged() { Outcome::Unknown } else { Outcome::of(error) };
    world.offsets.borrow_mut().end_removal(&removal, outcome);
    outcome
}

/// A topic is made anew under its name: nobody finds what was committed of the one before.
async fn come_back(world: &Rc<World>, node: &Node) {
    let parts: BTreeSet<Part> = BTreeSet::from([(AGAIN.to_owned(), 0)]);
    if node.shard.image().topic_by_name(AGAIN).is_none() && !create(node, AGAIN, 1, &[]).await.is_none() {
        return;
    }
    if let Some(commit) = Commit::new(world, SOLO, &parts) {
        commit.perform(world, &node.shard, 9).await;
    }
    let _ = offsets::fetch(world, &node.shard, SOLO).await;
    if delete(world, node, AGAIN).await == Outcome::Done {
        create(node, AGAIN, 1, &[]).await;
    }
    let _ = offsets::fetch(world, &node.shard, SOLO).await;
}

async fn delete_offsets(world: &Rc<World>, node: &Node) {
    let Some((topic, partitions)) = any(node) else { return };
    let group = any_group(world);
    let removal = {
        let is_of_it = |(of, part): &(String, Part)| *of == group && part.0 == topic;
        world.offsets.borrow_mut().begin_removal(&group, is_of_it)
    };
    let Some(removal) = removal else { return };
    let partitions =
        (0..partitions).map(|at| OffsetDeleteRequestPartition::default().with_partition_index(at)).collect();
    let request = OffsetDeleteRequest::default().with_group_id(GroupId(text(&group))).with_topics(vec![
        OffsetDeleteRequestTopic::default().with_name(TopicName(text(&topic))).with_partitions(partitions),
    ]);
    let reply = ask(Rc::clone(world), Rc::clone(&node.shard), group, 0, Body::DeleteOffsets(request)).await;
    let error = match reply {
        Ok(Answer::DeleteOffsets(response)) if response.error_code != 0 => error_of(response.error_code),
        Ok(Answer::DeleteOffsets(response)) => error_of(response.topics[0].partitions[0].error_code),
        Ok(other) => panic!("{other:?}"),
        Err(error) => error,
    };
    world.offsets.borrow_mut().end_removal(&removal, Outcome::of(error));
}

async fn delete_group(world: &Rc<World>, node: &Node) {
    let group = any_group(world);
    let removal = world.offsets.borrow_mut().begin_removal(&group, |(of, _)| *of == group);
    let Some(removal) = removal else { return };
    let body = Body::Delete(vec![GroupId(text(&group))]);
    let error = match ask(Rc::clone(world), Rc::clone(&node.shard), group, 2, body).await {
        Ok(Answer::Delete(results)) => error_of(results[0].error_code),
        Ok(other) => panic!("{other:?}"),
        Err(error) => error,
    };
    world.offsets.borrow_mut().end_removal(&removal, Outcome::of(error));
}

fn any_group(world: &World) -> String {
    let groups: Vec<&str> = world.groups().into_iter().collect();
    groups[(reactor::random_u64() % groups.len() as u64) as usize].to_owned()
}
