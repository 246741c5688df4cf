//! `check`, `apply` and `revert` from the command line on, against trees of plain files.

mod changing;
mod checking;
mod fake;

use clap::Parser;

use self::fake::Fake;
use crate::apply::Answer;
use crate::{Command, apply, check, revert};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// What a run of the program gave: its output, and its error if it failed.
struct Ran {
    out: String,
    result: Result<(), String>,
}

impl Ran {
    fn error(&self) -> &str {
        self.result.as_ref().expect_err("it succeeded")
    }
}

/// Runs `corelane tune <words>` on the fake host; whoever asks is answered yes.
fn tune(fake: &Fake, words: &str) -> Ran {
    tune_asked(fake, words, || Ok(Answer::Write))
}

/// The same with an answer of one's own, which may do something to the host first.
fn tune_asked(fake: &Fake, words: &str, answer: impl FnOnce() -> Result<Answer, String>) -> Ran {
    let root = fake.place("/").display().to_string();
    let mut line = vec!["tune"];
    line.extend(words.split(' '));
    line.extend(["--root", root.as_str()]);
    if !words.starts_with("revert") && !words.contains("--data") {
        line.extend(["--data", "/data/kafka"]);
    }
    let mut out = Vec::new();
    let result = match Line::try_parse_from(line).expect("the words are a command").command {
        Command::Check(options) => check::run(&options, &mut out),
        Command::Apply(options) => apply::run(&options, &mut out, |_| answer()),
        Command::Revert(options) => revert::run(&options, &mut out),
        Command::Disk(_) => unreachable!("measures the real host"),
    };
    Ran { out: String::from_utf8(out).expect("text"), result }
}

/// The findings of `check --json` by the knobs' names.
fn findings(fake: &Fake) -> serde_json::Map<String, serde_json::Value> {
    findings_at(fake, "/data/kafka").1
}

/// The data disk and the findings for a data directory.
fn findings_at(fake: &Fake, data: &str) -> (serde_json::Value, serde_json::Map<String, serde_json::Value>) {
    let ran = tune(fake, &format!("check --json --data {data}"));
    ran.result.expect("check reads and never fails");
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let rows = report["knobs"].as_array().expect("a list");
    let by_name = rows.iter().map(|row| (row["knob"].as_str().expect("a name").to_owned(), row.clone()));
    (report["data"].clone(), by_name.collect())
}
