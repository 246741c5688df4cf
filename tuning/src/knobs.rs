//! The table of knobs: what is looked at, what is wanted, why, and what it brought where we measured it.
//!
//! To add one: a line here. What a file's content alone decides is a [`Source`] with a [`Rule`]; what needs more
//! looking is a function that returns a [`Finding`]. A gain is stated only when it was measured; the rest is reason.

use serde::Serialize;

use crate::disk;
use crate::finding::{Finding, Verdict, of_files, shown};
use crate::host::Host;
use crate::interrupts;
use crate::processors;
use crate::root::Unread;
use crate::rule::{Rule, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    Processor,
    Interrupts,
    Disk,
    Network,
    Memory,
    Limits,
}

/// Where a knob is read.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// One file; `apply` writes it.
    File(&'static str, Rule),
    /// A file of each processor that is on line, `{}` being its number; `apply` writes them.
    EachProcessor(&'static str, Rule),
    /// A file in /sys/block of each disk below the data directory; `apply` writes them.
    EachDisk(&'static str, Rule),
    /// The hard limit of this process, which a broker started the same way raises its soft one to.
    Limit { name: &'static str, rule: Rule, by_hand: &'static str },
    /// A function looks.
    Look(fn(&Host) -> Finding),
}

pub(crate) struct Knob {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) source: Source,
    pub(crate) why: &'static str,
    /// Measured, with the machine's numbers; none where nobody has.
    pub(crate) gain: Option<&'static str>,
    /// What it means that a host lacks it.
    pub(crate) absent: &'static str,
}

impl Knob {
    /// Reads the knob's places and judges them.
    pub(crate) fn look(&self, host: &Host) -> Finding {
        match self.source {
            Source::File(path, rule) => of_files(host, &[path.to_owned()], rule, self.absent),
            Source::EachProcessor(path, rule) => {
                of_files(host, &host.each_processor(path), rule, self.absent)
            }
            Source::EachDisk(file, rule) => of_files(host, &host.each_disk(file), rule, self.absent),
            Source::Limit { name, rule, by_hand } => limit(host, name, rule, by_hand),
            Source::Look(look) => look(host),
        }
    }
}

const NO_SUCH_FILE: &str = "this kernel has no such setting";
const NO_DISK: &str = "no disk of its own below the data directory, or the disk has no such setting";

pub(crate) const KNOBS: &[Knob] = &[
    Knob {
        name: "governor",
        group: Group::Processor,
        source: Source::EachProcessor(
            "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor",
            Rule::OneOf(&["performance"]),
        ),
        why: "a shard that waits for the disk looks idle, and a saving governor clocks it down before the next request",
        gain: None,
        absent: "no frequency scaling to be seen: a virtual machine leaves it to its host",
    },
    Knob {
        name: "idle-states",
        group: Group::Processor,
        source: Source::Look(processors::idle_states),
        why: "leaving a deep idle state takes longer than a flush, and it comes on top of every quiet request; costs power",
        gain: None,
        absent: "",
    },
    Knob {
        name: "clocksource",
        group: Group::Processor,
        source: Source::Look(processors::clock),
        why: "the broker reads the clock several times per request; slow clocks make each reading a system call",
        gain: CLOCK_GAIN,
        absent: "",
    },
    Knob {
        name: "disk-interrupts",
        group: Group::Interrupts,
        source: Source::Look(interrupts::of_disks),
        why: "one processor that answers for all queues of the disk is the first to be full, and its shard the slowest",
        gain: None,
        absent: "",
    },
    Knob {
        name: "network-interrupts",
        group: Group::Interrupts,
        source: Source::Look(interrupts::of_network),
        why: "one processor that answers for all queues of the card is the first to be full, and its shard the slowest",
        gain: None,
        absent: "",
    },
    Knob {
        name: "io-scheduler",
        group: Group::Disk,
        source: Source::EachDisk(
            "queue/scheduler",
            Rule::OneOf(&["none", "noop", "mq-deadline", "deadline"]),
        ),
        why: "bfq and kyber hold requests back to be fair between processes; the broker wants its flush served now",
        gain: None,
        absent: NO_DISK,
    },
    Knob {
        name: "io-merges",
        group: Group::Disk,
        source: Source::Look(merges),
        why: "writes reach the disk already gathered (up to 1 MiB); looking for neighbours to merge only costs processor time",
        gain: None,
        absent: "",
    },
    Knob {
        name: "write-cache",
        group: Group::Disk,
        source: Source::Look(write_cache),
        why: "an acknowledged record survives a power cut only if a flush reaches the disk or its cache is protected",
        gain: None,
        absent: "",
    },
    Knob {
        name: "file-system",
        group: Group::Disk,
        source: Source::Look(file_system),
        why: "direct I/O, fallocate and an fdatasync that costs one flush and no more",
        gain: None,
        absent: "",
    },
    Knob {
        name: "mount-options",
        group: Group::Disk,
        source: Source::Look(mount_options),
        why: "sync and data=journal write twice, discard trims deleted segments in the way of writes, no barrier loses data",
        gain: None,
        absent: "",
    },
    Knob {
        name: "somaxconn",
        group: Group::Network,
        source: Source::File("/proc/sys/net/core/somaxconn", Rule::AtLeast(1024)),
        why: "clients that come back all at once after a restart queue here; beyond it they are dropped and retry a second later",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "syn-backlog",
        group: Group::Network,
        source: Source::File("/proc/sys/net/ipv4/tcp_max_syn_backlog", Rule::AtLeast(1024)),
        why: "the same burst of clients, one step earlier: connections half open",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "rmem-max",
        group: Group::Network,
        source: Source::File("/proc/sys/net/core/rmem_max", Rule::AtLeast(2 << 20)),
        why: "socket.receive.buffer.bytes above it is cut without a word",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "wmem-max",
        group: Group::Network,
        source: Source::File("/proc/sys/net/core/wmem_max", Rule::AtLeast(2 << 20)),
        why: "socket.send.buffer.bytes above it is cut without a word",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "tcp-rmem",
        group: Group::Network,
        source: Source::File("/proc/sys/net/ipv4/tcp_rmem", Rule::MostAtLeast(4 << 20)),
        why: "how far the kernel grows a receive buffer by itself: 4 MiB carry 10 Gbit/s over a 3 ms path",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "tcp-wmem",
        group: Group::Network,
        source: Source::File("/proc/sys/net/ipv4/tcp_wmem", Rule::MostAtLeast(4 << 20)),
        why: "how far the kernel grows a send buffer by itself: 4 MiB carry 10 Gbit/s over a 3 ms path",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "swappiness",
        group: Group::Memory,
        source: Source::File("/proc/sys/vm/swappiness", Rule::AtMost(1)),
        why: "a shard that is swapped out stalls every partition on it",
        gain: None,
        absent: NO_SUCH_FILE,
    },
    Knob {
        name: "huge-pages",
        group: Group::Memory,
        source: Source::File(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            Rule::OneOf(&["madvise", "never"]),
        ),
        why: "with always, small allocations grow to 2 MiB each and the kernel stops threads to put pages together",
        gain: None,
        absent: "this kernel is built without transparent huge pages",
    },
    Knob {
        name: "huge-pages-defrag",
        group: Group::Memory,
        source: Source::File(
            "/sys/kernel/mm/transparent_hugepage/defrag",
            Rule::OneOf(&["madvise", "defer+madvise", "defer", "never"]),
        ),
        why: "with always, a page fault waits until the kernel has moved memory about for a huge page",
        gain: None,
        absent: "this kernel is built without transparent huge pages",
    },
    Knob {
        name: "memlock",
        group: Group::Limits,
        source: Source::Limit {
            name: "Max locked memory",
            rule: Rule::AtLeast(8 << 20),
            by_hand: "LimitMEMLOCK=infinity in the unit's [Service] section, then systemctl daemon-reload and restart (a container: --ulimit memlock=-1)",
        },
        why: "io_uring locks its rings and buffers in memory; below 512 KiB the broker does not start",
        gain: None,
        absent: "",
    },
    Knob {
        name: "nofile",
        group: Group::Limits,
        source: Source::Limit {
            name: "Max open files",
            rule: Rule::AtLeast(100_000),
            by_hand: "LimitNOFILE=1048576 in the unit's [Service] section, then systemctl daemon-reload and restart (a container: --ulimit nofile=1048576)",
        },
        why: "one descriptor per connection and per open segment; at the end of them new clients are refused",
        gain: None,
        absent: "",
    },
    Knob {
        name: "io-uring-disabled",
        group: Group::Limits,
        source: Source::File("/proc/sys/kernel/io_uring_disabled", Rule::AtMost(0)),
        why: "all disk and network waiting goes through io_uring; 1 leaves it to root, 2 to nobody",
        gain: None,
        absent: "kernels before 6.6 have no such switch: io_uring is on",
    },
    Knob {
        name: "io-uring",
        group: Group::Limits,
        source: Source::Look(io_uring),
        why: "the broker does not start without it",
        gain: None,
        absent: "",
    },
];

/// Measured on the machine of the README; the slow clocks cost their own register access on top.
const CLOCK_GAIN: Option<&str> = Some("one reading takes 30 ns without a system call, 320 ns with one");

fn limit(host: &Host, name: &str, rule: Rule, by_hand: &str) -> Finding {
    let table = match host.root.read("/proc/self/limits") {
        Ok(table) => table,
        Err(Unread::Absent) => {
            return Finding::absent(rule.wanted(), "no /proc/self/limits: is /proc mounted?");
        }
        Err(Unread::Refused(why)) => {
            return Finding::unknown(rule.wanted(), &format!("/proc/self/limits cannot be read: {why}"));
        }
    };
    // "Max open files            20000                20000                files"
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let values: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let hard = values.get(1).and_then(|hard| number(hard));
    let (Some(hard), Some(soft)) = (hard, values.first()) else {
        return Finding::unknown(rule.wanted(), &format!("/proc/self/limits has no line \"{name}\""));
    };
    let now = if hard == u64::MAX { "unlimited".to_owned() } else { hard.to_string() };
    let note =
        format!("the hard limit of this shell (soft: {soft}); the broker's is its unit's or container's");
    if rule.holds(values[1]) == Some(true) {
        Finding::new(Verdict::Ok, now, rule.wanted()).noted(note)
    } else {
        Finding::new(Verdict::Change, now, rule.wanted()).noted(note).by_hand(by_hand)
    }
}

/// Merging pays where a head moves; virtual disks often claim to rotate, and are believed.
fn merges(host: &Host) -> Finding {
    let solid: Vec<String> = host
        .data
        .disks
        .iter()
        .filter(|disk| {
            host.root.read(&format!("/sys/block/{disk}/queue/rotational")).is_ok_and(|text| text == "0")
        })
        .map(|disk| format!("/sys/block/{disk}/queue/nomerges"))
        .collect();
    if solid.is_empty() && !host.data.disks.is_empty() {
        let all = of_files(host, &host.each_disk("queue/nomerges"), Rule::AtMost(2), NO_DISK);
        return Finding { wanted: "any: the disk says that it rotates".into(), ..all };
    }
    let finding = of_files(host, &solid, Rule::AtLeast(2), NO_DISK);
    Finding { wanted: "2 (none)".into(), ..finding }
}

/// Never written: the file changes what the kernel believes of the disk, not what the disk does.
fn write_cache(host: &Host) -> Finding {
    const WANTED: &str = "write back, or protected";
    let finding = of_files(
        host,
        &host.each_disk("queue/write_cache"),
        Rule::OneOf(&["write back", "write through"]),
        NO_DISK,
    );
    let through = finding.now.contains("write through");
    let mut finding = Finding { wanted: WANTED.into(), changes: Vec::new(), ..finding };
    if finding.verdict == Verdict::Change {
        // A word that no kernel we know writes.
        finding.verdict = Verdict::Unknown;
    } else if through {
        finding = Finding { verdict: Verdict::Unknown, ..finding }.noted(
            "the kernel sends no flushes here: right only if the disk has no cache or keeps it through a power cut (nvme id-ctrl -H DEVICE, smartctl -g wcache DEVICE)",
        );
    }
    finding
}

fn file_system(host: &Host) -> Finding {
    const WANTED: &str = "ext4 or xfs on a local disk";
    let data = &host.data;
    match data.file_system.as_str() {
        "" => Finding::unknown(WANTED, data.missing.as_deref().unwrap_or("the file system is not known")),
        "ext4" | "xfs" => {
            let finding =
                Finding::new(Verdict::Ok, format!("{} on {}", data.file_system, shown(&data.source)), WANTED);
            Finding { note: data.missing.clone(), ..finding }
        }
        other => {
            let finding =
                Finding::new(Verdict::Change, format!("{other} on {}", shown(&data.source)), WANTED).by_hand(
                    "mkfs.xfs DEVICE   # erases it; then mount it with noatime and point log.dirs there",
                );
            Finding { note: data.missing.clone(), ..finding }
        }
    }
}

fn mount_options(host: &Host) -> Finding {
    const WANTED: &str = "noatime or relatime, no discard";
    /// Option, what to give `mount -o remount` instead; none where only a new mount helps.
    const BAD: [(&str, Option<&str>); 7] = [
        ("sync", Some("async")),
        ("dirsync", None),
        ("discard", Some("nodiscard")),
        ("nobarrier", Some("barrier=1")),
        ("barrier=0", Some("barrier=1")),
        ("data=journal", None),
        ("ro", Some("rw")),
    ];
    let data = &host.data;
    if data.mount_point.is_empty() {
        return Finding::unknown(WANTED, data.missing.as_deref().unwrap_or("the mount is not known"));
    }
    let has = |option: &str| data.options.iter().any(|known| known == option);
    let bad: Vec<_> = BAD.iter().filter(|(option, _)| has(option)).collect();
    let calm = has("noatime") || has("relatime");
    let mut now: Vec<&str> = bad.iter().map(|(option, _)| *option).collect();
    now.push(match (has("noatime"), calm) {
        (true, _) => "noatime",
        (_, true) => "relatime",
        _ => "strictatime",
    });
    let finding = Finding::new(Verdict::Ok, now.join(","), WANTED);
    if bad.is_empty() && calm {
        return finding;
    }
    let mut instead = vec!["noatime"];
    instead.extend(bad.iter().filter_map(|(_, instead)| *instead));
    let mut line = format!(
        "mount -o remount,{} {}   # and the same options in /etc/fstab",
        instead.join(","),
        data.mount_point
    );
    for (option, _) in bad.iter().filter(|(_, instead)| instead.is_none()) {
        line =
            format!("{line}; {option} goes only with a new mount: take it out of /etc/fstab, umount, mount");
    }
    if has("discard") {
        line.push_str("; systemctl enable --now fstrim.timer");
    }
    Finding { verdict: Verdict::Change, ..finding }.by_hand(line)
}

/// Asks the kernel itself, which a tree of files cannot answer.
fn io_uring(host: &Host) -> Finding {
    const WANTED: &str = "works";
    if !host.root.is_host() {
        return Finding::unknown(WANTED, "only the running kernel can be asked");
    }
    let kernel = host.root.read("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".into());
    match disk::probe() {
        Ok(()) => Finding::new(Verdict::Ok, format!("works, kernel {}", shown(&kernel)), WANTED),
        Err(why) => {
            Finding::new(Verdict::Change, format!("refused, kernel {}", shown(&kernel)), WANTED).by_hand(why)
        }
    }
}
