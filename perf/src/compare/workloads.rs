//! What is measured of the systems.

use anyhow::{Result, ensure};

/// A run that every system makes.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub name: &'static str,
    /// Of `corelane bench`.
    pub line: &'static str,
    /// What it shows.
    pub about: &'static str,
    pub by: By,
}

/// Which systems make a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    /// All but the null broker, which keeps nothing that could be read.
    Brokers,
    /// The null broker too: a target is held against it.
    BrokersAndNull,
    /// Only those without settings of their own for topics; of the others no target speaks.
    AsTheyCome,
}

impl Workload {
    /// Name, command line and what it shows, for the results.
    #[must_use]
    pub fn described(&self) -> (String, String, String) {
        (self.name.to_owned(), self.line.to_owned(), self.about.to_owned())
    }
}

/// Name of what is no run: brokers that are started for it, see `footprint.rs`.
pub const FOOTPRINT: &str = "footprint";

const fn workload(name: &'static str, line: &'static str, about: &'static str) -> Workload {
    Workload { name, line, about, by: By::Brokers }
}

const fn by(by: By, of: Workload) -> Workload {
    Workload { by, ..of }
}

pub const WORKLOADS: &[Workload] = &[
    by(
        By::BrokersAndNull,
        workload(
            "throughput-1k",
            "produce --producers 4 -p 16 -s 1KiB",
            "1 KiB records, 16 partitions, as fast as it answers",
        ),
    ),
    by(
        By::BrokersAndNull,
        workload(
            "throughput-100b",
            "produce --producers 4 -p 16 -s 100",
            "100-byte records, 16 partitions, batches of 16 KiB, as fast as it answers",
        ),
    ),
    workload(
        "latency-1k-5000",
        "produce --producers 4 -p 16 -s 1KiB -r 5000",
        "1 KiB records at 5,000 records/s",
    ),
    // One after the other: the second less the first is what reading costs. That is little beside what writing costs and
    // differs by, so each record is read eight times.
    by(
        By::AsTheyCome,
        workload(
            "tail-1k-2000-unread",
            "produce --producers 4 -p 16 -s 1KiB -r 2000",
            "1 KiB records at 2,000 records/s, read by nobody",
        ),
    ),
    by(
        By::AsTheyCome,
        workload(
            "tail-1k-2000",
            "end-to-end --producers 4 --consumers 4 --fan-out 8 -p 16 -s 1KiB -r 2000",
            "the same, each record read at the tail eight times",
        ),
    ),
    workload(
        "end-to-end-1k-2000",
        "end-to-end --producers 4 --consumers 4 -p 16 -s 1KiB -r 2000",
        "1 KiB records at 2,000 records/s, read at the tail",
    ),
    workload(
        "consume-1k",
        "consume --consumers 4 -p 16 -s 1KiB --preload 256MiB",
        "1 KiB records read from the beginning",
    ),
    workload(
        "keyed-100b-1000p",
        "produce --producers 50 -p 1000 -s 100 --keys 100k --linger 5ms -r 5k",
        "50 producers, 1,000 partitions, 100-byte keyed records at 5,000 records/s, linger 5 ms",
    ),
    // Requests of 16 KiB are some 110 batches of a record or two. With larger ones, or more in flight, a broker that flushes
    // every write of every partition would still be answering half a minute after the end.
    workload(
        "keyed-100b-1000p-full",
        "produce --producers 100 -p 1000 -s 100 --keys 100k --in-flight 1 --request-bytes 16KiB",
        "100 connections, 1,000 partitions, 100-byte keyed records, requests of 16 KiB, as fast as it answers",
    ),
];

/// The workloads of these names, all if there are none, and whether the footprint is one of them.
///
/// # Errors
/// A name that nothing has.
pub fn chosen(names: &[String]) -> Result<(Vec<Workload>, bool)> {
    let known = || WORKLOADS.iter().map(|workload| workload.name).chain([FOOTPRINT]);
    for name in names {
        ensure!(
            known().any(|known| known == name),
            "no workload is called {name:?}; there are {}",
            known().collect::<Vec<_>>().join(", ")
        );
    }
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let runs = WORKLOADS.iter().filter(|workload| is_wanted(workload.name)).copied().collect();
    Ok((runs, is_wanted(FOOTPRINT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_chosen_by_name() {
        let names = |of: &[&str]| -> Vec<String> { of.iter().map(|name| (*name).to_owned()).collect() };
        let (all, footprint) = chosen(&[]).expect("all");
        assert!(all.len() == WORKLOADS.len() && footprint);
        let (one, footprint) = chosen(&names(&["consume-1k"])).expect("one");
        assert!(one.len() == 1 && one[0].name == "consume-1k" && !footprint);
        let (none, footprint) = chosen(&names(&["footprint"])).expect("no run");
        assert!(none.is_empty() && footprint);
        let error = chosen(&names(&["consume"])).expect_err("there is none").to_string();
        assert!(error.contains("consume-1k") && error.contains("footprint"), "{error}");
    }
}
