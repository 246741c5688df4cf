//! The runs: connections on threads of their own, a progress line, the totals.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::client::{self, Connection};
use crate::host::{self, CpuTime};
use crate::report::{self, Totals};

/// What every run needs.
#[derive(Args)]
struct Target {
    #[arg(long, default_value = "localhost:9092")]
    bootstrap: String,
    #[arg(long, default_value = "perf")]
    topic: String,
    /// Partitions of the topic, if it is created.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Of the broker, on this machine: says what the run cost it.
    #[arg(long)]
    pid: Option<u32>,
}

impl Target {
    /// The partitions that one connection goes through in turn: all connections together go through all.
    fn partitions_of(&self, connection: usize, partitions: i32) -> impl Iterator<Item = i32> + use<> {
        let first = i32::try_from(connection).unwrap_or(i32::MAX) % partitions;
        (first..partitions).step_by(self.connections)
    }
}

#[derive(Args)]
pub struct Produce {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    #[arg(long, default_value_t = 16)]
    records_per_batch: usize,
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// -1 (all) or 1.
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    acks: i16,
}

#[derive(Args)]
pub struct Fetch {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1 << 20)]
    max_bytes: i32,
}

/// Counted by the threads as they go, read by the progress line.
#[derive(Default)]
struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

pub fn produce(run: &Produce) -> Result<()> {
    ensure!(run.acks == 1 || run.acks == -1, "--acks {}: use -1 (all) or 1", run.acks);
    ensure!(
        run.in_flight > 0 && run.records_per_batch > 0,
        "--in-flight and --records-per-batch are at least 1"
    );
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let batch = client::batch(run.records_per_batch, run.record_bytes, i64::try_from(now_ms)?)?;
    let totals = measure("produce", &run.target, |thread, partitions, progress| {
        let requests = run
            .target
            .partitions_of(thread, partitions)
            .map(|partition| client::produce_request(&run.target.topic, partition, run.acks, &batch));
        let mut requests = requests.collect::<Result<Vec<_>>>()?;
        let mut next = 0;
        let mut connection = Connection::open(&run.target.bootstrap)?;
        let mut latency = Histogram::new(3)?;
        let mut sent = VecDeque::with_capacity(run.in_flight);
        loop {
            while sent.len() < run.in_flight && progress.goes_on() {
                sent.push_back(Instant::now());
                connection.send(&mut requests[next])?;
                next = (next + 1) % requests.len();
            }
            let Some(at) = sent.pop_front() else { return Ok(latency) };
            let error = client::produce_error(connection.receive()?)?;
            ensure!(error == 0, "Produce answered error {error}");
            latency.record(micros(at))?;
            progress.add(run.records_per_batch as u64, batch.len() as u64);
        }
    })?;
    let settings = format!(
        "{} connections, {} in flight, {} records of {} B a batch, acks={}",
        run.target.connections, run.in_flight, run.records_per_batch, run.record_bytes, run.acks
    );
    report::print(&totals, &settings);
    Ok(())
}

pub fn fetch(run: &Fetch) -> Result<()> {
    let topic = &run.target.topic;
    let totals = measure("fetch", &run.target, |thread, partitions, progress| {
        let mut places: Vec<(i32, i64)> =
            run.target.partitions_of(thread, partitions).map(|partition| (partition, 0)).collect();
        let mut connection = Connection::open(&run.target.bootstrap)?;
        let mut latency = Histogram::new(3)?;
        while progress.goes_on() {
            for (partition, offset) in &mut places {
                let mut request = client::fetch_request(topic, *partition, *offset, run.max_bytes)?;
                let at = Instant::now();
                connection.send(&mut request)?;
                let fetched = client::fetched(connection.receive()?, topic, *offset)?;
                ensure!(fetched.records > 0 || *offset > 0, "partition {partition} is empty: produce first");
                if fetched.records > 0 {
                    latency.record(micros(at))?;
                }
                // at the end: again from the beginning
                *offset = if fetched.records == 0 { 0 } else { fetched.next_offset };
                progress.add(fetched.records, fetched.bytes);
            }
        }
        Ok(latency)
    })?;
    let settings = format!("{} connections, at most {} bytes a fetch", run.target.connections, run.max_bytes);
    report::print(&totals, &settings);
    Ok(())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Runs one thread per connection for the time asked, with a progress line on stderr.
fn measure(
    what: &'static str,
    target: &Target,
    work: impl Fn(usize, i32, &Progress) -> Result<Histogram<u64>> + Sync,
) -> Result<Totals> {
    let partitions = Connection::open(&target.bootstrap)?.ensure_topic(&target.topic, target.partitions)?;
    let progress = Progress::default();
    let cpu_before = target.pid.map(|pid| host::process_cpu(pid).context("no process has that --pid"));
    let cpu_before = cpu_before.transpose()?;
    let steal = CpuTime::now();
    let begin = Instant::now();
    let mut latency = Histogram::<u64>::new(3)?;
    thread::scope(|scope| -> Result<()> {
        let (progress, work) = (&progress, &work);
        let threads: Vec<_> = (0..target.connections)
            .map(|thread| scope.spawn(move || work(thread, partitions, progress)))
            .collect();
        for _ in 0..target.seconds {
            let before = progress.records.load(Ordering::Relaxed);
            thread::sleep(Duration::from_secs(1));
            let rate = progress.records.load(Ordering::Relaxed) - before;
            eprint!("\r{what}: {:>3.0} s  {rate:>10} records/s ", begin.elapsed().as_secs_f64());
            if threads.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        eprintln!();
        progress.stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let of_thread =
                thread.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
            latency.add(of_thread)?;
        }
        Ok(())
    })?;
    let elapsed = begin.elapsed();
    let broker = match (target.pid, cpu_before) {
        (Some(pid), Some(before)) => {
            let cpu = host::process_cpu(pid).context("the broker ended during the run")?;
            Some((cpu.saturating_sub(before), host::process_resident(pid).unwrap_or(0)))
        }
        _ => None,
    };
    Ok(Totals {
        what,
        records: progress.records.load(Ordering::Relaxed),
        bytes: progress.bytes.load(Ordering::Relaxed),
        requests: latency.len(),
        elapsed,
        latency,
        steal_percent: steal.steal_percent_since(),
        broker,
    })
}
