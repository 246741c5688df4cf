//! The sub-commands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::compare::{self, Compare};
use crate::groups::{self, Groups};
use crate::host;
use crate::measure::Role;
use crate::null_broker::{self, NullBroker};
use crate::options::{Consume, Load, Output};
use crate::report::{self, Report};
use crate::run::{self, Readers, Run};
use crate::search;
use crate::transactions::{self, Transactions};
use crate::units;
use crate::workloads::{EXAMPLES, WORKLOADS};

/// `corelane bench …`.
#[derive(Subcommand)]
pub enum Command {
    /// Write records; latency from due (or made) to acknowledged.
    Produce(Box<Load>),
    /// Read records from the beginning, and again from the beginning at the end.
    Consume(Box<ConsumeRun>),
    /// Write records and read them at the tail; latency from due (or made) to received.
    EndToEnd(Box<EndToEndRun>),
    /// End-to-end load beside readers that go through the log from the beginning, again when they have caught up.
    Mixed(Box<MixedRun>),
    /// Consumer groups without records: members join, beat and rebalance; latency from due to answered.
    Groups(Box<Groups>),
    /// Transactions of 1, 10, 100 partitions: latency of each and of its commit, and what it costs the broker.
    Transactions(Box<Transactions>),
    /// Runs that people know by name; without a name, the list.
    Workload(WorkloadRun),
    /// Apache Kafka (or a broker of any kind) and corelane by turns, with a table and a page of ratios.
    Compare(Compare),
    /// A broker that accepts and discards: how fast the load generator itself is.
    NullBroker(NullBroker),
    /// Put reports (JSON) together on one HTML page, or print them.
    Report(ReportRun),
    /// Recipes.
    Examples,
}

#[derive(Args)]
pub struct ConsumeRun {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    consume: Consume,
    /// Bytes to write first, if no --topic is given; what is written is told by the options of producers.
    #[arg(long, default_value = "256MiB", value_parser = units::bytes, help_heading = "Topics")]
    preload: u64,
}

#[derive(Args)]
pub struct EndToEndRun {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    consume: Consume,
    /// How often each record is read: so many sets of --consumers, each of which reads everything.
    #[arg(long, default_value_t = 1, conflicts_with = "group", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Consumers")]
    fan_out: u32,
}

#[derive(Args)]
pub struct MixedRun {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    consume: Consume,
    /// Readers that begin at the beginning, and again when they have caught up.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Consumers")]
    catch_up_readers: u32,
    /// Bytes to write first, for them, if no --topic is given.
    #[arg(long, default_value = "256MiB", value_parser = units::bytes, help_heading = "Topics")]
    preload: u64,
}

