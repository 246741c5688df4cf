//! The layering check: imports in `src/` go down one list only, pure folders stay pure, and `src/reactor` alone
//! names glommio. It reads tokens, not text, so comments and strings do not count and macros do.
//!
//! Test code inside `src/` obeys the same rules: a pure folder whose tests need a clock is not pure.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Whether a folder may touch the world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Async code, one instance per shard.
    Shell,
    /// No await, no clock, no randomness, no file or socket.
    Pure,
}

/// The top-level modules of the crate from top to bottom; a module may name itself and those below it.
const ORDER: &[(&str, Kind)] = &[
    ("cli", Kind::Shell),
    ("server", Kind::Shell),
    ("handlers", Kind::Shell),
    ("cluster", Kind::Shell),
    ("partition", Kind::Shell),
    ("network", Kind::Shell),
    ("storage", Kind::Shell),
    ("reactor", Kind::Shell),
    ("config", Kind::Pure),
    ("coordinator", Kind::Pure),
    ("metrics", Kind::Pure),
    ("metadata", Kind::Pure),
    ("log", Kind::Pure),
    ("protocol", Kind::Pure),
    ("model", Kind::Pure),
];

/// What a pure folder must not name. A path is refused when it starts with one of these, and when it imports the
/// folder that holds one of these under a name (`use std::time;`) or with a star.
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::fs",
    "std::net",
    "std::thread",
    "libc",
    "rand",
    "fastrand",
    "getrandom",
];

/// Calls that draw randomness whatever path they come from.
const RANDOM_CALLS: &[&str] = &["new_v4", "thread_rng", "from_entropy"];

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A path as the source writes it, groups in `use` taken apart, with the line of its last segment.
struct NamedPath {
    segments: Vec<String>,
    line: usize,
}

/// Everything the rules look at in one file.
#[derive(Default)]
struct Seen {
    /// Paths with the depth of the module they stand in (0 is the crate root).
    paths: Vec<(NamedPath, usize)>,
    /// Lines with `.await` or `async`.
    asynchronous: Vec<usize>,
    /// Every identifier with its line.
    idents: Vec<(String, usize)>,
}

/// Where a file sits: its top-level module (`None` for lib.rs and main.rs) and how deep its own module is.
fn place(relative: &str) -> (Option<String>, usize) {
    let parts: Vec<&str> =
        relative.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    match parts.as_slice() {
        ["lib" | "main"] => (None, 0),
        parts => (Some(parts[0].to_owned()), parts.len()),
    }
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    matches!((tokens.get(at), tokens.get(at + 1)),
        (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b))) if a.as_char() == ':' && b.as_char() == ':')
}

fn line_of(ident: &Ident) -> usize {
    ident.span().start().line
}

/// Reads the path (or `use` tree) that starts at `at` and returns the index after it.
fn read_path(tokens: &[TokenTree], mut at: usize, prefix: &[String], found: &mut Vec<NamedPath>) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        let line;
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                segments.push(ident.to_string());
                line = line_of(ident);
                at += 1;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                segments.push("*".to_owned());
                found.push(NamedPath { segments, line: star.span().start().line });
                return at + 1;
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for entry in inner.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                    if !entry.is_empty() {
                        read_path(entry, 0, &segments, found);
                    }
                }
                return at + 1;
            }
            // A turbofish or a qualified path: the segments read so far are the path.
            other => {
                let line = other.map_or(0, |token| token.span().start().line);
                found.push(NamedPath { segments, line });
                return at;
            }
        }
        if !is_path_separator(tokens, at) {
            found.push(NamedPath { segments, line });
            return at;
        }
        at += 2;
    }
}

