//! Direct I/O and names on a real disk.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::*;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn frozen(contents: &[u8]) -> SharedBuf {
    let mut buf = Buf::new(contents.len());
    buf.as_mut_slice().copy_from_slice(contents);
    buf.freeze()
}

#[test]
fn what_is_written_is_read_back() {
    on_a_shard("file-write", |folder| async move {
        let path = folder.join("f");
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 0);
        let large = pattern(1, 300 * BLOCK_BYTES);
        file.write(&frozen(&large), BLOCK).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 301 * BLOCK);

        let read = file.read(0, 2 * BLOCK_BYTES).await.unwrap();
        assert!(read.as_slice()[..BLOCK_BYTES].iter().all(|&byte| byte == 0), "a hole reads as zeros");
        assert!(read.as_slice()[BLOCK_BYTES..] == large[..BLOCK_BYTES]);
        let read = file.read(BLOCK, 400 * BLOCK_BYTES).await.unwrap();
        assert!(read.as_slice() == large, "short at the end of the file only");
        assert!(file.read(301 * BLOCK, BLOCK_BYTES).await.unwrap().as_slice().is_empty());
        assert!(file.read(9000 * BLOCK, BLOCK_BYTES).await.unwrap().as_slice().is_empty());

        // Many at once, on clones of the file.
        let writes: Vec<_> =
            (0..64)
                .map(|index| {
                    let file = file.clone();
                    spawn(async move {
                        file.write(&frozen(&pattern(index, BLOCK_BYTES)), index as u64 * BLOCK).await
                    })
                })
                .collect();
        for write in writes {
            write.await.unwrap();
        }
        let reopened = File::open(&path, OpenMode::Read).await.unwrap();
        for index in 0..64 {
            let read = reopened.read(index * BLOCK, BLOCK_BYTES).await.unwrap();
            assert!(read.as_slice() == pattern(index as usize, BLOCK_BYTES), "block {index}");
        }
    });
}

#[test]
fn allocate_and_truncate_set_lengths() {
    on_a_shard("file-length", |folder| async move {
        let file = File::open(&folder.join("f"), OpenMode::CreateNew).await.unwrap();
        file.write(&frozen(&pattern(1, BLOCK_BYTES)), 0).await.unwrap();
        file.allocate(0).await.unwrap();
        file.allocate(16 * BLOCK).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 16 * BLOCK);
        let reserved = std::fs::metadata(folder.join("f")).unwrap().blocks() * 512;
        assert!(reserved >= 16 * BLOCK, "only {reserved} bytes are reserved");
        let read = file.read(0, 16 * BLOCK_BYTES).await.unwrap();
        assert!(read.as_slice()[..BLOCK_BYTES] == pattern(1, BLOCK_BYTES));
        assert!(read.as_slice()[BLOCK_BYTES..].iter().all(|&byte| byte == 0));
        file.allocate(BLOCK).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 16 * BLOCK, "allocating never shortens");

        file.truncate(BLOCK + 77).await.unwrap();
        assert_eq!(file.len().await.unwrap(), BLOCK + 77);
        let read = file.read(BLOCK, BLOCK_BYTES).await.unwrap();
        assert_eq!(read.as_slice(), [0; 77]);
        file.truncate(3 * BLOCK).await.unwrap();
        assert_eq!(file.read(0, 8 * BLOCK_BYTES).await.unwrap().as_slice().len(), 3 * BLOCK_BYTES);
        let error = file.allocate(1 << 62).await.unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EFBIG | libc::ENOSPC)), "{error:?}");
    });
}

#[test]
fn errors_keep_the_systems_code() {
    on_a_shard("file-errors", |folder| async move {
        let path = folder.join("f");
        let code = |result: std::io::Result<File>| result.err().and_then(|error| error.raw_os_error());
        assert_eq!(code(File::open(&path, OpenMode::Read).await), Some(libc::ENOENT));
        assert_eq!(code(File::open(&path, OpenMode::ReadWrite).await), Some(libc::ENOENT));
        assert_eq!(code(File::open(&folder.join("no/f"), OpenMode::CreateNew).await), Some(libc::ENOENT));
        drop(File::open(&path, OpenMode::CreateNew).await.unwrap());
        assert_eq!(code(File::open(&path, OpenMode::CreateNew).await), Some(libc::EEXIST));
        assert_eq!(code(File::open(&folder, OpenMode::ReadWrite).await), Some(libc::EISDIR));

        let reader = File::open(&path, OpenMode::Read).await.unwrap();
        let error = reader.write(&frozen(&pattern(0, BLOCK_BYTES)), 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let zero = folder.join("a\0b");
        assert_eq!(
            File::open(&zero, OpenMode::CreateNew).await.err().unwrap().kind(),
            ErrorKind::InvalidInput
        );
    });
}

#[test]
fn an_open_file_follows_no_name() {
    on_a_shard("file-names", |folder| async move {
        let inner = folder.join("inner");
        fs::create_dir(&inner).await.unwrap();
        let file = File::open(&inner.join("f"), OpenMode::CreateNew).await.unwrap();
        file.write(&frozen(&pattern(4, BLOCK_BYTES)), 0).await.unwrap();
        fs::rename(&inner, &folder.join("moved")).await.unwrap();
        file.write(&frozen(&pattern(5, BLOCK_BYTES)), BLOCK).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 2 * BLOCK);
        fs::remove_dir_all(&folder.join("moved")).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 2 * BLOCK);
        assert!(file.read(0, BLOCK_BYTES).await.unwrap().as_slice() == pattern(4, BLOCK_BYTES));
    });
}

