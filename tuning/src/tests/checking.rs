//! What `check` finds, and that it only reads.

use super::fake::{Fake, SCHEDULER, SWAPPINESS};
use super::{findings, findings_at, tune};
use crate::knobs::KNOBS;

#[track_caller]
fn expect(fake: &Fake, knob: &str, verdict: &str, now: &str) {
    let findings = findings(fake);
    let found = &findings[knob];
    assert_eq!((found["verdict"].as_str(), found["now"].as_str()), (Some(verdict), Some(now)), "{found}");
}

#[test]
fn a_host_set_badly() {
    let fake = Fake::full();
    for (knob, verdict, now) in [
        ("governor", "change", "powersave"),
        ("idle-states", "change", "C10: 890 µs (intel_idle)"),
        ("clocksource", "change", "hpet"),
        ("disk-interrupts", "ok", "2 queues on CPU 0,1"),
        ("network-interrupts", "change", "a device's queues are all on CPU 0"),
        ("io-scheduler", "change", "bfq"),
        ("io-merges", "change", "0"),
        ("write-cache", "ok", "write back"),
        ("file-system", "ok", "ext4 on /dev/nvme0n1p1"),
        ("mount-options", "change", "discard,relatime"),
        ("somaxconn", "change", "128"),
        ("tcp-rmem", "change", "4096 131072 262144"),
        ("swappiness", "change", "60"),
        ("huge-pages", "change", "always"),
        ("huge-pages-defrag", "change", "always"),
        ("memlock", "change", "65536"),
        ("nofile", "change", "4096"),
        ("io-uring-disabled", "change", "2"),
        ("io-uring", "unknown", "?"),
    ] {
        expect(&fake, knob, verdict, now);
    }
    assert!(tune(&fake, "check --strict").error().contains("knobs differ"));
}

#[test]
fn a_host_that_lacks_every_knob() {
    let fake = Fake::bare();
    let findings = findings(&fake);
    assert_eq!(findings.len(), KNOBS.len());
    for (knob, found) in findings {
        assert!(matches!(found["verdict"].as_str(), Some("absent" | "unknown")), "{knob}: {found}");
        assert!(found["note"].as_str().is_some_and(|note| !note.is_empty()), "{knob}: {found}");
    }
    tune(&fake, "check --strict").result.expect("what is not there does not differ");
    assert!(tune(&fake, "apply --yes").out.contains("nothing to write"));
    assert!(tune(&fake, "revert").out.contains("nothing to revert"));
}

#[test]
fn checking_writes_nothing() {
    let fake = Fake::full();
    let before = fake.tree();
    let table = tune(&fake, "check").out;
    assert_eq!(fake.tree(), before);
    assert!(!fake.place("/var").exists());
    for knob in KNOBS {
        assert!(table.lines().any(|line| line.starts_with(knob.name)), "{} is in the table", knob.name);
    }
    assert!(table.contains("by hand: LimitMEMLOCK=infinity"), "{table}");
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let fake = Fake::full();
    for path in [SWAPPINESS, SCHEDULER, "/proc/self/limits", "/proc/self/mountinfo"] {
        fake.block(path);
    }
    let findings = findings(&fake);
    for knob in ["swappiness", "memlock", "nofile", "file-system", "mount-options"] {
        assert_eq!(findings[knob]["verdict"], "unknown", "{knob}");
        assert!(findings[knob]["note"].as_str().unwrap().contains("cannot be read"), "{knob}");
    }
}

#[test]
fn strange_contents_are_unknown() {
    let fake = Fake::full();
    let check = |path: &str, text: &str, knob: &str| {
        fake.file(path, text);
        let found = &findings(&fake)[knob];
        assert_eq!(found["verdict"], "unknown", "{found}");
        assert!(found.get("changes").is_none(), "nothing is written over what is not understood: {found}");
    };
    check(SWAPPINESS, "banana\n", "swappiness");
    check(SWAPPINESS, "", "swappiness");
    check(SWAPPINESS, "-1\n", "swappiness");
    check(SWAPPINESS, "\u{1b}[2J99999999999999999999999\n", "swappiness");
    check(SCHEDULER, "\n", "io-scheduler");
    check("/proc/sys/net/ipv4/tcp_rmem", "4096 131072\n", "tcp-rmem");
    check("/sys/block/nvme0n1/queue/write_cache", "perhaps\n", "write-cache");
    check("/sys/block/nvme0n1/queue/write_cache", "write through\n", "write-cache");
    check("/proc/self/limits", "Max nothing\n", "memlock");
    check("/proc/irq/51/effective_affinity_list", "0-99999999999\n", "network-interrupts");
    check("/proc/irq/51/effective_affinity_list", "9-1\n", "network-interrupts");
}

