//! The host as it is read once for a run: its root, its processors and the disk below the data directory.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::data_disk::DataDisk;
use crate::root::Root;
use crate::rule::processor_list;

/// Which host, and which of its disks.
#[derive(Args, Clone, Debug)]
#[group(skip)] // of this name there is one already where it is flattened in
pub(crate) struct Options {
    /// The broker's data directory (its nearest parent that exists is looked at).
    #[arg(long, value_name = "DIR", default_value = "./corelane-data")]
    pub(crate) data: PathBuf,

    /// A directory that stands in for the host's root.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub(crate) root: PathBuf,
}

pub(crate) struct Host {
    pub(crate) root: Root,
    /// Numbers of the processors that are on line.
    pub(crate) processors: Vec<u32>,
    pub(crate) data: DataDisk,
}

impl Host {
    pub(crate) fn read(options: &Options) -> Result<Host, String> {
        let root = Root::new(&options.root);
        let directory = if root.is_host() {
            let existing = existing_ancestor(&options.data)?;
            existing
                .canonicalize()
                .map_err(|error| format!("{} cannot be looked at: {error}", existing.display()))?
        } else {
            std::path::absolute(&options.data)
                .map_err(|error| format!("{} is no directory's name: {error}", options.data.display()))?
        };
        let processors = processors(&root);
        let data = DataDisk::below(&root, &directory);
        Ok(Host { root, processors, data })
    }

    /// The same file of each processor; `{}` in the path stands for its number.
    pub(crate) fn each_processor(&self, path: &str) -> Vec<String> {
        self.processors.iter().map(|number| path.replace("{}", &number.to_string())).collect()
    }

    /// The same file of each disk below the data directory.
    pub(crate) fn each_disk(&self, file: &str) -> Vec<String> {
        self.data.disks.iter().map(|disk| format!("/sys/block/{disk}/{file}")).collect()
    }
}

/// The directory itself or its nearest parent that is there: where the broker would create it.
pub(crate) fn existing_ancestor(directory: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(directory)
        .map_err(|error| format!("{} is no directory's name: {error}", directory.display()))?;
    match absolute.ancestors().find(|ancestor| ancestor.is_dir()) {
        Some(ancestor) => Ok(ancestor.to_path_buf()),
        None => Err(format!("neither {} nor a parent of it exists", absolute.display())),
    }
}

fn processors(root: &Root) -> Vec<u32> {
    if let Some(online) = root.read("/sys/devices/system/cpu/online").ok().as_deref().and_then(processor_list)
        && !online.is_empty()
    {
        return online;
    }
    let names = root.list("/sys/devices/system/cpu");
    names.iter().filter_map(|name| name.strip_prefix("cpu")?.parse().ok()).collect()
}
