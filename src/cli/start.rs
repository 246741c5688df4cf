//! `corelane start`: configuration, directories, one shard per core, serve, stop.

mod addresses;
mod node;
mod stop;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::logging::{self, LogFormat};
use crate::cluster::Directories;
use crate::config::{Config, Severity};
use crate::partition::MESH_DEPTH;
use crate::reactor::{self, Cores};
use crate::server::Limits;
use addresses::ShardPorts;
use node::NodePlan;
use stop::StopSignal;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Settings with Kafka's own property names (server.properties).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over the file; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// CPUs to run on, one pinned shard each (0-3,6); default: every CPU this process may use.
    #[arg(long, value_name = "LIST", conflicts_with = "shards")]
    cores: Option<String>,
    /// This many shards, not pinned: for tests on machines with fewer CPUs.
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What to log: a level, or targets with levels.
    #[arg(long, default_value = "info", env = "CORELANE_LOG")]
    log: String,
}

/// Returns after a clean stop; an error is one line that says what to change.
pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let started_ms = reactor::wall_clock_ms();
    let loggers = logging::start(arguments.log_format, &arguments.log)?;
    let config = load(arguments)?;
    let cores = cores(arguments, &config)?;
    let shards = cores.count().map_err(|error| error.to_string())?;
    let addresses = addresses::listeners(&config)?;
    let shard_ports = ShardPorts::bind(&config, &addresses, shards)?;
    let admin_addresses = addresses::admin(&config, &addresses)?;
    let directories =
        Directories::prepare(&config.log_dirs, config.node_id, || uuid::Uuid::new_v4().as_u128())
            .map_err(|error| error.to_string())?;
    let stop = StopSignal::install().map_err(|error| format!("cannot handle signals: {error}"))?;
    let core_list = describe_cores(&cores);
    let options = reactor::Options {
        cores,
        spin: Duration::from_micros(config.spin_us),
        mesh_depth: MESH_DEPTH,
        probe_file: directories.probe_file(),
    };
    let limits = Limits::new(&config)?;
    let plan = Arc::new(NodePlan {
        config,
        core_list,
        addresses,
        shard_ports,
        admin_addresses,
        started_ms,
        directories,
        stop,
        limits,
        lanes: OnceLock::new(),
        loggers,
    });
    let shards = Arc::clone(&plan);
    let results = reactor::run(&options, move |context| node::run_shard(context, Arc::clone(&shards)))
        .map_err(|error| error.to_string())?;
    let (mut broker_epoch, mut unclean) = (-1, Vec::new());
    for result in results {
        let ended = result?;
        broker_epoch = broker_epoch.max(ended.broker_epoch);
        unclean.extend(ended.unclean);
    }
    plan.directories.mark_clean(broker_epoch, &unclean).map_err(|error| error.to_string())?;
    tracing::info!("stopped cleanly");
    Ok(())
}

fn load(arguments: &Arguments) -> Result<Config, String> {
    let file = match &arguments.config {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read the configuration {}: {error}", path.display()))?;
            Some((path.display().to_string(), text))
        }
    };
    let file = file.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
    let (config, warnings) = Config::load(file, &arguments.sets).map_err(|error| error.to_string())?;
    for warning in warnings {
        match warning.severity {
            Severity::Info => tracing::info!("{warning}"),
            Severity::Warning => tracing::warn!("{warning}"),
        }
    }
    let open: Vec<_> = config.open_listeners().into_iter().map(|listener| listener.name.as_str()).collect();
    if !open.is_empty() {
        tracing::warn!(
            "listener {} takes anyone who can reach this host, without authentication; bind it to localhost or keep \
             the network closed",
            open.join(", ")
        );
    }
    Ok(config)
}

fn cores(arguments: &Arguments, config: &Config) -> Result<Cores, String> {
    match (arguments.shards, arguments.cores.as_ref().or(config.cores.as_ref())) {
        (Some(0), _) => Err("--shards 0: a broker needs at least one shard".to_owned()),
        (Some(count), _) => Ok(Cores::Unpinned(count)),
        (None, Some(list)) => list.parse().map_err(|error: reactor::StartError| error.to_string()),
        (None, None) => Ok(Cores::All),
    }
}

/// For the banner: where the shards run, in shard order.
fn describe_cores(cores: &Cores) -> String {
    let list =
        |ids: &mut dyn Iterator<Item = usize>| ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    match cores {
        Cores::All => {
            let ids = core_affinity::get_core_ids().unwrap_or_default();
            format!("{} (pinned)", list(&mut ids.into_iter().map(|core| core.id)))
        }
        Cores::List(ids) => format!("{} (pinned)", list(&mut ids.iter().copied())),
        Cores::Unpinned(_) => "any (not pinned)".to_owned(),
    }
}