#[test]
fn processors_that_differ_are_counted() {
    let fake = Fake::full();
    fake.file("/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance\n");
    expect(&fake, "governor", "change", "powersave x3, performance x1");
    assert_eq!(findings(&fake)["governor"]["changes"].as_array().unwrap().len(), 3);
}

#[test]
fn a_scheduler_without_a_good_choice_is_not_written() {
    let fake = Fake::full();
    fake.file(SCHEDULER, "[bfq] kyber\n");
    let found = &findings(&fake)["io-scheduler"];
    assert_eq!(found["verdict"], "change");
    assert!(found.get("changes").is_none() && found["note"].as_str().unwrap().contains("nothing better"));
}

#[test]
fn idle_states_that_somebody_keeps_away_are_fine() {
    let fake = Fake::full();
    std::fs::create_dir_all(fake.place("/dev")).unwrap();
    std::fs::write(fake.place("/dev/cpu_dma_latency"), 2_000_000_000_u32.to_ne_bytes()).unwrap();
    expect(&fake, "idle-states", "change", "C10: 890 µs (intel_idle)");
    std::fs::write(fake.place("/dev/cpu_dma_latency"), 1_u32.to_ne_bytes()).unwrap();
    expect(&fake, "idle-states", "ok", "C10: 890 µs (intel_idle)");
}

#[test]
fn clocks_of_hypervisors_are_fine_and_a_missing_tsc_is_for_the_operator() {
    let fake = Fake::full();
    let clock = "/sys/devices/system/clocksource/clocksource0";
    fake.file(&format!("{clock}/available_clocksource"), "hpet acpi_pm\n");
    let found = &findings(&fake)["clocksource"];
    assert!(found.get("changes").is_none() && found["by_hand"].as_str().unwrap().contains("tsc=reliable"));
    fake.file(&format!("{clock}/current_clocksource"), "kvm-clock\n");
    expect(&fake, "clocksource", "ok", "kvm-clock");
}

#[test]
fn interrupts_are_left_alone_where_irqbalance_runs_or_nothing_can_be_spread() {
    let fake = Fake::full();
    assert_eq!(findings(&fake)["network-interrupts"]["changes"].as_array().unwrap().len(), 4);
    fake.file("/proc/712/comm", "irqbalance\n");
    let found = &findings(&fake)["network-interrupts"];
    assert!(found.get("changes").is_none(), "{found}");
    assert!(found["by_hand"].as_str().unwrap().contains("stop irqbalance"), "{found}");
    fake.file("/proc/irq/51/effective_affinity_list", "2\n");
    expect(&fake, "network-interrupts", "ok", "4 queues on CPU 0,2");
    fake.file("/proc/irq/51/effective_affinity_list", "0\n");
    fake.file("/sys/devices/system/cpu/online", "0\n");
    expect(&fake, "network-interrupts", "ok", "4 queues on CPU 0");
}

#[test]
fn limits() {
    let fake = Fake::full();
    fake.limits("65536                unlimited", "1024                 1048576");
    expect(&fake, "memlock", "ok", "unlimited");
    expect(&fake, "nofile", "ok", "1048576");
}

/// `mounts`, the data directory, then file system, disks and what is missing.
#[track_caller]
fn expect_disk(fake: &Fake, mounts: &str, data: &str, file_system: &str, disks: &[&str], missing: &str) {
    fake.mounts(mounts);
    let (found, _) = findings_at(fake, data);
    assert_eq!(found["file_system"], file_system, "{found}");
    assert_eq!(found["disks"], serde_json::json!(disks), "{found}");
    let said = found["missing"].as_str().unwrap_or("");
    assert!(said.contains(missing) && said.is_empty() == missing.is_empty(), "{found}");
}

