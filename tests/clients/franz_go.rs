//! The programs in `franz_go/`, which speak by franz-go: each a folder of the one Go module, built once a run.
//!
//! Go's own file beside them pins franz-go and its checksums; compiled packages and modules are kept in
//! `target/tmp/clients/go`, so that building what has not changed takes a moment.

use crate::install::{clients, go, sources};
use crate::run::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// A program by the name of its folder; its arguments are for whoever runs it.
pub fn franz_go(program: &str) -> Command {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(build);
    Command::new(PROGRAMS.join(program))
}

fn module() -> PathBuf {
    sources().join("franz_go")
}

/// Whether this Go is recent enough for the module.
pub fn builds(go: &Path) -> bool {
    command(go).args(["list", "-m"]).output().is_ok_and(|output| output.status.success())
}

/// Go in the module's folder, with nothing of what the user has set for other work.
fn command(go: &Path) -> Command {
    let folder = clients().join("go");
    let mut command = Command::new(go);
    command.current_dir(module());
    command.env("GOPATH", folder.join("path")).env("GOCACHE", folder.join("cache"));
    command.env("GOMODCACHE", folder.join("modules"));
    // Modules that can be deleted as any other file; go.sum as it is; no look at who has committed what.
    command.env("GOFLAGS", "-modcacherw -mod=readonly -buildvcs=false -trimpath");
    // The Go that was asked, and never one that it would get by itself. No compiler of C is needed.
    command.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env("CGO_ENABLED", "0");
    command
}

/// The folder with the programs.
fn build() -> PathBuf {
    let programs = clients().join("go/bin");
    std::fs::create_dir_all(&programs).expect("target/tmp is writable");
    let mut command = command(go());
    command.arg("build").arg("-o").arg(&programs).arg("./...");
    run(command);
    programs
}
