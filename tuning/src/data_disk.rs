//! The file system and the disks below the data directory.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

use crate::root::Root;

/// Device mapper on RAID on partitions is three deep; a loop in a strange tree must end.
const LAYERS_MAX: usize = 8;

/// Where the data lies. What could not be found is left empty and named in `missing`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct DataDisk {
    pub(crate) directory: String,
    pub(crate) mount_point: String,
    pub(crate) file_system: String,
    /// Options of the mount and of the file system.
    pub(crate) options: Vec<String>,
    /// What is mounted: `/dev/vda`, `tmpfs`, `server:/export`.
    pub(crate) source: String,
    /// Names in /sys/block of whole disks: several below device mapper or RAID.
    pub(crate) disks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<String>,
}

/// One line of /proc/self/mountinfo.
struct Mount {
    device: (u32, u32),
    point: String,
    options: Vec<String>,
    file_system: String,
    source: String,
}

impl DataDisk {
    /// `directory` is absolute and, on the running host, exists.
    pub(crate) fn below(root: &Root, directory: &Path) -> DataDisk {
        let mut disk = DataDisk { directory: directory.display().to_string(), ..DataDisk::default() };
        let Ok(table) = root.read("/proc/self/mountinfo") else {
            disk.missing = Some("/proc/self/mountinfo cannot be read: the file system is not known".into());
            return disk;
        };
        let device = if root.is_host() { device_of(directory) } else { None };
        let Some(mount) = mount_of(&table, directory, device) else {
            disk.missing = Some(format!("no mount in /proc/self/mountinfo holds {}", disk.directory));
            return disk;
        };
        let block = block_device(root, &mount);
        if let Some(name) = &block {
            whole_disks(root, name, LAYERS_MAX, &mut disk.disks);
        }
        if disk.disks.is_empty() {
            disk.missing = Some(match mount.file_system.as_str() {
                "tmpfs" | "ramfs" => format!("{} is memory: there is no disk below it", mount.file_system),
                "overlay" => {
                    "overlay has no disk of its own: point --data at a volume, or check on the host".into()
                }
                "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs" => {
                    format!("{} lies on another machine or on the host above: check there", mount.file_system)
                }
                _ => format!(
                    "no disk found for {} (device {}:{}): /sys shows none",
                    mount.source, mount.device.0, mount.device.1
                ),
            });
        }
        disk.mount_point = mount.point;
        disk.file_system = mount.file_system;
        disk.options = mount.options;
        disk.source = mount.source;
        disk
    }
}

fn device_of(directory: &Path) -> Option<(u32, u32)> {
    let number = std::fs::metadata(directory).ok()?.dev();
    Some((libc::major(number), libc::minor(number)))
}

/// The deepest mount above `directory`. Of several on one point the last hides the others; one with the device
/// that the kernel names goes before any other, unless the file system has made that number up (btrfs).
fn mount_of(table: &str, directory: &Path, device: Option<(u32, u32)>) -> Option<Mount> {
    let above: Vec<Mount> =
        table.lines().filter_map(parse).filter(|mount| directory.starts_with(&mount.point)).collect();
    let same_device = above.iter().any(|mount| Some(mount.device) == device);
    above
        .into_iter()
        .filter(|mount| !same_device || Some(mount.device) == device)
        .max_by_key(|mount| mount.point.len()) // the last of equals
}

/// `27 1 254:0 / /data rw,relatime - ext4 /dev/vda rw,discard`; before the dash any number of optional fields.
fn parse(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let right: Vec<&str> = right.split(' ').collect();
    let (major, minor) = left.get(2)?.split_once(':')?;
    let mut options: Vec<String> = left.get(5)?.split(',').map(str::to_owned).collect();
    for option in right.get(2).unwrap_or(&"").split(',').filter(|option| !option.is_empty()) {
        if !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: unescape(left.get(4)?),
        options,
        file_system: (*right.first()?).to_owned(),
        source: unescape(right.get(1)?),
    })
}

/// `\040` is a space: the kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The path in /sys of the mounted block device: by number, else (btrfs makes its number up) by the name mounted.
fn block_device(root: &Root, mount: &Mount) -> Option<String> {
    let by_number = root.resolve(&format!("/sys/dev/block/{}:{}", mount.device.0, mount.device.1));
    if by_number.is_some() || !mount.source.starts_with("/dev/") {
        return by_number;
    }
    // /dev/mapper/data is a link to /dev/dm-0.
    let device = root.resolve(&mount.source).unwrap_or_else(|| mount.source.clone());
    let name = device.rsplit('/').next()?;
    root.resolve(&format!("/sys/class/block/{name}"))
}

/// Adds the disks that `device` (a path in /sys) ends on.
fn whole_disks(root: &Root, device: &str, layers: usize, disks: &mut Vec<String>) {
    if layers == 0 {
        return;
    }
    let below = root.list(&format!("{device}/slaves"));
    if !below.is_empty() {
        for name in below {
            if let Some(device) = root.resolve(&format!("/sys/class/block/{name}")) {
                whole_disks(root, &device, layers - 1, disks);
            }
        }
        return;
    }
    let mut parts = device.rsplit('/');
    let name = parts.next();
    let whole = if root.exists(&format!("{device}/partition")) { parts.next() } else { name };
    if let Some(whole) = whole.filter(|whole| !disks.iter().any(|disk| disk == whole)) {
        disks.push(whole.to_owned());
    }
}
