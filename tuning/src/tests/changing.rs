//! `apply` and `revert`: what is written, what is remembered, and that the host is as it was in the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fake::{Fake, RECORD, SCHEDULER, SWAPPINESS};
use super::{findings, tune, tune_asked};
use crate::apply::Answer;
use crate::finding::Change;
use crate::record::Record;
use crate::root::Root;

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

fn record_of(fake: &Fake) -> Record {
    Record::load(&Root::new(&fake.place("/")), None).expect("the record can be read")
}

#[test]
fn what_is_applied_is_good_and_reverted_to_the_byte() {
    let fake = Fake::full();
    let before = fake.tree();
    let applied = tune(&fake, "apply --yes");
    applied.result.expect("everything can be written");
    assert!(applied.out.contains("swappiness: /proc/sys/vm/swappiness: 60 -> 1"), "{}", applied.out);
    assert!(applied.out.contains("memlock: by hand: LimitMEMLOCK=infinity"), "{}", applied.out);
    assert_eq!(fake.read(SCHEDULER), "none\n");
    assert_eq!(fake.read("/proc/sys/net/ipv4/tcp_rmem"), "4096\t131072\t4194304\n");
    assert_eq!(fake.read("/proc/irq/52/smp_affinity_list"), "2\n");
    assert_eq!(fake.read("/sys/devices/system/cpu/cpu3/cpuidle/state10/disable"), "1\n");
    assert_eq!(fake.read("/sys/devices/system/cpu/cpu3/cpuidle/state1/disable"), "0\n");
    fake.settle(&before);
    assert_eq!(fake.read(SCHEDULER), "[none] mq-deadline bfq \n");
    for (knob, found) in findings(&fake) {
        // A plain file does not move an interrupt: its effective list stays.
        if found.get("changes").is_some() && knob != "network-interrupts" {
            panic!("{knob} is still to be written: {found}");
        }
    }
    tune(&fake, "revert").result.expect("everything can be put back");
    fake.settle(&before);
    assert_eq!(fake.tree(), before);
    assert!(!fake.place(RECORD).exists());
}

#[test]
fn a_second_apply_keeps_the_originals_that_nobody_has_replaced() {
    let fake = Fake::full();
    let before = fake.tree();
    tune(&fake, "apply --yes").result.unwrap();
    fake.file(SWAPPINESS, "30\n");
    fake.settle(&before);
    tune(&fake, "apply --yes").result.unwrap();
    assert_eq!(fake.read(SWAPPINESS), "1\n");
    tune(&fake, "revert").result.unwrap();
    fake.settle(&before);
    let mut expected = before;
    expected.insert(fake.place(SWAPPINESS), b"30\n".to_vec());
    assert_eq!(fake.tree(), expected);
}

#[test]
fn a_restart_of_the_host_ends_a_record() {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let fake = Fake::full();
    fake.file(BOOT_ID, "first\n");
    tune(&fake, "apply --yes --only swappiness").result.unwrap();
    let record = fake.read(RECORD);
    fake.file(BOOT_ID, "second\n");
    // set by hand to what an apply wrote before the restart, which is nothing to us
    let reverted = tune(&fake, "revert");
    assert!(reverted.out.contains("the host was restarted since"), "{}", reverted.out);
    assert_eq!(fake.read(SWAPPINESS), "1\n");
    assert!(!fake.place(RECORD).exists());
    fake.file(RECORD, &record);
    tune(&fake, "apply --yes --only somaxconn").result.unwrap();
    let paths: Vec<String> = record_of(&fake).entries.into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, [SOMAXCONN]);
}

#[test]
fn what_somebody_changed_since_is_left_alone_unless_forced() {
    let fake = Fake::full();
    let before = fake.tree();
    tune(&fake, "apply --yes").result.unwrap();
    fake.settle(&before);
    fake.file(SWAPPINESS, "10\n");
    let reverted = tune(&fake, "revert");
    assert!(reverted.error().starts_with("not everything was put back: 1 left"), "{}", reverted.error());
    assert!(reverted.out.contains("somebody has set it to 10 since"), "{}", reverted.out);
    assert_eq!(fake.read(SWAPPINESS), "10\n");
    assert_eq!(fake.read(SOMAXCONN), "128\n");
    assert_eq!(record_of(&fake).entries.len(), 1);
    tune(&fake, "revert --force").result.unwrap();
    fake.settle(&before);
    assert_eq!(fake.tree(), before);
    assert!(!fake.place(RECORD).exists());
}

