//! The clients the tests speak with, installed on first use.
//!
//! Python packages go into a virtual environment, Kafka's jars into a folder, both under `target/tmp/clients` and both
//! kept until the pinned versions change. kcat and Maven come from the system's packages.

use crate::run::run;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The release whose tools and formats are compared with.
const KAFKA: &str = "4.3.1";
const LOG4J: &str = "2.25.5";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name)
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
        let folder = kept("python");
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
            let mut command = Command::new(&python);
            command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
            command.arg(sources().join("requirements.txt"));
            run(command);
        });
        python
    });
    &PYTHON
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

/// What Kafka is fetched with and runs on.
pub fn java_and_maven() {
    system_package("java", "default-jre-headless");
    system_package("mvn", "maven");
}

/// A tool of Kafka's by its main class.
pub fn kafka(class: &str) -> Command {
    static LIBRARIES: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = kept("kafka");
        install_once(&folder, &pom(), || {
            java_and_maven();
            std::fs::write(folder.join("pom.xml"), pom()).expect("target/tmp is writable");
            let mut command = Command::new("mvn");
            command.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
            command.args(["-DoutputDirectory=libs", "-DincludeScope=runtime"]).current_dir(&folder);
            run(command);
            std::fs::write(folder.join("log4j2.yaml"), LOGGING).expect("target/tmp is writable");
        });
        folder
    });
    let mut command = Command::new("java");
    command.args([
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-Dlog4j2.configurationFile=log4j2.yaml",
        "-cp",
        "libs/*",
    ]);
    command.arg(class).current_dir(&*LIBRARIES);
    command
}

const LOGGING: &str = r#"Configuration:
  Appenders: {Console: {name: C, target: SYSTEM_ERR, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: C}}}
"#;

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", KAFKA),
        dependency("org.apache.kafka", "kafka-tools", KAFKA),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J),
        dependency("org.apache.logging.log4j", "log4j-core", LOG4J),
        dependency("org.apache.logging.log4j", "log4j-1.2-api", LOG4J),
    ];
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>corelane</groupId><artifactId>kafka-tools</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{}</dependencies></project>\n",
        dependencies.concat()
    )
}