#[test]
fn opening_survives_a_name_that_comes_and_goes() {
    on_a_shard("file-race", |folder| async move {
        let path = folder.join("f");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (flag, name) = (std::sync::Arc::clone(&stop), path.clone());
        let flicker = std::thread::spawn(move || {
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(&name, [1; 2 * BLOCK_BYTES]).unwrap();
                std::fs::remove_file(&name).unwrap();
            }
        });
        let (mut opened, mut missed) = (0, 0);
        let begun = std::time::Instant::now();
        // a busy machine may not run the other thread for a while
        while opened < 100 || missed < 100 {
            match File::open(&path, OpenMode::ReadWrite).await {
                Ok(_) => opened += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    missed += 1;
                }
            }
            assert!(begun.elapsed().as_secs() < 60, "{opened} times there, {missed} times not");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flicker.join().unwrap();
    });
}

/// Descriptors of this process that lead to `path`.
fn descriptors_to(path: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter(|entry| entry.as_ref().is_ok_and(|e| std::fs::read_link(e.path()).is_ok_and(|to| to == path)))
        .count()
}

#[test]
fn the_last_clone_closes_the_file() {
    on_a_shard("file-close", |folder| async move {
        let path = folder.join("f");
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        eventually("one descriptor is left of opening", || descriptors_to(&path) == 1).await;
        let clone = file.clone();
        drop(file);
        clone.write(&frozen(&pattern(1, BLOCK_BYTES)), 0).await.unwrap();
        drop(clone);
        eventually("it is closed", || descriptors_to(&path) == 0).await;
        // Given up while it opens: the descriptor must not be left behind.
        for _ in 0..20 {
            let mut open = Box::pin(File::open(&path, OpenMode::ReadWrite));
            let started = std::future::poll_fn(|context| {
                std::task::Poll::Ready(open.as_mut().poll(context).is_pending())
            });
            assert!(started.await);
            turn().await;
        }
        eventually("nothing is left open", || descriptors_to(&path) == 0).await;
    });
}

#[test]
fn names_and_small_files() {
    on_a_shard("fs", |folder| async move {
        let path = folder.join("b");
        assert!(!fs::exists(&path).await.unwrap());
        fs::write_durable(&path, b"one".to_vec()).await.unwrap();
        fs::write_durable(&path, b"two!".to_vec()).await.unwrap();
        assert_eq!(fs::read(&path).await.unwrap(), b"two!");
        fs::write(&folder.join("a"), Vec::new()).await.unwrap();
        fs::create_dir(&folder.join("d")).await.unwrap();
        assert_eq!(fs::create_dir(&folder.join("d")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::sync_dir(&folder).await.unwrap();

        let entry = |name: &str, is_dir, len| fs::Entry { name: name.into(), is_dir, len };
        let listed = fs::list(&folder).await.unwrap();
        // "probe" belongs to the boot check; nothing temporary is left.
        assert_eq!(
            listed,
            [entry("a", false, 0), entry("b", false, 4), entry("d", true, 0), entry("probe", false, BLOCK)]
        );

        fs::rename(&path, &folder.join("d/c")).await.unwrap();
        assert!(!fs::exists(&path).await.unwrap());
        assert!((wall_clock_ms() - fs::modified_ms(&folder.join("d/c")).await.unwrap()).abs() < 60_000);
        fs::remove_file(&folder.join("a")).await.unwrap();
        fs::remove_dir_all(&folder.join("d")).await.unwrap();
        assert_eq!(fs::list(&folder).await.unwrap(), [entry("probe", false, BLOCK)]);
        assert_eq!(fs::read(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(fs::remove_file(&path).await.unwrap_err().kind(), ErrorKind::NotFound);

        let space = fs::space(&folder).await.unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes, "{space:?}");
    });
}
