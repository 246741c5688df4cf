//! One virtual file: every version of every page and of the length that a crash may still bring back.
//!
//! The first version of a page is what the medium certainly has; later ones are completed writes that no flush
//! has covered, the last of them is what readers see. A crash picks a version for each 512-byte sector.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::random::Random;

pub(super) const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const SECTORS: usize = PAGE_BYTES / SECTOR_BYTES;

/// Unsynced versions that are remembered; beyond it one in the middle is forgotten.
const VERSIONS_MAX: usize = 5;

/// `None` is all zeros.
type Contents = Option<Rc<[u8; PAGE_BYTES]>>;

#[derive(Clone)]
struct Version<T> {
    /// Order among everything that happened to the disk.
    sequence: u64,
    /// A failed flush has covered it: the kernel believes it clean, so no later flush makes it durable.
    forgotten: bool,
    value: T,
}

/// A value with its durable version first and the visible one last.
#[derive(Clone)]
struct Versions<T>(Vec<Version<T>>);

impl<T: Clone> Versions<T> {
    fn durable(value: T) -> Versions<T> {
        Versions(vec![Version { sequence: 0, forgotten: false, value }])
    }

    fn visible(&self) -> &T {
        &self.0.last().expect("there is always one version").value
    }

    fn is_dirty(&self) -> bool {
        self.0.len() > 1
    }

    /// `flushing`: a flush is under way that may rely on any of the versions.
    fn push(&mut self, sequence: u64, value: T, flushing: bool, random: &mut Random) {
        self.0.push(Version { sequence, forgotten: false, value });
        if self.0.len() > VERSIONS_MAX && !flushing {
            let middle = 1 + random.index(self.0.len() - 2);
            self.0.remove(middle);
        }
    }

    /// Everything up to `sequence` is on the medium.
    fn flushed(&mut self, sequence: u64) {
        let covered = self.0.iter().rposition(|version| version.sequence <= sequence && !version.forgotten);
        self.0.drain(..covered.unwrap_or(0));
    }

    fn forget(&mut self, sequence: u64) {
        for version in self.0.iter_mut().skip(1).filter(|version| version.sequence <= sequence) {
            version.forgotten = true;
        }
    }
}

/// How much of what no flush covered survives. Extremes are as likely as mixtures: they find other bugs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survival {
    Nothing,
    Everything,
    /// Each page or name by itself: old, new, or (pages) sector by sector.
    Mixed,
}

impl Survival {
    pub fn draw(random: &mut Random) -> Survival {
        match random.below(6) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Mixed,
        }
    }
}

pub(super) struct Inode {
    lengths: Versions<u64>,
    pages: BTreeMap<u64, Versions<Contents>>,
    /// Pages with more than one version.
    dirty: Vec<u64>,
    /// Pages from the start whose space is reserved.
    reserved_pages: u64,
    /// Pages outside the reservation that hold data.
    extra_pages: u64,
    /// Flushes under way.
    pub flushing: u32,
    /// Open handles.
    pub open: u32,
    pub modified_ms: i64,
}

impl Inode {
    pub fn new(modified_ms: i64) -> Inode {
        Inode {
            lengths: Versions::durable(0),
            pages: BTreeMap::new(),
            dirty: Vec::new(),
            reserved_pages: 0,
            extra_pages: 0,
            flushing: 0,
            open: 0,
            modified_ms,
        }
    }

    pub fn len(&self) -> u64 {
        *self.lengths.visible()
    }

    pub fn allocated_bytes(&self) -> u64 {
        (self.reserved_pages + self.extra_pages) * PAGE_BYTES as u64
    }

    /// Bytes of space that a write to these pages takes beyond what the file has.
    pub fn bytes_to_write(&self, first_page: u64, pages: u64) -> u64 {
        let end = first_page + pages;
        let outside = end.saturating_sub(first_page.max(self.reserved_pages));
        let held = if outside == 0 { 0 } else { self.data_pages(first_page.max(self.reserved_pages), end) };
        (outside - held) * PAGE_BYTES as u64
    }

    pub fn bytes_to_reserve(&self, len: u64) -> u64 {
        let end = len.div_ceil(PAGE_BYTES as u64);
        if end <= self.reserved_pages {
            return 0;
        }
        (end - self.reserved_pages - self.data_pages(self.reserved_pages, end)) * PAGE_BYTES as u64
    }

