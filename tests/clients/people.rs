//! The commands for people, run against a broker of any make.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::run::run_with;

/// Somebody with a shell.
pub struct People {
    pub bootstrap: String,
}

impl People {
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(words.split(' ')).args(["-b", &self.bootstrap]);
        command
    }

    pub fn run(&self, words: &str) -> String {
        self.run_with(words, "")
    }

    pub fn run_with(&self, words: &str, input: &str) -> String {
        let output = run_with(self.command(words), input.as_bytes().to_vec());
        String::from_utf8(output.stdout).expect("text")
    }

    pub fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{words} --json"))).expect("one JSON document")
    }

    /// Expects exit code 1; gives what is on stdout and the error.
    pub fn refused(&self, words: &str) -> (String, String) {
        let output = self.command(words).stdin(Stdio::null()).output().expect("corelane starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(1), "{words}: {stdout}{stderr}");
        let error = stderr.lines().find_map(|line| line.strip_prefix("error: "));
        (stdout, error.unwrap_or_else(|| panic!("{words}: {stderr}")).to_owned())
    }
}

/// The first row of a table that begins with these cells.
pub fn row<'a>(table: &'a str, begin: &[&str]) -> Vec<&'a str> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|cells| cells.starts_with(begin)).unwrap_or_else(|| panic!("no row {begin:?}\n{table}"))
}
