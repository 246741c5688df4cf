//! What members' lives are about, for [`Life`](crate::sim_tests::life::Life).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::client::Player;
use super::{World, calm, journal, offsets, upheaval};
use crate::metadata::OFFSETS_TOPIC;
use crate::partition::{CoordinatorSettings, Shard};
use crate::reactor;
use crate::sim_tests::life::{Life, Story};
use crate::sim_tests::node::Node;

impl Story for World {
    fn life(&self) -> Rc<Life> {
        World::life(self)
    }

    fn place(&self) -> String {
        World::place(self)
    }

    fn coordinators(&self) -> CoordinatorSettings {
        World::coordinators(self)
    }

    fn is_identified(&self) -> &Cell<bool> {
        &self.identified
    }

    async fn prepare(self: &Rc<Self>, node: &Rc<Node>) {
        upheaval::begin(self, node).await;
        offsets::fetch_all(self, &node.shard).await;
    }

    /// The members, and one who reads what the shard's coordinators write.
    fn play(self: &Rc<Self>, node: &Rc<Node>) {
        let (life, shard) = (World::life(self), &node.shard);
        for (at, client) in self.clients.iter().enumerate() {
            if at % life.shards == usize::from(shard.id().0) {
                let player =
                    Player { world: Rc::clone(self), shard: Rc::clone(shard), client: Rc::clone(client) };
                life.begin_task(async move { player.play().await });
            }
        }
        reactor::spawn(journal::watch(Rc::clone(self), Rc::clone(shard)));
    }

    async fn rage(self: Rc<Self>, node: Rc<Node>) {
        reactor::spawn(offsets::commit_steadily(Rc::clone(&self), Rc::clone(&node.shard)));
        upheaval::rage(self, node).await;
    }

    async fn demand_progress(self: &Rc<Self>, node: &Rc<Node>) {
        calm::demand_progress(self, node).await;
    }
}

/// Partitions of every topic that members may read.
pub fn topics(shard: &Shard) -> BTreeMap<String, i32> {
    let image = shard.image();
    let topics = image.topics().filter(|topic| topic.name != OFFSETS_TOPIC && topic.name.starts_with('t'));
    topics.map(|topic| (topic.name.clone(), i32::try_from(topic.partitions.len()).expect("few"))).collect()
}