#[test]
fn a_refused_write_is_reported_and_the_others_go_on() {
    let fake = Fake::full();
    let applied = tune_asked(&fake, "apply", || {
        fake.block(SWAPPINESS);
        // Takes what is written and remembers nothing.
        fake.remove(SOMAXCONN);
        std::os::unix::fs::symlink("/dev/null", fake.place(SOMAXCONN)).unwrap();
        fake.remove("/proc/sys/net/core/rmem_max");
        Ok(Answer::Write)
    });
    assert!(applied.error().starts_with("3 of "), "{}", applied.error());
    for said in [
        "swappiness: /proc/sys/vm/swappiness was not written: Is a directory",
        "somaxconn: /proc/sys/net/core/somaxconn was not written: the kernel took it and still says",
        "rmem-max: /proc/sys/net/core/rmem_max was not written: No such file",
    ] {
        assert!(applied.out.contains(said), "{said}: {}", applied.out);
    }
    assert_eq!(fake.read("/proc/sys/kernel/io_uring_disabled"), "0\n", "the last in the table was written");
    assert!(!fake.place("/proc/sys/net/core/rmem_max").exists(), "apply creates no files");
    let somaxconn =
        record_of(&fake).entries.into_iter().find(|entry| entry.path == SOMAXCONN).expect("noted");
    assert_eq!(somaxconn.applied, ["1024", ""], "what the kernel made of it is ours, too");
    let reverted = tune(&fake, "revert");
    assert!(reverted.error().contains(": 3 left"), "what cannot be looked at stays: {}", reverted.error());
}

/// A constant of the running kernel stands in for the knob: it can be read, and nobody can write it, root included.
#[test]
fn a_write_that_left_the_value_as_it_was_is_not_remembered() {
    let fake = Fake::full();
    fake.remove(SWAPPINESS);
    std::os::unix::fs::symlink("/proc/sys/kernel/cap_last_cap", fake.place(SWAPPINESS)).unwrap();
    let applied = tune(&fake, "apply --yes --only swappiness,somaxconn");
    assert!(applied.error().starts_with("1 of 2"), "{}", applied.error());
    assert!(applied.out.contains("(os error 13): run as root"), "{}", applied.out);
    let remembered: Vec<String> = record_of(&fake).entries.into_iter().map(|entry| entry.path).collect();
    assert_eq!(remembered, [SOMAXCONN]);
    tune(&fake, "revert").result.unwrap();
    assert_eq!(fake.read(SOMAXCONN), "128\n");
    assert!(!fake.place(RECORD).exists());
    tune(&fake, "apply --yes --only swappiness").result.unwrap_err();
    assert!(!fake.place(RECORD).exists(), "nothing was written, so there is nothing to remember");
}

#[test]
fn a_crash_before_the_writes_is_harmless() {
    let fake = Fake::full();
    let before = fake.tree();
    let mut record = record_of(&fake);
    record.note("swappiness", &Change { path: SWAPPINESS.into(), old: "60".into(), new: "1".into() });
    record.note("io-scheduler", &Change { path: SCHEDULER.into(), old: "bfq".into(), new: "none".into() });
    record.save().unwrap();
    let reverted = tune(&fake, "revert");
    reverted.result.unwrap();
    assert!(reverted.out.contains("is 60 already"), "{}", reverted.out);
    assert_eq!(fake.tree(), before);
    assert!(!fake.place(RECORD).exists());
}

#[test]
fn a_crash_in_a_second_apply_leaves_the_first_revertible() {
    let fake = Fake::full();
    tune(&fake, "apply --yes --only swappiness").result.unwrap();
    let mut record = record_of(&fake);
    // A later version wants another value, records it, and dies: the host still holds the first.
    record.note("swappiness", &Change { path: SWAPPINESS.into(), old: "1".into(), new: "0".into() });
    record.save().unwrap();
    assert_eq!(fake.read(SWAPPINESS), "1\n");
    tune(&fake, "revert").result.unwrap();
    assert_eq!(fake.read(SWAPPINESS), "60\n");
}

#[test]
fn nothing_is_written_without_consent() {
    let fake = Fake::full();
    let before = fake.tree();
    let refused = tune_asked(&fake, "apply", || Ok(Answer::LeaveAlone));
    refused.result.unwrap();
    assert!(refused.out.contains("nothing written"), "{}", refused.out);
    let alone = tune_asked(&fake, "apply", || Err("no terminal to ask at".into()));
    assert_eq!(alone.error(), "no terminal to ask at");
    assert_eq!(fake.tree(), before);
    assert!(!fake.place("/var").exists());
    tune_asked(&fake, "apply --yes --only swappiness", || panic!("--yes asks nobody")).result.unwrap();
}

