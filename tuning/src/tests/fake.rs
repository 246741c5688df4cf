//! A host made of plain files in a directory of its own, removed when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) struct Fake {
    directory: PathBuf,
}

/// Files by their path, symbolic links by where they point.
pub(super) type Tree = BTreeMap<PathBuf, Vec<u8>>;

pub(super) const SCHEDULER: &str = "/sys/block/nvme0n1/queue/scheduler";
pub(super) const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
pub(super) const RECORD: &str = "/var/lib/corelane/tune.json";

const DISK: &str = "/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1";
const CARD: &str = "/sys/devices/pci0000:00/0000:00:05.0/net/eth0";

impl Fake {
    /// A host that lacks everything.
    pub(super) fn bare() -> Fake {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("corelane-tune-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        Fake { directory }
    }

    /// Four processors, an NVMe disk mounted at /data, a card with four queues, and everything set badly.
    pub(super) fn full() -> Fake {
        let fake = Fake::bare();
        fake.file("/sys/devices/system/cpu/online", "0-3\n");
        fake.file("/sys/devices/system/cpu/cpuidle/current_driver", "intel_idle\n");
        for number in 0..4 {
            let cpu = format!("/sys/devices/system/cpu/cpu{number}");
            fake.file(&format!("{cpu}/cpufreq/scaling_governor"), "powersave\n");
            for (state, name, latency) in [(0, "POLL", 0), (1, "C1", 2), (2, "C6", 133), (10, "C10", 890)] {
                let state = format!("{cpu}/cpuidle/state{state}");
                fake.file(&format!("{state}/name"), &format!("{name}\n"));
                fake.file(&format!("{state}/latency"), &format!("{latency}\n"));
                fake.file(&format!("{state}/disable"), "0\n");
            }
        }
        let clock = "/sys/devices/system/clocksource/clocksource0";
        fake.file(&format!("{clock}/current_clocksource"), "hpet\n");
        fake.file(&format!("{clock}/available_clocksource"), "tsc hpet acpi_pm \n");
        fake.disk();
        fake.interrupts();
        for (path, text) in [
            ("net/core/somaxconn", "128\n"),
            ("net/ipv4/tcp_max_syn_backlog", "512\n"),
            ("net/core/rmem_max", "212992\n"),
            ("net/core/wmem_max", "212992\n"),
            ("net/ipv4/tcp_rmem", "4096\t131072\t262144\n"),
            ("net/ipv4/tcp_wmem", "4096\t16384\t262144\n"),
            ("vm/swappiness", "60\n"),
            ("kernel/io_uring_disabled", "2\n"),
        ] {
            fake.file(&format!("/proc/sys/{path}"), text);
        }
        fake.file("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        fake.file(
            "/sys/kernel/mm/transparent_hugepage/defrag",
            "[always] defer defer+madvise madvise never\n",
        );
        fake.limits("65536                65536", "1024                 4096");
        fake
    }

    fn disk(&self) {
        self.file(&format!("{DISK}/queue/scheduler"), "none mq-deadline [bfq] \n");
        self.file(&format!("{DISK}/queue/nomerges"), "0\n");
        self.file(&format!("{DISK}/queue/rotational"), "0\n");
        self.file(&format!("{DISK}/queue/write_cache"), "write back\n");
        self.file(&format!("{DISK}/nvme0n1p1/partition"), "1\n");
        self.link("/sys/dev/block/259:1", &format!("{DISK}/nvme0n1p1"));
        self.link("/sys/class/block/nvme0n1p1", &format!("{DISK}/nvme0n1p1"));
        self.link("/sys/block/nvme0n1", DISK);
        self.link(&format!("{DISK}/device"), "/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0");
        self.mounts(
            "22 1 259:2 / / rw,relatime - xfs /dev/nvme0n1p2 rw\n\
             23 22 259:1 / /data rw,relatime shared:2 - ext4 /dev/nvme0n1p1 rw,discard\n",
        );
    }

    /// Two queues of the disk on CPU 0 and 1, four of the card on CPU 0.
    fn interrupts(&self) {
        self.file(
            "/proc/interrupts",
            "           CPU0       CPU1       CPU2       CPU3\n \
             40:          9          0          0          0  PCI-MSIX-0000:00:04.0 0-edge nvme0q0\n \
             41:        100          0          0          0  PCI-MSIX-0000:00:04.0 1-edge nvme0q1\n \
             42:          0        100          0          0  PCI-MSIX-0000:00:04.0 2-edge nvme0q2\n \
             50:        100          0          0          0  PCI-MSIX-0000:00:05.0 0-edge eth0-TxRx-0\n \
             51:        100          0          0          0  PCI-MSIX-0000:00:05.0 1-edge eth0-TxRx-1\n \
             52:        100          0          0          0  PCI-MSIX-0000:00:05.0 2-edge eth0-TxRx-2\n \
             53:        100          0          0          0  PCI-MSIX-0000:00:05.0 3-edge eth0-TxRx-3\n \
             54:          0          0          0          0  PCI-MSIX-0000:00:05.0 4-edge eth0-TxRx-4\n\
             NMI:          0          0          0          0  Non-maskable interrupts\n",
        );
        for (number, allowed, effective) in [
            (40, "0-3", "0"),
            (41, "0", "0"),
            (42, "1", "1"),
            (50, "0-3", "0"),
            (51, "0-3", "0"),
            (52, "0-3", "0"),
            (53, "0-3", "0"),
            (54, "0-3", "3"),
        ] {
            let bus = if number < 50 { 4 } else { 5 };
            self.file(&format!("/sys/devices/pci0000:00/0000:00:0{bus}.0/msi_irqs/{number}"), "msix\n");
            self.file(&format!("/proc/irq/{number}/smp_affinity_list"), &format!("{allowed}\n"));
            self.file(&format!("/proc/irq/{number}/effective_affinity_list"), &format!("{effective}\n"));
        }
        self.file(&format!("{CARD}/mtu"), "1500\n");
        self.link(&format!("{CARD}/device"), "/sys/devices/pci0000:00/0000:00:05.0");
        self.link("/sys/class/net/eth0", CARD);
        self.file("/sys/devices/virtual/net/lo/mtu", "65536\n");
        self.link("/sys/class/net/lo", "/sys/devices/virtual/net/lo");
    }

    pub(super) fn mounts(&self, table: &str) {
        self.file("/proc/self/mountinfo", table);
    }

    pub(super) fn limits(&self, locked: &str, files: &str) {
        let table = format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            {files}                files\n\
             Max locked memory         {locked}                bytes\n"
        );
        self.file("/proc/self/limits", &table);
    }

