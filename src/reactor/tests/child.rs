//! Tests that need a process of their own: this test binary again, with one test and a part to play.
#![expect(unsafe_code, reason = "limits and seccomp for the child")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::*;

const PART: &str = "CORELANE_TEST_PART";
const FOLDER: &str = "CORELANE_TEST_FOLDER";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    LittleLockedMemory,
    FewOpenFiles,
    RaisedOpenFiles,
    NoIoUring,
    PanicInTask,
    PanicInPool,
    FirstTimer,
}

fn play(name: &str, child: Child) -> (std::process::ExitStatus, String) {
    let folder = Folder::new(name);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reactor::tests::child::part", "--nocapture", "--include-ignored"])
        .env(PART, format!("{child:?}"))
        .env(FOLDER, &folder.0)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// The child must end well; `look` gets what it printed.
pub(super) fn check(name: &str, child: Child, look: impl FnOnce(&str)) {
    let (status, output) = play(name, child);
    assert!(status.success() && output.contains("1 passed"), "{status}: {output}");
    look(&output);
}

/// The child must be aborted.
pub(super) fn check_crash(name: &str, child: Child, look: impl FnOnce(&str)) {
    let (status, output) = play(name, child);
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}: {output}");
    look(&output);
}

#[test]
#[ignore = "a part that other tests play in a process of their own"]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let folder = Folder(PathBuf::from(std::env::var(FOLDER).unwrap()));
    let outcome = |name: Child| part == format!("{name:?}");
    let start = || match run(&folder.options(1), |_: ShardContext<()>| async {}) {
        Ok(_) => println!("started"),
        Err(error) => println!("{error}"),
    };
    if outcome(Child::LittleLockedMemory) {
        limit(libc::RLIMIT_MEMLOCK, 64 << 10, 64 << 10);
        start();
    } else if outcome(Child::FewOpenFiles) {
        limit(libc::RLIMIT_NOFILE, 100, 200);
        start();
    } else if outcome(Child::RaisedOpenFiles) {
        limit(libc::RLIMIT_NOFILE, 100, 5000);
        start();
        let limit = machine::raise_limit(machine::Resource::OpenFiles).unwrap();
        println!("soft limit {}", limit.soft);
    } else if outcome(Child::NoIoUring) {
        forbid_io_uring();
        start();
    } else if outcome(Child::PanicInTask) {
        let _ = run(&folder.options(2), |_: ShardContext<()>| async {
            spawn(async { panic!("a bug in a test") });
            std::future::pending::<()>().await;
        });
    } else if outcome(Child::PanicInPool) {
        let _ = run(&folder.options(2), |_: ShardContext<()>| async {
            blocking(|| panic!("a bug in a test")).await;
        });
    } else if outcome(Child::FirstTimer) {
        let late = run(&folder.options(1), |_: ShardContext<()>| async {
            let deadline = now().after(Duration::from_millis(2));
            sleep_until(deadline).await;
            now().since(deadline).as_micros()
        });
        println!("late by {} µs", late.unwrap()[0]);
    } else {
        panic!("no such part: {part}");
    }
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// From here on io_uring_setup fails with EPERM, as under a container's seccomp profile.
fn forbid_io_uring() {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is a valid program that outlives the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}
