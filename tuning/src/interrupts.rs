//! Which processors answer a device's interrupts.
//!
//! Only devices with several busy queues count: what has one queue cannot be spread, and the kernel spreads most
//! others by itself. Nothing is written while irqbalance runs, which would move them again.

use std::collections::BTreeSet;

use crate::finding::{Change, Finding, Verdict, shown};
use crate::host::Host;
use crate::rule::processor_list;

const WANTED: &str = "not all on one CPU";

/// Interrupts of a device that carry no data and so need no spreading.
const NOT_QUEUES: [&str; 5] = ["config", "event", "control", "admin", "async"];

struct Interrupt {
    number: u32,
    name: String,
    fired: u64,
}

/// The disks below the data directory.
pub(crate) fn of_disks(host: &Host) -> Finding {
    let devices: Vec<String> =
        host.data.disks.iter().map(|disk| format!("/sys/block/{disk}/device")).collect();
    spread(host, &devices, "disk-interrupts")
}

/// The network cards; bridges, tunnels and the like have no device.
pub(crate) fn of_network(host: &Host) -> Finding {
    let names = host.root.list("/sys/class/net");
    let devices: Vec<String> = names.iter().map(|name| format!("/sys/class/net/{name}/device")).collect();
    spread(host, &devices, "network-interrupts")
}

/// Each device on its own: one card's queues on CPU 0 and another's on CPU 1 are not spread, either.
fn spread(host: &Host, devices: &[String], knob: &str) -> Finding {
    let numbers: Vec<BTreeSet<u32>> = devices.iter().map(|device| numbers_of(host, device)).collect();
    if numbers.iter().all(BTreeSet::is_empty) {
        return Finding::absent(WANTED, "no device with interrupts of its own (MSI) to be seen");
    }
    let table = match host.root.read("/proc/interrupts") {
        Ok(table) => parse(&table),
        Err(why) => return Finding::unknown(WANTED, &format!("/proc/interrupts cannot be read: {why}")),
    };
    let mut used = BTreeSet::new();
    let mut queues = 0;
    let mut changes = Vec::new();
    let mut crowded = None;
    for numbers in &numbers {
        let busy: Vec<&Interrupt> = table
            .iter()
            .filter(|interrupt| numbers.contains(&interrupt.number) && is_busy_queue(interrupt))
            .collect();
        queues += busy.len();
        let mut by_device = BTreeSet::new();
        for interrupt in &busy {
            let Some(processors) = processors_of(host, interrupt.number) else {
                let note = format!("/proc/irq/{}/smp_affinity_list cannot be read", interrupt.number);
                return Finding::unknown(WANTED, &note);
            };
            by_device.extend(processors);
        }
        if let (true, true, [only]) =
            (busy.len() > 1, host.processors.len() > 1, by_device.iter().collect::<Vec<_>>().as_slice())
        {
            crowded = Some(**only);
            changes.extend(round_robin(host, &busy));
        }
        used.extend(by_device);
    }
    if queues == 0 {
        return Finding::new(Verdict::Ok, "no queue busy yet", WANTED);
    }
    let queues = if queues == 1 { "1 queue".to_owned() } else { format!("{queues} queues") };
    let finding = Finding::new(Verdict::Ok, format!("{queues} on CPU {}", listed(&used)), WANTED);
    let Some(only) = crowded else { return finding };
    let finding = Finding {
        verdict: Verdict::Change,
        now: format!("a device's queues are all on CPU {only}"),
        ..finding
    };
    if irqbalance_runs(host) {
        return finding.by_hand(format!(
            "systemctl stop irqbalance && corelane tune apply --only {knob}   # irqbalance runs and would undo it"
        ));
    }
    Finding { changes, ..finding }
}

/// The numbers in the nearest `msi_irqs` at or above the device: those of virtio and SCSI disks are their
/// controller's.
fn numbers_of(host: &Host, device: &str) -> BTreeSet<u32> {
    let mut place = host.root.resolve(device);
    while let Some(path) = place.filter(|path| path.len() > "/sys/devices".len()) {
        let names = host.root.list(&format!("{path}/msi_irqs"));
        if !names.is_empty() {
            return names.iter().filter_map(|name| name.parse().ok()).collect();
        }
        place = path.rsplit_once('/').map(|(parent, _)| parent.to_owned());
    }
    BTreeSet::new()
}

/// `36:  0  3672001  PCI-MSIX-0000:00:02.0  1-edge  virtio1-req.0` under a line that names the processors.
fn parse(table: &str) -> Vec<Interrupt> {
    let mut lines = table.lines();
    let columns = lines.next().map_or(0, |header| header.split_whitespace().count());
    let parsed = lines.filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let counts = words.iter().take(columns).filter_map(|word| word.parse::<u64>().ok());
        Some(Interrupt {
            number: number.trim().parse().ok()?,
            name: shown(words.last()?),
            fired: counts.fold(0, u64::saturating_add),
        })
    });
    parsed.collect()
}

fn is_busy_queue(interrupt: &Interrupt) -> bool {
    let admin = interrupt.name.starts_with("nvme") && interrupt.name.ends_with("q0");
    interrupt.fired > 0 && !admin && !NOT_QUEUES.iter().any(|word| interrupt.name.contains(word))
}

/// Where the interrupt really goes, or may go on kernels that do not say.
fn processors_of(host: &Host, number: u32) -> Option<Vec<u32>> {
    let read = |file| host.root.read(&format!("/proc/irq/{number}/{file}"));
    let text = match read("effective_affinity_list") {
        Ok(text) if !text.is_empty() => text,
        _ => read("smp_affinity_list").ok()?,
    };
    processor_list(&text).filter(|list| !list.is_empty())
}

fn round_robin(host: &Host, queues: &[&Interrupt]) -> Vec<Change> {
    let changes = queues.iter().zip(host.processors.iter().cycle()).filter_map(|(interrupt, processor)| {
        let path = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
        let (old, new) = (host.root.read(&path).ok()?, processor.to_string());
        (old != new).then_some(Change { path, old, new })
    });
    changes.collect()
}

fn irqbalance_runs(host: &Host) -> bool {
    let processes = host.root.list("/proc");
    processes.iter().filter(|name| name.starts_with(|first: char| first.is_ascii_digit())).any(|process| {
        host.root.read(&format!("/proc/{process}/comm")).is_ok_and(|name| name == "irqbalance")
    })
}

fn listed(processors: &BTreeSet<u32>) -> String {
    let words: Vec<String> = processors.iter().map(u32::to_string).collect();
    match words.len() {
        0..=8 => words.join(","),
        more => format!("{} and {} more", words[..8].join(","), more - 8),
    }
}