#[test]
fn only_the_named_knobs() {
    let fake = Fake::full();
    let mut expected = fake.tree();
    tune(&fake, "apply --yes --only swappiness,somaxconn").result.unwrap();
    expected.insert(fake.place(SWAPPINESS), b"1\n".to_vec());
    expected.insert(fake.place(SOMAXCONN), b"1024\n".to_vec());
    assert_eq!(fake.tree(), expected);
    let unknown = tune(&fake, "apply --yes --only swapiness");
    assert!(
        unknown.error().starts_with("no knob is named swapiness: there are governor,"),
        "{}",
        unknown.error()
    );
}

#[test]
fn no_record_no_write() {
    let fake = Fake::full();
    let before = fake.tree();
    fake.file("/var", "a file where a directory should be\n");
    assert!(tune(&fake, "apply --yes").error().contains("the record"));
    assert_eq!(fake.tree(), before);
}

#[test]
fn a_record_that_apply_did_not_write_is_not_followed() {
    let fake = Fake::full();
    let before = fake.tree();
    let check = |text: &str, expect: &str| {
        fake.file(RECORD, text);
        for words in ["revert --force", "apply --yes"] {
            let ran = tune(&fake, words);
            assert!(ran.error().contains(expect), "{words}: {}", ran.error());
        }
        assert_eq!(fake.read(RECORD), text, "it is left for the operator");
    };
    check("{", "damaged");
    check("{\"version\":2,\"entries\":[]}", "version 2");
    let elsewhere =
        ["/proc/self/root/etc/passwd", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/../../../etc/passwd"];
    for path in ["/etc/passwd", "/proc/../etc/passwd", "proc/sys/vm/swappiness"].iter().chain(&elsewhere) {
        let entry = format!("{{\"knob\":\"x\",\"path\":\"{path}\",\"original\":\"a\",\"applied\":[]}}");
        check(&format!("{{\"version\":1,\"entries\":[{entry}]}}"), "no setting of a knob");
    }
    assert_eq!(fake.tree(), before);
}

#[test]
fn a_record_that_others_may_write_is_not_followed() {
    let fake = Fake::full();
    tune(&fake, "apply --yes --only swappiness").result.unwrap();
    let record = fake.place(RECORD);
    std::fs::set_permissions(&record, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(tune(&fake, "revert").error().contains("others may have written it"));
    assert_eq!(fake.read(SWAPPINESS), "1\n");
    std::fs::set_permissions(&record, std::fs::Permissions::from_mode(0o600)).unwrap();
    tune(&fake, "revert").result.unwrap();
    assert_eq!(fake.read(SWAPPINESS), "60\n");
}

#[test]
fn a_link_where_the_new_record_goes_is_not_followed() {
    let fake = Fake::full();
    tune(&fake, "apply --yes --only swappiness").result.unwrap();
    fake.file("/victim", "precious\n");
    let temporary = fake.place(&format!("{RECORD}.new"));
    std::os::unix::fs::symlink(fake.place("/victim"), &temporary).unwrap();
    tune(&fake, "apply --yes --only io-scheduler").result.unwrap();
    assert_eq!(fake.read("/victim"), "precious\n");
}

#[test]
fn a_knob_that_vanished_stays_recorded_until_forced() {
    let fake = Fake::full();
    tune(&fake, "apply --yes --only swappiness,io-scheduler").result.unwrap();
    fake.remove("/sys/block/nvme0n1");
    let reverted = tune(&fake, "revert");
    assert!(reverted.out.contains("the host has it no longer"), "{}", reverted.out);
    assert!(reverted.result.is_err());
    assert_eq!(fake.read(SWAPPINESS), "60\n");
    tune(&fake, "revert --force").result.unwrap();
    assert!(!fake.place(RECORD).exists());
}

#[test]
fn the_record_lies_where_it_is_told_to() {
    let fake = Fake::full();
    let place = fake.place("/elsewhere/record.json").display().to_string();
    tune(&fake, &format!("apply --yes --only swappiness --record {place}")).result.unwrap();
    assert!(Path::new(&place).exists() && !fake.place(RECORD).exists());
    assert!(!Path::new(&format!("{place}.new")).exists());
    tune(&fake, &format!("revert --record {place}")).result.unwrap();
    assert_eq!(fake.read(SWAPPINESS), "60\n");
    assert!(!Path::new(&place).exists());
}