#[derive(Args)]
pub struct WorkloadRun {
    name: Option<String>,
    /// Write all runs' reports into this folder as JSON.
    #[arg(long, value_name = "FOLDER")]
    json: Option<PathBuf>,
    /// Write all runs side by side on one HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Options for every run, over the workload's own.
    #[arg(last = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Args)]
pub struct ReportRun {
    /// Reports that runs wrote with --json.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the page here instead of printing.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs one sub-command.
///
/// # Errors
/// What went wrong, in one line.
pub fn run(command: &Command) -> Result<(), String> {
    let result = match command {
        Command::Workload(run) => workload(run),
        Command::Compare(options) => compare::compare(options),
        Command::NullBroker(options) => null_broker::serve(options),
        Command::Report(run) => reports(run),
        Command::Examples => {
            print!("{EXAMPLES}");
            Ok(())
        }
        measured => measure(measured).and_then(|(report, output)| finish(&report, output)),
    };
    result.map_err(|error| format!("{error:#}"))
}

/// Makes the run that a command line describes.
///
/// # Errors
/// A line that is none, or what stopped the run.
pub fn measure_line(line: &[String]) -> Result<Report> {
    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    // what comes later on the line overrides what comes before
    let parser = Line::command().mut_subcommands(|command| command.args_override_self(true));
    let line = Line::from_arg_matches(&parser.try_get_matches_from(line)?)?;
    Ok(measure(&line.command)?.0)
}

fn measure(command: &Command) -> Result<(Report, &Output)> {
    host::allow_open_files();
    if let Command::Groups(options) = command {
        return Ok((groups::run(options)?, &options.output));
    }
    if let Command::Transactions(options) = command {
        return Ok((transactions::run(options)?, &options.output));
    }
    let readers = |role, count, options| Readers { role, count, options };
    let run = match command {
        Command::Produce(load) => Run::new("produce", load),
        Command::Consume(of) => Run {
            readers: vec![readers(Role::Consume, of.consume.consumers, &of.consume)],
            preload: of.preload,
            writes: false,
            ..Run::new("consume", &of.load)
        },
        Command::EndToEnd(of) => Run {
            readers: vec![readers(Role::EndToEnd, of.consume.consumers, &of.consume); of.fan_out as usize],
            ..Run::new("end-to-end", &of.load)
        },
        Command::Mixed(of) => {
            if of.consume.group.is_some() {
                bail!(
                    "--group is for consume and end-to-end: readers that catch up share nothing with others"
                );
            }
            Run {
                readers: vec![
                    readers(Role::EndToEnd, of.consume.consumers, &of.consume),
                    readers(Role::CatchUp, of.catch_up_readers, &of.consume),
                ],
                preload: of.preload,
                ..Run::new("mixed", &of.load)
            }
        }
        _ => bail!("a run is one of produce, consume, end-to-end, mixed, groups and transactions"),
    };
    let report = match run.producers().and_then(|produce| produce.search) {
        Some(bound) => search::search(&run, bound)?,
        None => run::run(&run)?,
    };
    Ok((report, run.output))
}

/// Writes what was asked for; a run with errors fails when that is done.
fn finish(report: &Report, output: &Output) -> Result<()> {
    print!("{}", report::summary(report));
    if let Some(path) = &output.json {
        report.write_json(path)?;
    }
    if let Some(path) = &output.html {
        report::write_page(path, std::slice::from_ref(report))?;
    }
    if !report.errors.is_empty() {
        bail!("the broker answered errors: {:?}", report.errors);
    }
    Ok(())
}

fn workload(of: &WorkloadRun) -> Result<()> {
    let Some(name) = &of.name else {
        for workload in WORKLOADS {
            println!("{}\n  {}", workload.name, workload.about);
            for (label, line) in workload.runs {
                println!("    {label}: {line}");
            }
        }
        return Ok(());
    };
    let known = WORKLOADS.iter().find(|workload| workload.name == name);
    let workload =
        known.with_context(|| format!("no workload is called {name:?}: `bench workload` lists them"))?;
    let mut reports = Vec::new();
    for (place, (label, line)) in workload.runs.iter().enumerate() {
        eprintln!("{} of {}: {label}", place + 1, workload.runs.len());
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        words.extend(["--label".to_owned(), (*label).to_owned()]);
        words.extend(of.options.iter().cloned());
        let report = measure_line(&words).with_context(|| format!("{name}, {label}"))?;
        println!("{}", report::summary(&report));
        reports.push(report);
    }
    if let Some(folder) = &of.json {
        write_all(folder, &reports)?;
    }
    if let Some(path) = &of.html {
        report::write_page(path, &reports)?;
    }
    Ok(())
}

fn write_all(folder: &Path, reports: &[Report]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (place, report) in reports.iter().enumerate() {
        report.write_json(&folder.join(format!("{:02}.json", place + 1)))?;
    }
    Ok(())
}

fn reports(of: &ReportRun) -> Result<()> {
    let reports = of.files.iter().map(|file| Report::read_json(file)).collect::<Result<Vec<_>>>()?;
    match &of.html {
        Some(path) => report::write_page(path, &reports)?,
        None => reports.iter().for_each(|report| println!("{}", report::summary(report))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn every_named_workload_is_a_command_line() {
        for workload in WORKLOADS {
            for (label, line) in workload.runs {
                let parsed = Line::try_parse_from(line.split_whitespace());
                assert!(
                    parsed.is_ok(),
                    "{} {label}: {}",
                    workload.name,
                    parsed.err().map_or(String::new(), |e| e.to_string())
                );
            }
        }
    }

    #[test]
    fn every_example_is_a_command_line() {
        let lines = EXAMPLES.lines().filter_map(|line| line.trim().strip_prefix("corelane bench "));
        let mut count = 0;
        for line in lines {
            let line = line.split("  ").next().unwrap_or(line).replace("$(pidof corelane)", "1");
            let parsed = Line::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map_or(String::new(), |e| e.to_string()));
            count += 1;
        }
        assert!(count > 15, "{count} examples");
    }
}