fn walk(stream: TokenStream, depth: usize, seen: &mut Seen) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(ident) if ident == "mod" => {
                if let (Some(TokenTree::Ident(_)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    walk(body.stream(), depth + 1, seen);
                    at += 3;
                } else {
                    at += 1;
                }
            }
            TokenTree::Ident(ident) if ident == "async" || ident == "await" => {
                seen.asynchronous.push(line_of(ident));
                at += 1;
            }
            TokenTree::Ident(_) => {
                let mut paths = Vec::new();
                at = read_path(&tokens, at, &[], &mut paths);
                for path in paths {
                    seen.idents.extend(path.segments.iter().map(|segment| (segment.clone(), path.line)));
                    seen.paths.push((path, depth));
                }
            }
            TokenTree::Group(group) => {
                walk(group.stream(), depth, seen);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// The top-level module of the crate that a path names, `None` if the path stays inside its own module or leaves the
/// crate. `crate` alone (as in `pub(crate)`) names none.
fn crate_module(path: &NamedPath, depth: usize, in_binary: bool) -> Option<&str> {
    let first = path.segments.first()?;
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    let after = match first.as_str() {
        "crate" => 1,
        "corelane" if in_binary => 1,
        "super" if supers >= depth => supers,
        _ => return None,
    };
    path.segments.get(after).map(String::as_str)
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|(name, _)| *name == module)
}

/// Whether a full path reaches the forbidden one, or imports a folder that contains it.
fn reaches(path: &[String], forbidden: &str) -> bool {
    let forbidden: Vec<&str> = forbidden.split("::").collect();
    let star = path.last().is_some_and(|last| last == "*");
    let named =
        if star || path.last().is_some_and(|last| last == "self") { &path[..path.len() - 1] } else { path };
    let common = named.iter().zip(&forbidden).take_while(|(a, b)| a.as_str() == **b).count();
    common == forbidden.len() || (common == named.len() && common > 0)
}

fn check(relative: &str, source: &str) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    let mut find = |line: usize, what: String| {
        findings.insert(Finding { file: relative.to_owned(), line, what });
    };
    let stream = match TokenStream::from_str(source) {
        Ok(stream) => stream,
        Err(error) => {
            find(0, format!("does not parse: {error}"));
            return findings.into_iter().collect();
        }
    };
    let (own, depth) = place(relative);
    let mut seen = Seen::default();
    walk(stream, depth, &mut seen);

    if own.as_deref() != Some("reactor") {
        for (ident, line) in &seen.idents {
            if ident == "glommio" {
                find(*line, "only src/reactor names glommio".to_owned());
            }
        }
    }
    let Some(own) = own else { return findings.into_iter().collect() };
    let Some(own_rank) = rank(&own) else {
        find(1, format!("`{own}` has no place in the list: give it one in tests/it/layering.rs"));
        return findings.into_iter().collect();
    };
    for (path, depth) in &seen.paths {
        let Some(module) = crate_module(path, *depth, relative == "main.rs") else { continue };
        match rank(module) {
            None => {
                find(path.line, format!("`{module}` is not a top-level module: name the module that owns it"))
            }
            Some(rank) if rank < own_rank => {
                find(path.line, format!("`{own}` imports `{module}`, which is above it"));
            }
            Some(_) => {}
        }
    }
    if ORDER[own_rank].1 == Kind::Pure {
        for line in &seen.asynchronous {
            find(*line, format!("`{own}` is pure: no async, no await"));
        }
        for (path, _) in &seen.paths {
            // A lone identifier is a local name, not a crate.
            if path.segments.len() < 2 {
                continue;
            }
            if let Some(forbidden) = IMPURE.iter().find(|forbidden| reaches(&path.segments, forbidden)) {
                find(path.line, format!("`{own}` is pure: it must not reach {forbidden}"));
            }
        }
        for (ident, line) in &seen.idents {
            if RANDOM_CALLS.contains(&ident.as_str()) {
                find(*line, format!("`{own}` is pure: `{ident}` draws randomness"));
            }
        }
    }
    findings.into_iter().collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn sources_keep_the_layering() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (module, _) in ORDER {
        let there = src.join(module).join("mod.rs").exists() || src.join(format!("{module}.rs")).exists();
        assert!(there, "the list in tests/it/layering.rs names `{module}`, which src/ does not have");
    }
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut findings = Vec::new();
    for path in &files {
        let relative = path.strip_prefix(&src).expect("found below src").to_string_lossy().replace('\\', "/");
        findings.extend(check(&relative, &std::fs::read_to_string(path).expect("a source file is text")));
    }
    let report: Vec<String> = findings.iter().map(|finding| format!("  src/{finding}")).collect();
    assert!(report.is_empty(), "the layering is broken:\n{}", report.join("\n"));
}

