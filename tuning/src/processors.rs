//! How fast a processor is there when it is needed: idle states and the clock.

use crate::finding::{Change, Finding, Verdict, shown};
use crate::host::Host;
use crate::root::Unread;

/// A flush into pre-written extents takes 48 µs: a processor that needs longer to wake up doubles it.
const WAKE_UP_US_MAX: u64 = 50;

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

/// Clocks that a process reads without a system call, the preferred one first. The hypervisors' own are as good.
const FAST_CLOCKS: [&str; 4] = ["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"];

/// Idle states that take long to leave and are not disabled.
pub(crate) fn idle_states(host: &Host) -> Finding {
    let wanted = format!("wake-up within {WAKE_UP_US_MAX} µs");
    let mut deepest: Option<(u64, String)> = None;
    let mut changes = Vec::new();
    let mut trouble = None;
    for number in &host.processors {
        let states = format!("/sys/devices/system/cpu/cpu{number}/cpuidle");
        for state in host.root.list(&states).iter().filter(|name| name.starts_with("state")) {
            let state = format!("{states}/{state}");
            let latency = host.root.read(&format!("{state}/latency")).ok().and_then(|text| text.parse().ok());
            let Some(latency): Option<u64> = latency else {
                trouble = Some(format!("{state}/latency cannot be read"));
                continue;
            };
            let path = format!("{state}/disable");
            let disable = match host.root.read(&path) {
                Ok(disable) if disable == "0" || disable == "1" => disable,
                Ok(_) => {
                    trouble = Some(format!("{path} holds something strange"));
                    continue;
                }
                Err(Unread::Absent) => "0".into(),
                Err(Unread::Refused(why)) => {
                    trouble = Some(format!("{path} cannot be read: {why}"));
                    continue;
                }
            };
            if disable == "1" {
                continue;
            }
            if deepest.as_ref().is_none_or(|(most, _)| latency > *most) {
                let name = host.root.read(&format!("{state}/name")).unwrap_or_else(|_| "a state".into());
                deepest = Some((latency, shown(&name)));
            }
            if latency > WAKE_UP_US_MAX && host.root.exists(&path) {
                changes.push(Change { path, old: disable, new: "1".into() });
            }
        }
    }
    let driver = host.root.read("/sys/devices/system/cpu/cpuidle/current_driver").unwrap_or_default();
    let Some((latency, name)) = deepest else {
        return match trouble {
            Some(trouble) => Finding::unknown(wanted, &trouble),
            None => {
                Finding::absent(wanted, "no idle states to see: a virtual machine leaves them to its host")
            }
        };
    };
    let now = format!("{name}: {latency} µs ({})", shown(&driver));
    if latency <= WAKE_UP_US_MAX {
        let verdict = if trouble.is_some() { Verdict::Unknown } else { Verdict::Ok };
        return Finding { note: trouble, ..Finding::new(verdict, now, wanted) };
    }
    if let Some(bound) = requested_latency(host).filter(|&bound| u64::from(bound) <= WAKE_UP_US_MAX) {
        let note =
            format!("deeper states exist, but a process holds /dev/cpu_dma_latency at {bound} µs (tuned?)");
        return Finding::new(Verdict::Ok, now, wanted).noted(note);
    }
    let mut finding = Finding::new(Verdict::Change, now, wanted);
    if changes.is_empty() {
        finding =
            finding.by_hand("add processor.max_cstate=1 intel_idle.max_cstate=1 to the boot parameters");
    }
    Finding { changes, note: trouble, ..finding }
}

/// The wake-up time in µs that some process asks the kernel to keep: four bytes, huge when nobody asks.
fn requested_latency(host: &Host) -> Option<u32> {
    let bytes = host.root.read_bytes("/dev/cpu_dma_latency").ok()?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

pub(crate) fn clock(host: &Host) -> Finding {
    let wanted = "tsc or another read without a system call";
    let path = format!("{CLOCK}/current_clocksource");
    let now = match host.root.read(&path) {
        Ok(now) if !now.is_empty() => now,
        Ok(_) => return Finding::unknown(wanted, &format!("{path} is empty")),
        Err(Unread::Absent) => return Finding::absent(wanted, "this kernel shows no clocks"),
        Err(Unread::Refused(why)) => {
            return Finding::unknown(wanted, &format!("{path} cannot be read: {why}"));
        }
    };
    if FAST_CLOCKS.contains(&now.as_str()) {
        return Finding::new(Verdict::Ok, now, wanted);
    }
    let offered = host.root.read(&format!("{CLOCK}/available_clocksource")).unwrap_or_default();
    let better = FAST_CLOCKS.iter().find(|&&clock| offered.split_whitespace().any(|word| word == clock));
    let finding = Finding::new(Verdict::Change, shown(&now), wanted);
    match better {
        Some(&clock) => Finding { changes: vec![Change { path, old: now, new: clock.into() }], ..finding },
        None => finding.by_hand(
            "dmesg | grep -i -e tsc -e clocksource   # says why the kernel distrusts the tsc; on sound hardware add tsc=reliable to the boot parameters",
        ),
    }
}
