//! What the façade asks of a virtual shard.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::Path;
use std::pin::Pin;

use super::world::{Place, Sleep, World};
use super::{File, TcpListener, TcpStream, fs};
use crate::model::ShardId;
use crate::reactor::fs::{Entry, Space};
use crate::reactor::sync::oneshot;
use crate::reactor::{Instant, OpenMode};

/// Nanoseconds that [`Shard::turn`] takes: less would let a task that waits in turns stop the clock.
const TURN_NS: u64 = 5_000;

/// One virtual shard; the world finds it through the thread's runtime.
pub struct Shard {
    pub(super) place: Place,
    pub(super) count: usize,
}

impl Shard {
    pub fn id(&self) -> ShardId {
        self.place.shard
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn now(&self) -> Instant {
        Instant(World::current().now())
    }

    pub fn wall_clock_ms(&self) -> i64 {
        World::current().wall_clock_ms()
    }

    pub fn random_u64(&self) -> u64 {
        World::current().random_u64()
    }

    pub async fn sleep_until(&self, deadline: Instant) {
        Sleep::until(deadline.0).await;
    }

    pub async fn turn(&self) {
        Sleep::until(World::current().now() + TURN_NS).await;
    }

    #[track_caller]
    pub fn spawn(&self, task: Pin<Box<dyn Future<Output = ()>>>) {
        World::current().spawn(self.place, Location::caller(), task);
    }

    /// The work runs at once when its time has come, between two tasks.
    pub async fn blocking<T: 'static>(&self, work: impl FnOnce() -> T + 'static) -> T {
        let (sender, receiver) = oneshot();
        let world = World::current();
        world.after(world.blocking_delay(), self.place, move || sender.send(work()));
        match receiver.await {
            Some(result) => result,
            None => std::future::pending().await, // the run has ended
        }
    }

    pub async fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path).await
    }

    pub async fn write_durable(&self, path: &Path, contents: Vec<u8>) -> io::Result<()> {
        fs::write_durable(path, contents).await
    }

    pub async fn write(&self, path: &Path, contents: Vec<u8>) -> io::Result<()> {
        fs::write(path, contents).await
    }

    pub async fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path).await
    }

    pub async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::sync_dir(path).await
    }

    pub async fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        fs::list(path).await
    }

    pub async fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path).await
    }

    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).await
    }

    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).await
    }

    pub async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path).await
    }

    pub async fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        fs::modified_ms(path).await
    }

    pub async fn space(&self, path: &Path) -> io::Result<Space> {
        fs::space(path).await
    }

    pub async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<File> {
        File::open(path, mode).await
    }

    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address)
    }

    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}
