//! The folders of a virtual disk: what is visible, what is durable, and the changes between the two.
//!
//! Each change (create, rename, remove) is atomic. A flush of a folder makes the changes in it durable; a crash
//! keeps each of the others or loses it, independently.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};

use super::inode::Survival;
use super::random::Random;

pub(super) const ROOT: u64 = 0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub inode: u64,
    pub is_dir: bool,
}

/// One name in one folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub dir: u64,
    pub name: String,
}

#[derive(Clone)]
enum Change {
    Link {
        at: Name,
        child: Child,
    },
    Unlink {
        at: Name,
        child: Child,
    },
    /// Wherever the child's name is then, it ends up here, in place of what is there.
    Move {
        from_dir: u64,
        to: Name,
        child: Child,
    },
}

struct Pending {
    sequence: u64,
    durable: bool,
    change: Change,
}

#[derive(Clone, Default)]
struct Tree {
    dirs: BTreeMap<u64, BTreeMap<String, Child>>,
    /// Every child has one name.
    names: BTreeMap<u64, Name>,
}

pub(super) struct Names {
    visible: Tree,
    /// The durable beginning of all changes.
    base: Tree,
    pending: VecDeque<Pending>,
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { at, child } | Change::Move { to: at, child, .. } => {
                self.forget_name_of(child.inode);
                let replaced = self.dirs.entry(at.dir).or_default().insert(at.name.clone(), *child);
                if let Some(replaced) = replaced {
                    self.names.remove(&replaced.inode);
                }
                self.names.insert(child.inode, at.clone());
                if child.is_dir {
                    self.dirs.entry(child.inode).or_default();
                }
            }
            Change::Unlink { at, child } => {
                if self.names.get(&child.inode) == Some(at) {
                    self.forget_name_of(child.inode);
                }
            }
        }
    }

    fn forget_name_of(&mut self, inode: u64) {
        if let Some(old) = self.names.remove(&inode)
            && let Some(dir) = self.dirs.get_mut(&old.dir)
        {
            dir.remove(&old.name);
        }
    }

    /// Drops what no path leads to.
    fn prune(&mut self) {
        let mut reached = Tree::default();
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            let children = self.dirs.remove(&dir).unwrap_or_default();
            for (name, child) in &children {
                reached.names.insert(child.inode, Name { dir, name: name.clone() });
                if child.is_dir {
                    todo.push(child.inode);
                }
            }
            reached.dirs.insert(dir, children);
        }
        *self = reached;
    }
}

impl Names {
    pub fn new() -> Names {
        let mut tree = Tree::default();
        tree.dirs.insert(ROOT, BTreeMap::new());
        Names { visible: tree.clone(), base: tree, pending: VecDeque::new() }
    }

    pub fn child(&self, at: &Name) -> Option<Child> {
        self.visible.dirs.get(&at.dir)?.get(&at.name).copied()
    }

    pub fn children(&self, dir: u64) -> impl Iterator<Item = (&String, Child)> {
        self.visible.dirs.get(&dir).into_iter().flatten().map(|(name, child)| (name, *child))
    }

    /// The folder and last name of a path; relative paths begin at the root.
    pub fn locate(&self, path: &Path) -> io::Result<Option<Name>> {
        let mut at: Option<Name> = None;
        for component in path.components() {
            let part = match component {
                Component::RootDir | Component::CurDir => continue,
                Component::Normal(part) => part,
                Component::ParentDir | Component::Prefix(_) => return Err(error(libc::EINVAL)),
            };
            let dir = match &at {
                None => ROOT,
                Some(parent) => match self.child(parent) {
                    Some(Child { inode, is_dir: true }) => inode,
                    Some(_) => return Err(error(libc::ENOTDIR)),
                    None => return Err(error(libc::ENOENT)),
                },
            };
            at = Some(Name { dir, name: text(part)? });
        }
        Ok(at)
    }

    /// What a path stands for; the root is a folder.
    pub fn resolve(&self, path: &Path) -> io::Result<Child> {
        match self.locate(path)? {
            None => Ok(Child { inode: ROOT, is_dir: true }),
            Some(at) => self.child(&at).ok_or_else(|| error(libc::ENOENT)),
        }
    }

    pub fn resolve_dir(&self, path: &Path) -> io::Result<u64> {
        let child = self.resolve(path)?;
        if child.is_dir { Ok(child.inode) } else { Err(error(libc::ENOTDIR)) }
    }

    pub fn link(&mut self, sequence: u64, at: Name, child: Child) {
        self.change(sequence, Change::Link { at, child });
    }

    pub fn unlink(&mut self, sequence: u64, at: Name, child: Child) {
        self.change(sequence, Change::Unlink { at, child });
    }

    pub fn rename(&mut self, sequence: u64, from: &Name, to: Name, child: Child) {
        self.change(sequence, Change::Move { from_dir: from.dir, to, child });
    }

    fn change(&mut self, sequence: u64, change: Change) {
        self.visible.apply(&change);
        self.pending.push_back(Pending { sequence, durable: false, change });
    }

    /// A flush of one folder that began at `sequence` came back.
    pub fn flushed(&mut self, dir: u64, sequence: u64) {
        for pending in self.pending.iter_mut().filter(|pending| pending.sequence <= sequence) {
            pending.durable |= match &pending.change {
                Change::Link { at, .. } | Change::Unlink { at, .. } => at.dir == dir,
                Change::Move { from_dir, to, .. } => *from_dir == dir || to.dir == dir,
            };
        }
        while self.pending.front().is_some_and(|pending| pending.durable) {
            let pending = self.pending.pop_front().expect("it was looked at");
            self.base.apply(&pending.change);
        }
    }

    /// Power was lost: each change that no flush covered is kept or not.
    pub fn crash(&mut self, survival: Survival, random: &mut Random) {
        for pending in std::mem::take(&mut self.pending) {
            let kept = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Mixed => random.coin(),
            };
            if pending.durable || kept {
                self.base.apply(&pending.change);
            }
        }
        self.base.prune();
        self.visible = self.base.clone();
    }

    /// Everything visible becomes durable.
    pub fn settle(&mut self) {
        self.pending.clear();
        self.visible.prune();
        self.base = self.visible.clone();
    }

    /// The inodes that a name stands for, or may stand for after a crash.
    pub fn is_named(&self, inode: u64) -> bool {
        self.visible.names.contains_key(&inode)
    }

    /// No change waits for a flush, so an inode without a name is gone for good.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }
}

fn text(part: &OsStr) -> io::Result<String> {
    part.to_str().map(str::to_owned).ok_or_else(|| error(libc::EINVAL))
}

pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
