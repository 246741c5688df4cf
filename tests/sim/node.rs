//! A node as the broker's own, without connections.

use std::cell::{Cell, OnceCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use crate::cluster::{Boot, ControllerHost, SnapshotSettings, boot};
use crate::handlers::LocalFuture;
use crate::metadata::{Image, Reply, Request, Settings, TopicDefaults};
use crate::metrics::snapshot::Server;
use crate::model::{BrokerId, DirectoryId, ErrorCode, ShardId};
use crate::partition::{CoordinatorSettings, Host, Lifecycle, Message, Shard, ShardRequest};
use crate::reactor::ShardContext;
use crate::reactor::sync::Notify;
use crate::storage::testing::config;
use crate::storage::{CleanerConfig, LogDir};

const BROKER: BrokerId = BrokerId(0);
/// The metadata log is in the first: without that one the node stops.
pub const DIRECTORIES: [(DirectoryId, &str); 2] = [(DirectoryId(100), "/data"), (DirectoryId(101), "/more")];

pub struct Node {
    pub shard: Rc<Shard>,
    shards: usize,
    controller: OnceCell<ControllerHost>,
    ended: Notify,
}

struct NodeHost(Weak<Node>);

impl Host for NodeHost {
    fn control(&self, request: Request) -> LocalFuture<Reply> {
        let node = self.0.upgrade().expect("the node lives");
        Box::pin(async move { node.control(request).await })
    }

    fn lifecycle(&self, step: Lifecycle) -> LocalFuture<()> {
        let node = self.0.upgrade().expect("the node lives");
        Box::pin(async move {
            match step {
                Lifecycle::Serve(_) => {}
                Lifecycle::StopServing => node.shard.end_waits(),
                Lifecycle::StopStorage => {
                    // an error says that a directory is offline
                    let _ = node.shard.storage().stop().await;
                    node.ended.notify();
                }
            }
        })
    }

    fn reconfigured(&self) {}

    fn measure(&self) -> Server {
        Server::default()
    }
}

fn image() -> Image {
    let mut defaults = TopicDefaults::default();
    defaults.set_segment_bytes_min(1 << 10);
    Image::new("cluster", defaults).of_broker(BROKER)
}

fn log_dirs() -> Vec<LogDir> {
    DIRECTORIES.iter().map(|(id, path)| LogDir::new(*id, PathBuf::from(path), false)).collect()
}

impl Node {
    pub fn start(coordinators: CoordinatorSettings, context: ShardContext<Message>) -> Rc<Node> {
        let shards = context.count;
        let shard = Shard::new(context.id, shards, BROKER, image(), context.mesh);
        let node =
            Node { shard: Rc::clone(&shard), shards, controller: OnceCell::new(), ended: Notify::default() };
        let node = Rc::new(node);
        shard.verify_by_coordinators();
        let mut config = config();
        config.live.cleaner = CleanerConfig { backoff_ms: 3_000, map_bytes: 1 << 20, is_on: true };
        shard.start(config, coordinators, log_dirs(), Box::new(NodeHost(Rc::downgrade(&node))));
        node
    }

    /// On shard 0. `is_identified`: whether the directories have been formatted, in a life before this one.
    pub async fn boot(&self, is_identified: &Cell<bool>, place: &str) {
        let setup = Boot {
            shard_count: self.shards,
            image: image(),
            settings: Settings::default(),
            log_dirs: log_dirs(),
            fresh: !is_identified.get(),
            endpoints: Vec::new(),
            rack: None,
            snapshots: SnapshotSettings { after_bytes: 1 << 14, after: None },
        };
        let identify = || {
            is_identified.set(true);
            Ok(())
        };
        let booted = boot(&self.shard, setup, identify).await;
        let booted = booted.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(self.controller.set(booted.controller).is_ok(), "a node boots once");
    }

    pub async fn control(&self, request: Request) -> Reply {
        match self.controller.get() {
            Some(controller) => controller.handle(request).await,
            None => Reply::Failed(ErrorCode::BrokerNotAvailable),
        }
    }

    pub async fn every_shard(&self, step: &Lifecycle) {
        self.all(|| ShardRequest::Lifecycle(step.clone())).await;
    }

    /// Of the directory without the metadata log.
    pub async fn lose_directory(&self) {
        self.all(|| ShardRequest::DirectoryFailed(DIRECTORIES[1].0)).await;
    }

    /// Shard 0 is the last.
    async fn all(&self, request: impl Fn() -> ShardRequest) {
        for shard in (0..self.shards).rev() {
            self.shard.ask(ShardId(u16::try_from(shard).expect("shards are few")), request()).await;
        }
    }

    pub async fn stop_controller(&self) {
        if let Some(controller) = self.controller.get() {
            controller.end().await;
        }
    }

    /// On a shard that does not lead.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}