    pub(super) fn place(&self, path: &str) -> PathBuf {
        self.directory.join(path.trim_start_matches('/'))
    }

    pub(super) fn file(&self, path: &str, text: &str) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    /// A link as /sys has them: relative, so that it stays below the fake root.
    pub(super) fn link(&self, path: &str, target: &str) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let up = "../".repeat(path.trim_start_matches('/').split('/').count() - 1);
        symlink(Path::new(&up).join(target.trim_start_matches('/')), place).unwrap();
    }

    pub(super) fn remove(&self, path: &str) {
        let place = self.place(path);
        if place.is_dir() && !place.is_symlink() {
            fs::remove_dir_all(place).unwrap();
        } else {
            fs::remove_file(place).unwrap();
        }
    }

    /// A directory where a file was: what is read or written there fails, for root as well.
    pub(super) fn block(&self, path: &str) {
        self.remove(path);
        fs::create_dir(self.place(path)).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.place(path)).unwrap()
    }

    /// Everything below /proc and /sys.
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for top in ["proc", "sys"] {
            collect(&self.directory.join(top), &mut tree);
        }
        tree
    }

    /// What the kernel does when a word is written to a file that offers several: shows all, the chosen one in
    /// brackets. `before` has the words.
    pub(super) fn settle(&self, before: &Tree) {
        for (place, old) in before {
            let old = String::from_utf8_lossy(old);
            let Ok(now) = fs::read_to_string(place) else { continue };
            if old.contains('[') && !now.contains('[') {
                let word = now.trim();
                let plain = old.replace(['[', ']'], "");
                let words = plain
                    .trim_end()
                    .split(' ')
                    .map(|offered| if offered == word { format!("[{offered}]") } else { offered.to_owned() });
                let end = &old[old.trim_end().len()..];
                fs::write(place, words.collect::<Vec<_>>().join(" ") + end).unwrap();
            }
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.directory);
        if !std::thread::panicking() {
            removed.expect("the fake host can be removed");
        }
    }
}

fn collect(directory: &Path, tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let place = entry.unwrap().path();
        if place.is_symlink() {
            let target = fs::read_link(&place).unwrap();
            tree.insert(place, target.into_os_string().into_encoded_bytes());
        } else if place.is_dir() {
            collect(&place, tree);
        } else {
            let bytes = fs::read(&place).unwrap();
            tree.insert(place, bytes);
        }
    }
}
