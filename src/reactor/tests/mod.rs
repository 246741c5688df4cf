//! The real arm, on the machine the tests run on. A failed assertion on a shard ends the process: that is what the
//! panic hook is for, and its message says where.

mod buffer;
mod child;
mod file;
mod handover;
mod mesh;
mod net;
mod start;
mod task;
mod wakeup;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

/// A folder for one test, on the disk that the build is on; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("reactor-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp").join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn options(&self, shards: usize) -> Options {
        Options {
            cores: Cores::Unpinned(shards),
            spin: Duration::ZERO,
            mesh_depth: 64,
            probe_file: self.0.join("probe"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `body` on one shard with a folder of its own.
fn on_a_shard<Fut: Future<Output = ()> + 'static>(
    name: &str,
    body: impl Fn(PathBuf) -> Fut + Clone + Send + 'static,
) {
    let folder = Folder::new(name);
    let path = folder.0.clone();
    run(&folder.options(1), move |_: ShardContext<()>| body(path.clone())).unwrap();
}

/// Waits for what other tasks or shards bring about, and fails if it takes too long for any machine.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = now();
    while !condition() {
        assert!(now().since(begun) < Duration::from_secs(20), "never happened: {what}");
        turn().await;
    }
}

/// Bytes in which every place looks different, and different for every seed.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|place| ((place + seed).wrapping_mul(0x9e37_79b1) >> 13) as u8).collect()
}