    fn data_pages(&self, from: u64, to: u64) -> u64 {
        self.pages.range(from..to).filter(|(_, page)| page.visible().is_some()).count() as u64
    }

    fn is_data(&self, page: u64) -> bool {
        self.pages.get(&page).is_some_and(|page| page.visible().is_some())
    }

    fn push_page(&mut self, index: u64, sequence: u64, contents: Contents, random: &mut Random) {
        if index >= self.reserved_pages {
            let before = self.is_data(index);
            self.extra_pages = self.extra_pages + u64::from(contents.is_some()) - u64::from(before);
        }
        let page = self.pages.entry(index).or_insert_with(|| Versions::durable(None));
        if !page.is_dirty() {
            self.dirty.push(index);
        }
        page.push(sequence, contents, self.flushing > 0, random);
    }

    fn push_length(&mut self, sequence: u64, len: u64, random: &mut Random) {
        self.lengths.push(sequence, len, self.flushing > 0, random);
    }

    /// One page of a write, whole.
    pub fn write_page(&mut self, index: u64, sequence: u64, bytes: &[u8], random: &mut Random) {
        let contents: Rc<[u8; PAGE_BYTES]> = Rc::new(bytes.try_into().expect("a whole page"));
        self.push_page(index, sequence, Some(contents), random);
    }

    /// One page of a write that was cut short: each sector old or new.
    pub fn tear_page(&mut self, index: u64, sequence: u64, bytes: &[u8], random: &mut Random) {
        let mut torn = self.page(index);
        let kept = random.next();
        for sector in (0..SECTORS).filter(|sector| kept >> sector & 1 == 1) {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            torn[range.clone()].copy_from_slice(&bytes[range]);
        }
        self.push_page(index, sequence, Some(Rc::new(torn)), random);
    }

    pub fn extend(&mut self, sequence: u64, len: u64, random: &mut Random) {
        if len > self.len() {
            self.push_length(sequence, len, random);
        }
    }

    pub fn reserve(&mut self, sequence: u64, len: u64, random: &mut Random) {
        let end = len.div_ceil(PAGE_BYTES as u64);
        if end > self.reserved_pages {
            self.extra_pages -= self.data_pages(self.reserved_pages, end);
            self.reserved_pages = end;
        }
        self.extend(sequence, len, random);
    }

    pub fn truncate(&mut self, sequence: u64, len: u64, random: &mut Random) {
        if len < self.len() {
            let within = (len % PAGE_BYTES as u64) as usize;
            let boundary = len / PAGE_BYTES as u64;
            if within > 0 && self.is_data(boundary) {
                let mut page = self.page(boundary);
                page[within..].fill(0);
                self.push_page(boundary, sequence, Some(Rc::new(page)), random);
            }
            let first_gone = len.div_ceil(PAGE_BYTES as u64);
            let gone: Vec<u64> = self
                .pages
                .range(first_gone..)
                .filter(|(_, page)| page.visible().is_some())
                .map(|(&index, _)| index)
                .collect();
            for index in gone {
                self.push_page(index, sequence, None, random);
            }
            self.reserved_pages = self.reserved_pages.min(first_gone);
        }
        if len != self.len() {
            self.push_length(sequence, len, random);
        }
    }

    /// What a reader sees of one page.
    pub fn page(&self, index: u64) -> [u8; PAGE_BYTES] {
        match self.pages.get(&index).map(Versions::visible) {
            Some(Some(contents)) => **contents,
            _ => [0; PAGE_BYTES],
        }
    }