/// Each rule, broken and kept. An empty expectation means that nothing may be found.
#[test]
fn every_rule_can_fail() {
    let table: &[(&str, &str, &str)] = &[
        // imports go down
        ("storage/log.rs", "use crate::server::Server;", "`storage` imports `server`"),
        ("storage/log.rs", "use crate::{model::Offset, handlers::produce};", "`storage` imports `handlers`"),
        ("storage/log.rs", "fn f() { crate::partition::route() }", "`storage` imports `partition`"),
        ("storage/log.rs", "fn f() { go!(crate::partition::route()) }", "`storage` imports `partition`"),
        ("storage/mod.rs", "use super::network::Frame;", "`storage` imports `network`"),
        ("storage/log.rs", "use super::super::network::Frame;", "`storage` imports `network`"),
        ("model/ids.rs", "mod inner { use super::super::super::log::Segment; }", "`model` imports `log`"),
        ("model.rs", "pub(in crate::log) fn f() {}", "`model` imports `log`"),
        ("log/mod.rs", "use crate::*;", "`*` is not a top-level module"),
        ("log/mod.rs", "use crate::Segment;", "`Segment` is not a top-level module"),
        ("util/mod.rs", "", "`util` has no place in the list"),
        ("server/mod.rs", "use crate::{handlers, storage::{Storage, Limits}, model};", ""),
        ("storage/log.rs", "use super::segment::X; pub(crate) fn f() { crate::reactor::now() }", ""),
        ("storage/log.rs", "mod tests { use super::super::segment; use super::*; }", ""),
        ("storage/log.rs", "// crate::server\n/// [`crate::server`]\nconst S: &str = \"crate::server\";", ""),
        // one folder names the runtime
        ("storage/log.rs", "use glommio::io::DmaFile;", "only src/reactor names glommio"),
        ("main.rs", "fn main() { glommio::run() }", "only src/reactor names glommio"),
        ("lib.rs", "pub use ::glommio;", "only src/reactor names glommio"),
        ("reactor/file.rs", "use glommio::io::DmaFile;", ""),
        ("storage/log.rs", "// not glommio's\nconst S: &str = \"glommio\";", ""),
        // pure folders stay pure
        ("log/mod.rs", "use std::time::Instant;", "must not reach std::time::Instant"),
        ("log/mod.rs", "use std::time::{Duration, SystemTime};", "must not reach std::time::SystemTime"),
        ("log/mod.rs", "fn f() { std::time::SystemTime::now(); }", "must not reach std::time::SystemTime"),
        ("log/mod.rs", "use std::time;", "must not reach std::time::Instant"),
        ("log/mod.rs", "use std::time::{self, Duration};", "must not reach std::time::Instant"),
        ("log/mod.rs", "use std::{time::*};", "must not reach std::time::Instant"),
        ("protocol/mod.rs", "use std::fs::File;", "must not reach std::fs"),
        ("model/mod.rs", "use std::{collections::HashMap, net};", "must not reach std::net"),
        ("metadata/mod.rs", "fn f() { std::thread::yield_now() }", "must not reach std::thread"),
        ("config.rs", "fn f() -> u8 { rand::random() }", "must not reach rand"),
        ("config.rs", "fn f() { libc::getpid(); }", "must not reach libc"),
        ("metadata/mod.rs", "fn f() -> Uuid { uuid::Uuid::new_v4() }", "`new_v4` draws randomness"),
        ("log/mod.rs", "async fn f() {}", "no async"),
        ("log/mod.rs", "fn f() { g().await }", "no async"),
        ("log/mod.rs", "use std::time::Duration; use std::collections::BTreeMap;", ""),
        ("log/mod.rs", "use uuid::Uuid; fn rand(thread: u8, fs: u8) -> u8 { thread + fs }", ""),
        ("storage/mod.rs", "use std::time::Instant; async fn f() { std::fs::read(\"x\"); g().await }", ""),
    ];
    for (file, source, expected) in table {
        let found = check(file, source);
        if expected.is_empty() {
            assert!(found.is_empty(), "{file}: `{source}` keeps the rules, but the check says {found:?}");
        } else {
            assert!(
                found.len() == 1 && found[0].what.contains(expected),
                "{file}: `{source}` should give `{expected}`, the check says {found:?}"
            );
        }
    }
}
