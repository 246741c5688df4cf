//! File systems of a few MiB to fill: on a loop device where we may, else in memory; and a device that fails.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Setup, TempDir};

/// A small file system. Goes away with its owner.
pub struct SmallDisk {
    kind: Kind,
    // Last: the mount goes first.
    dir: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// ext4 on a loop device, mounted for everybody.
    Loop,
    /// The same, and the device is a file on a tmpfs that is too small for it.
    Failing,
    /// A tmpfs that only the broker sees, in a namespace of its own: no privilege is needed. Gone when the broker ends.
    Memory { mib: u64 },
}

fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(format!("{program} {arguments:?}: {} {}", output.status, said(&output.stderr))),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

impl SmallDisk {
    /// One of `mib` MiB.
    pub fn new(mib: u64) -> SmallDisk {
        SmallDisk::on_loop(mib).unwrap_or_else(|refused| {
            eprintln!("no loop device, so the small disk is a tmpfs: {refused}");
            SmallDisk { kind: Kind::Memory { mib }, dir: TempDir::new() }
        })
    }

    /// # Errors
    /// What is refused: loop devices are root's.
    pub fn on_loop(mib: u64) -> Result<SmallDisk, String> {
        let dir = TempDir::new();
        let image = dir.path().join("image");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(mib << 20))
            .map_err(|error| error.to_string())?;
        try_run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?;
        let mount = dir.path().join("mount");
        std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
        try_run("mount", &["-o", "loop", text(&image), text(&mount)])?;
        Ok(SmallDisk { kind: Kind::Loop, dir })
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// A broker with its log directory on this disk.
    pub fn setup(&self) -> Setup {
        match self.kind {
            Kind::Loop | Kind::Failing => Setup::new().set("log.dirs", self.mount().join("data").display()),
            Kind::Memory { mib } => {
                let mount = self.mount();
                std::fs::create_dir_all(&mount).expect("target/tmp is writable");
                let script = format!("mount -t tmpfs -o size={mib}m none {} && exec \"$@\"", mount.display());
                Setup::new()
                    .set("log.dirs", mount.join("data").display())
                    .under(&["unshare", "-rm", "sh", "-c", &script, "sh"])
            }
        }
    }

    /// One of `mib` MiB on a device that is promised more than it can hold: writes behind its first `held_mib` MiB fail
    /// once so much is held, until [`Self::heal`]; reads do not. The file system's own records are in front.
    ///
    /// # Errors
    /// What is refused: mounts are root's.
    pub fn failing(mib: u64, held_mib: u64) -> Result<SmallDisk, String> {
        let dir = TempDir::new();
        let [store, mount] = ["store", "mount"].map(|name| dir.path().join(name));
        [&store, &mount].iter().try_for_each(std::fs::create_dir).map_err(|error| error.to_string())?;
        let size = format!("size={held_mib}m");
        try_run("mount", &["-t", "tmpfs", "-o", &size, "none", text(&store)])?;
        let disk = SmallDisk { kind: Kind::Failing, dir };
        let image = store.join("image");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mib << 20).map_err(|error| error.to_string())?;
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        let journal = "size=4,location=0";
        try_run(
            "mkfs.ext4",
            &["-q", "-F", "-m", "0", "-b", "4096", "-J", journal, "-E", options, text(&image)],
        )?;
        // what is in front is held from the start, the holes that mkfs leaves included
        let held = i64::try_from((held_mib - 1) << 20).expect("small");
        // SAFETY: posix_fallocate takes a descriptor that is open here and two numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, held) } {
            0 => {}
            error => return Err(std::io::Error::from_raw_os_error(error).to_string()),
        }
        try_run("mount", &["-o", "loop", text(&image), text(&mount)])?;
        // A loop device takes a write of which its file has held a part for a whole one: no write has parts here.
        let device = try_run("losetup", &["-n", "-O", "NAME", "-j", text(&image)])?;
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4")
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(disk)
    }

    /// The device holds all of `mib` MiB from now on.
    pub fn heal(&self, mib: u64) {
        let size = format!("remount,size={}m", mib + 8);
        try_run("mount", &["-o", &size, text(&self.dir.path().join("store"))]).expect("it can be larger");
    }

    /// Where somebody else may put a file on it, and a kill -9 leaves the files.
    pub fn shared(&self) -> Option<PathBuf> {
        (!matches!(self.kind, Kind::Memory { .. })).then(|| self.mount())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mounts: &[&str] = match self.kind {
            Kind::Loop => &["mount"],
            Kind::Failing => &["mount", "store"],
            Kind::Memory { .. } => &[],
        };
        for mount in mounts {
            // lazily: the kernel lets go of the files of a broker some milliseconds after its end
            if let Err(error) = try_run("umount", &["-l", text(&self.dir.path().join(mount))]) {
                eprintln!("{error}");
            }
        }
    }
}
