//! The real arm, on the machine the tests run on.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A folder of this test's own, on the disk the build is on.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("target/tmp")
        .join(format!("reactor-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn options(name: &str, shards: usize) -> Options {
    Options {
        cores: Cores::Unpinned(shards),
        spin: Duration::ZERO,
        mesh_depth: 64,
        probe_file: folder(name).join("probe"),
    }
}

#[test]
fn smoke() {
    let options = options("smoke", 2);
    let results = run(&options, |context: ShardContext<u64>| async move {
        let t = now();
        sleep(Duration::from_millis(3)).await;
        println!("slept {:?}", now().since(t));
        let path = options_path(context.id.0);
        let _ = std::fs::remove_file(&path);
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        let mut buf = Buf::new(8192);
        buf.as_mut_slice().fill(7);
        let buf = buf.freeze();
        file.write(&buf, 0).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 8192);
        assert_eq!(file.read(4096, 8192).await.unwrap().as_slice(), &[7; 4096][..]);
        println!("{}", blocking(|| 5).await);
        context.id.0
    })
    .unwrap();
    assert_eq!(results, [0, 1]);
}

fn options_path(id: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("target/tmp/reactor-file-{id}"))
}
