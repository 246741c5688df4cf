//! What clients' lives are about, for [`Life`](crate::sim_tests::life::Life).

use std::cell::Cell;
use std::rc::Rc;

use super::producer::{self, INPUT};
use super::{World, below, calm, chance, parts, pause, reader};
use crate::metadata::features::TRANSACTION_VERSION;
use crate::metadata::{
    CreateTopic, FeatureUpdate, OFFSETS_TOPIC, Reply, Request, TRANSACTIONS_TOPIC, TopicRef, UpgradeType,
};
use crate::partition::CoordinatorSettings;
use crate::sim_tests::life::{Life, Story};
use crate::sim_tests::node::Node;

const TOPICS: usize = 3;

impl Story for World {
    fn life(&self) -> Rc<Life> {
        World::life(self)
    }

    fn place(&self) -> String {
        World::place(self)
    }

    fn coordinators(&self) -> CoordinatorSettings {
        World::coordinators()
    }

    fn is_identified(&self) -> &Cell<bool> {
        &self.identified
    }

    async fn prepare(self: &Rc<Self>, node: &Rc<Node>) {
        prepare(self, node).await;
    }

    /// The clients, and one who reads.
    fn play(self: &Rc<Self>, node: &Rc<Node>) {
        let (life, shard) = (World::life(self), &node.shard);
        for (at, client) in self.clients.iter().enumerate() {
            if at % life.shards == usize::from(shard.id().0) {
                life.begin_task(producer::play(Rc::clone(self), Rc::clone(shard), Rc::clone(client)));
            }
        }
        life.begin_task(reader::watch(Rc::clone(self), Rc::clone(shard)));
    }

    async fn rage(self: Rc<Self>, node: Rc<Node>) {
        change_topics(self, node).await;
    }

    async fn demand_progress(self: &Rc<Self>, node: &Rc<Node>) {
        calm::demand_progress(self, node).await;
    }
}

/// What there has to be before clients come.
async fn prepare(world: &World, node: &Node) {
    if node.shard.image().topic_by_name(INPUT).is_none() {
        let compacted =
            [("cleanup.policy", "compact"), ("segment.bytes", "8192"), ("min.cleanable.dirty.ratio", "0.01")];
        for topic in [OFFSETS_TOPIC, TRANSACTIONS_TOPIC] {
            create(node, topic, 1 + below(3) as i32, &compacted).await;
        }
        let level = FeatureUpdate {
            feature: TRANSACTION_VERSION.to_owned(),
            level: world.level,
            upgrade: Some(UpgradeType::UnsafeDowngrade),
        };
        node.control(Request::UpdateFeatures { updates: vec![level], validate_only: false }).await;
        create(node, INPUT, 1, &[]).await;
    }
    while topics(node).len() < 2 {
        create_next(world, node).await;
    }
}

async fn change_topics(world: Rc<World>, node: Rc<Node>) {
    while world.life().is_stormy() {
        let topics = topics(&node);
        if topics.len() < TOPICS {
            create_next(&world, &node).await;
        } else if chance(30) {
            let name = topics[below(topics.len() as u64) as usize].clone();
            world.ledger.borrow_mut().topic_goes(&name);
            node.control(Request::DeleteTopics { topics: vec![TopicRef::Name(name)] }).await;
        }
        pause(6_000).await;
    }
}

fn topics(node: &Node) -> Vec<String> {
    let mut topics: Vec<String> = parts(&node.shard).into_keys().map(|(topic, _)| topic).collect();
    topics.dedup();
    topics
}

async fn create_next(world: &World, node: &Node) {
    let name = format!("t{}", world.next_topic.replace(world.next_topic.get() + 1));
    create(node, &name, 1 + below(4) as i32, &[("segment.bytes", "4096")]).await;
}

async fn create(node: &Node, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    let topic = CreateTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    let reply = node.control(Request::CreateTopics { topics: vec![topic], validate_only: false }).await;
    assert!(matches!(reply, Reply::Topics(_) | Reply::Failed(_)), "{reply:?}");
}