    /// Copies what a reader sees from `position` on into `out`; the caller has checked the length.
    pub fn read(&self, position: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = position + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let count = (PAGE_BYTES - within).min(out.len() - done);
            let target = &mut out[done..done + count];
            match self.pages.get(&(at / PAGE_BYTES as u64)).map(Versions::visible) {
                Some(Some(contents)) => target.copy_from_slice(&contents[within..within + count]),
                _ => target.fill(0),
            }
            done += count;
        }
    }

    /// Flips one bit wherever the medium or a cache holds it.
    pub fn flip_bit(&mut self, byte: u64, bit: u32) {
        if let Some(page) = self.pages.get_mut(&(byte / PAGE_BYTES as u64)) {
            for contents in page.0.iter_mut().filter_map(|version| version.value.as_mut()) {
                Rc::make_mut(contents)[(byte % PAGE_BYTES as u64) as usize] ^= 1 << bit;
            }
        }
    }

    /// A flush that began at `sequence` came back well.
    pub fn flushed(&mut self, sequence: u64) {
        self.pages_flushed(0..u64::MAX, sequence);
    }

    /// These pages, as they were at `sequence`, are on the medium, and the length that it takes to read them.
    pub fn pages_flushed(&mut self, range: Range<u64>, sequence: u64) {
        self.lengths.flushed(sequence);
        let pages = &mut self.pages;
        self.dirty.retain(|index| {
            if !range.contains(index) {
                return true;
            }
            let page = pages.get_mut(index).expect("a dirty page is there");
            page.flushed(sequence);
            let dirty = page.is_dirty();
            if !dirty && page.visible().is_none() {
                pages.remove(index);
            }
            dirty
        });
    }

    /// A flush that began at `sequence` failed: what it covered stays visible or falls back, and no later flush
    /// saves it.
    pub fn flush_failed(&mut self, sequence: u64, random: &mut Random) {
        self.pages_flush_failed(0..u64::MAX, sequence, random);
    }

    pub fn pages_flush_failed(&mut self, range: Range<u64>, sequence: u64, random: &mut Random) {
        self.lengths.forget(sequence);
        for position in 0..self.dirty.len() {
            let index = self.dirty[position];
            if !range.contains(&index) {
                continue;
            }
            let page = self.pages.get_mut(&index).expect("a dirty page is there");
            page.forget(sequence);
            if page.0.last().is_some_and(|version| version.forgotten) && random.coin() {
                let fallen_back = pick(page, Survival::Mixed, random);
                self.push_page(index, sequence, fallen_back, random);
                let page = self.pages.get_mut(&index).expect("it was just pushed to");
                page.forget(sequence);
            }
        }
    }

    /// Power was lost: what remains becomes the only version. Returns how many pages lost something.
    pub fn crash(&mut self, survival: Survival, random: &mut Random) -> u64 {
        let lengths = &self.lengths.0;
        let len = match survival {
            Survival::Nothing => lengths[0].value,
            Survival::Everything => *self.lengths.visible(),
            Survival::Mixed => lengths[random.index(lengths.len())].value,
        };
        self.lengths = Versions::durable(len);
        let mut lost = 0;
        for index in std::mem::take(&mut self.dirty) {
            let page = self.pages.get_mut(&index).expect("a dirty page is there");
            let contents = pick(page, survival, random);
            lost += u64::from(contents != *page.visible());
            *page = Versions::durable(contents);
        }
        let kept_pages = len.div_ceil(PAGE_BYTES as u64);
        drop(self.pages.split_off(&kept_pages));
        let within = (len % PAGE_BYTES as u64) as usize;
        if within > 0
            && let Some(page) = self.pages.get_mut(&(kept_pages - 1))
            && let Some(contents) = page.0[0].value.as_mut()
        {
            Rc::make_mut(contents)[within..].fill(0);
        }
        self.pages.retain(|_, page| page.visible().is_some());
        self.reserved_pages = self.reserved_pages.min(kept_pages);
        self.extra_pages = self.data_pages(self.reserved_pages, u64::MAX);
        self.flushing = 0;
        self.open = 0;
        lost
    }
}

/// What one page is after a crash.
fn pick(page: &Versions<Contents>, survival: Survival, random: &mut Random) -> Contents {
    let versions = &page.0;
    match survival {
        Survival::Nothing => versions[0].value.clone(),
        Survival::Everything => page.visible().clone(),
        Survival::Mixed => match random.below(3) {
            0 => versions[0].value.clone(),
            1 => page.visible().clone(),
            _ => {
                let mut mixed = [0; PAGE_BYTES];
                for sector in 0..SECTORS {
                    if let Some(contents) = &versions[random.index(versions.len())].value {
                        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                        mixed[range.clone()].copy_from_slice(&contents[range]);
                    }
                }
                Some(Rc::new(mixed))
            }
        },
    }
}