#[test]
fn the_disk_below_the_data_directory() {
    let fake = Fake::full();
    let root = "22 1 259:2 / / rw - xfs /dev/nvme0n1p2 rw\n";
    let on = |line: &str| format!("{root}{line}\n");
    let nvme = ["nvme0n1"].as_slice();
    expect_disk(
        &fake,
        &on("23 22 259:1 / /data rw - ext4 /dev/nvme0n1p1 rw"),
        "/data/kafka",
        "ext4",
        nvme,
        "",
    );
    // A name that only begins like the mount point lies elsewhere.
    expect_disk(
        &fake,
        &on("23 22 259:1 / /data rw - ext4 /dev/nvme0n1p1 rw"),
        "/database",
        "xfs",
        &[],
        "no disk found for /dev/nvme0n1p2 (device 259:2)",
    );
    expect_disk(
        &fake,
        &on("23 22 0:30 / /data rw - tmpfs tmpfs rw"),
        "/data/kafka",
        "tmpfs",
        &[],
        "is memory",
    );
    expect_disk(&fake, &on("23 22 0:31 / /data rw - overlay overlay rw"), "/data", "overlay", &[], "volume");
    expect_disk(
        &fake,
        &on("23 22 0:32 / /data rw - nfs4 box:/x rw"),
        "/data",
        "nfs4",
        &[],
        "another machine",
    );
    // btrfs makes its device number up: the name helps.
    expect_disk(&fake, &on("23 22 0:33 / /data rw - btrfs /dev/nvme0n1p1 rw"), "/data", "btrfs", nvme, "");
    // Blanks are written in octal; the later of two mounts on one point hides the earlier.
    let hidden =
        "23 22 0:40 / /my\\040data rw - tmpfs tmpfs rw\n24 22 259:1 / /my\\040data rw - ext4 /dev/a rw";
    fake.mounts(&on(hidden));
    let disk = crate::data_disk::DataDisk::below(
        &crate::root::Root::new(&fake.place("/")),
        std::path::Path::new("/my data/kafka"),
    );
    assert_eq!(
        (disk.mount_point.as_str(), disk.disks.as_slice()),
        ("/my data", ["nvme0n1".to_owned()].as_slice())
    );
    expect_disk(&fake, "nonsense\n1 2 3 - \n", "/data", "", &[], "no mount");
}

#[test]
fn all_disks_below_device_mapper() {
    let fake = Fake::full();
    fake.file("/sys/devices/virtual/block/dm-0/queue/scheduler", "none\n");
    fake.file("/sys/devices/virtual/block/dm-0/slaves/nvme0n1p1", "");
    fake.file("/sys/devices/virtual/block/dm-0/slaves/sdb", "");
    fake.link("/sys/dev/block/253:0", "/sys/devices/virtual/block/dm-0");
    fake.file("/sys/devices/pci0000:00/ata1/sdb/queue/scheduler", "[mq-deadline] none\n");
    fake.file("/sys/devices/pci0000:00/ata1/sdb/queue/nomerges", "0\n");
    fake.file("/sys/devices/pci0000:00/ata1/sdb/queue/rotational", "1\n");
    fake.link("/sys/block/sdb", "/sys/devices/pci0000:00/ata1/sdb");
    fake.link("/sys/class/block/sdb", "/sys/devices/pci0000:00/ata1/sdb");
    let mounts = "23 22 253:0 / /data rw - ext4 /dev/mapper/data rw\n";
    expect_disk(&fake, mounts, "/data/kafka", "ext4", &["sdb", "nvme0n1"], "");
    expect(&fake, "io-scheduler", "change", "mq-deadline x1, bfq x1");
    let merges = &findings(&fake)["io-merges"]["changes"];
    assert_eq!(merges.as_array().unwrap().len(), 1, "the disk that rotates keeps its merges: {merges}");
}

#[test]
fn mount_options_that_only_a_new_mount_changes() {
    let fake = Fake::full();
    fake.mounts("23 22 259:1 / /data rw,sync - ext4 /dev/nvme0n1p1 rw,data=journal\n");
    let found = &findings(&fake)["mount-options"];
    assert_eq!(found["now"], "sync,data=journal,strictatime");
    let line = found["by_hand"].as_str().unwrap();
    assert!(line.starts_with("mount -o remount,noatime,async /data "), "{line}");
    assert!(line.contains("data=journal goes only with a new mount"), "{line}");
}
