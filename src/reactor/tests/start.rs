//! What the machine refuses, and how we say it.

use super::child::{self, Child};
use super::*;

#[test]
fn core_lists() {
    let parse = |text: &str| text.parse::<Cores>().map_err(|error| error.to_string());
    assert_eq!(parse("0-3,6"), Ok(Cores::List(vec![0, 1, 2, 3, 6])));
    assert_eq!(parse("5"), Ok(Cores::List(vec![5])));
    assert_eq!(parse(" 2 , 0 - 1"), Ok(Cores::List(vec![2, 0, 1])));
    for (text, why) in [
        ("", "\"\" is not a number"),
        ("a", "\"a\" is not a number"),
        ("1,", "\"\" is not a number"),
        ("-1", "\"\" is not a number"),
        ("1-2-3", "\"2-3\" is not a number"),
        ("3-1", "3-1 runs backwards"),
        ("0-3,2", "CPU 2 is named twice"),
        ("0-99999999999", "no machine has that many CPUs"),
        ("99999999999999999999999", "is not a number"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(why) && error.contains("write CPU numbers like 0-3,6"), "{text}: {error}");
    }
}

fn start_error(folder: &Folder, cores: Cores) -> String {
    let options = Options { cores, ..folder.options(1) };
    run(&options, |_: ShardContext<()>| async {}).unwrap_err().to_string()
}

#[test]
fn cpus_that_are_not_ours_are_refused() {
    let folder = Folder::new("start-cores");
    let text = start_error(&folder, Cores::List(vec![0, 4000]));
    assert!(text.starts_with("CPU 4000 is not one of those this process may use (0"), "{text}");
    assert!(text.contains("change --cores"), "{text}");
    assert_eq!(start_error(&folder, Cores::List(Vec::new())), "--cores names no CPU");
    assert_eq!(start_error(&folder, Cores::Unpinned(0)), "there must be at least one shard");
}

#[test]
fn shards_are_pinned_to_their_cpus() {
    let folder = Folder::new("start-pin");
    let all =
        run(&Options { cores: Cores::All, ..folder.options(1) }, |context: ShardContext<()>| async move {
            // The shard itself may run on its CPU only; its blocking threads on any.
            let own = core_affinity::get_core_ids().unwrap();
            let blocking = blocking(|| core_affinity::get_core_ids().unwrap().len()).await;
            assert_eq!(own.iter().map(|core| Some(core.id)).collect::<Vec<_>>(), [context.core]);
            assert_eq!(blocking, context.count);
            context.core.unwrap()
        })
        .unwrap();
    let mask: Vec<usize> = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    assert_eq!(all, mask);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let folder = Folder::new("start-probe");
    let options = Options { probe_file: folder.0.join("missing/probe"), ..folder.options(1) };
    let text = run(&options, |_: ShardContext<()>| async {}).unwrap_err().to_string();
    assert!(text.contains("missing/probe cannot be written"), "{text}");
}

#[test]
fn too_little_locked_memory_is_refused() {
    child::check("start-memlock", Child::LittleLockedMemory, |output| {
        assert!(output.contains("only 64 KiB of memory may be locked"), "{output}");
        assert!(output.contains("ulimit -l"), "{output}");
    });
}

#[test]
fn too_few_open_files_are_refused() {
    child::check("start-files", Child::FewOpenFiles, |output| {
        assert!(output.contains("only 200 files may be open"), "{output}");
    });
}

#[test]
fn the_limit_on_open_files_is_raised() {
    child::check("start-raise", Child::RaisedOpenFiles, |output| {
        assert!(output.contains("soft limit 5000"), "{output}");
    });
}

#[test]
fn a_kernel_without_io_uring_is_refused() {
    child::check("start-uring", Child::NoIoUring, |output| {
        assert!(output.contains("this kernel offers no io_uring"), "{output}");
        assert!(output.contains("kernel.io_uring_disabled=0"), "{output}");
    });
}

#[test]
fn a_panic_in_a_task_ends_the_process() {
    for (name, child) in [("start-panic-task", Child::PanicInTask), ("start-panic-pool", Child::PanicInPool)]
    {
        child::check_crash(name, child, |output| {
            assert!(output.contains("a bug in a test"), "{output}");
            assert!(output.contains("corelane: panic on thread"), "{output}");
        });
    }
}

#[test]
fn the_first_timer_is_not_late() {
    // In a process of its own, where nobody has slept yet. The best of three, since the machine may be busy; without
    // the warm-up none is below 9 ms.
    let mut lateness = Vec::new();
    for _ in 0..3 {
        child::check("start-timer", Child::FirstTimer, |output| {
            let text = output.split("late by ").nth(1).and_then(|rest| rest.split(' ').next());
            lateness.push(text.and_then(|number| number.parse::<u64>().ok()).expect(output));
        });
    }
    assert!(*lateness.iter().min().unwrap() < 5_000, "late by {lateness:?} µs");
}
