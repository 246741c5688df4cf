//! Apache Kafka from Maven Central: the broker, one node, with the settings its distribution comes with, and its tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process::{Process, run};

/// The release that is taken if no other is asked for.
pub const VERSION: &str = "4.3.1";

/// Any id will do for a cluster of one.
const CLUSTER_ID: &str = "Y29yZWxhbmUtY29tcGFyZQ";

/// What `bin/kafka-server-start.sh` gives the JVM.
const JVM: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

const POM: &str = include_str!("kafka.pom.xml");

/// Beside what the tools print, which people and tests read.
const LOGGING: &str = "Configuration:
  Appenders:
    Console:
      name: STDERR
      target: SYSTEM_ERR
      PatternLayout:
        Pattern: \"[%d] %p %m (%c)%n\"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        - ref: STDERR
";

/// An installed Kafka.
pub struct Kafka {
    folder: PathBuf,
    version: String,
}

impl Kafka {
    /// Gets the jars into the folder, if they are not there.
    ///
    /// # Errors
    /// No Maven, no Java, no network.
    pub fn install(folder: &Path, version: &str) -> Result<Kafka> {
        let folder = folder.join(format!("kafka-{version}"));
        // a folder that is half done has none
        let complete = folder.join("complete");
        if !std::fs::read_to_string(&complete).is_ok_and(|recipe| recipe == POM) {
            for tool in ["java", "mvn"] {
                let found = Command::new(tool).arg("--version").output().is_ok();
                if !found {
                    bail!("{tool} is missing: `apt-get install default-jre-headless maven`");
                }
            }
            std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
            std::fs::write(folder.join("pom.xml"), POM)?;
            std::fs::write(folder.join("log4j2.yaml"), LOGGING)?;
            eprintln!("getting Apache Kafka {version} from Maven Central");
            let mut maven = Command::new("mvn");
            maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=libs"]);
            maven
                .arg("-DincludeScope=runtime")
                .arg(format!("-Dkafka.version={version}"))
                .current_dir(&folder);
            run(&mut maven)?;
            std::fs::write(&complete, POM)?;
        }
        Ok(Kafka { folder, version: version.to_owned() })
    }

    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The folder of its jars.
    #[must_use]
    pub fn jars(&self) -> PathBuf {
        self.folder.join("libs")
    }

    /// What its programs are told of logging.
    #[must_use]
    pub fn logging(&self) -> PathBuf {
        self.folder.join("log4j2.yaml")
    }

    /// `config/server.properties` of the distribution, with our port and data directory.
    #[must_use]
    pub fn properties(port: u16, controller_port: u16, data: &Path) -> String {
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@localhost:{controller_port}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             num.network.threads=3\n\
             num.io.threads=8\n\
             socket.send.buffer.bytes=102400\n\
             socket.receive.buffer.bytes=102400\n\
             socket.request.max.bytes=104857600\n\
             log.dirs={}\n\
             num.partitions=1\n\
             num.recovery.threads.per.data.dir=2\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             log.retention.hours=168\n\
             log.segment.bytes=1073741824\n\
             log.retention.check.interval.ms=300000\n",
            data.display()
        )
    }

    /// How the broker's JVM is started.
    #[must_use]
    pub fn jvm() -> String {
        JVM.join(" ")
    }

    /// One of Kafka's programs by its main class.
    #[must_use]
    pub fn program(&self, jvm: &[&str], class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(jvm).arg("-Dlog4j2.configurationFile=log4j2.yaml").args(["-cp", "libs/*", class]);
        command.current_dir(&self.folder);
        command
    }

    /// Starts a broker on the data directory, which is formatted before if it is empty.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, port: u16, controller_port: u16, data: &Path, cpus: Option<&str>) -> Result<Process> {
        std::fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
        let data = data.canonicalize()?;
        let properties = data.with_extension("properties");
        std::fs::write(&properties, Kafka::properties(port, controller_port, &data))?;
        if !data.join("meta.properties").exists() {
            let mut format = self.program(&[], "kafka.tools.StorageTool");
            run(format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&properties))?;
        }
        let mut server = self.program(JVM, "kafka.Kafka");
        server.arg(&properties);
        Process::start(&server, cpus, &format!("127.0.0.1:{port}"), &data.with_extension("log"))
    }
}
