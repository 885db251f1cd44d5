//! The files of one log: segments, each named after the offset at which it begins.
//!
//! Offsets count every byte ever written, so a cursor stays right when the oldest segment is
//! dropped. There are two segments at most, each half of the limit.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use berth_common::id::Replica;

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Offset of its first byte in the whole log.
    pub base: u64,
    pub len: u64,
    pub path: PathBuf,
}

impl Segment {
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.len
    }
}

/// Where the files of one log are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    stem: String,
}

impl Place {
    /// `<root>/<job>/<attempt>-<replica>.<base>.log`
    #[must_use]
    pub fn new(root: &Path, replica: Replica) -> Self {
        Self {
            folder: root.join(replica.job.to_string()),
            stem: format!("{}-{}.", replica.attempt, replica.replica),
        }
    }

    fn path(&self, base: u64) -> PathBuf {
        self.folder.join(format!("{}{base:020}.log", self.stem))
    }

    /// Its segments, oldest first; none where there is no log.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut found = Vec::new();
        for entry in read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let base = name
                .to_str()
                .and_then(|name| name.strip_prefix(&self.stem)?.strip_suffix(".log")?.parse::<u64>().ok());
            // One that was dropped since the folder was read has no length any more.
            if let (Some(base), Ok(about)) = (base, entry.metadata()) {
                found.push(Segment { base, len: about.len(), path: entry.path() });
            }
        }
        found.sort_by_key(|segment| segment.base);
        Ok(found)
    }

    /// Removes the log, and its job's folder when that was the last one.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        for segment in self.segments()? {
            std::fs::remove_file(segment.path)?;
        }
        // Not empty, or not there: both are fine.
        let _ = std::fs::remove_dir(&self.folder);
        Ok(())
    }
}

/// Every log under `root`, with its bytes.
///
/// # Errors
/// When a folder cannot be read.
pub fn all(root: &Path) -> io::Result<BTreeMap<Replica, u64>> {
    let mut found = BTreeMap::new();
    for folder in read_dir(root)? {
        let folder = folder?;
        let Some(job) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for file in read_dir(&folder.path())? {
            let file = file?;
            // One that was dropped since the folder was read has no length any more.
            if let (Some((attempt, replica)), Ok(about)) = (owner(&file.file_name()), file.metadata()) {
                *found.entry(Replica { job, attempt, replica }).or_default() += about.len();
            }
        }
    }
    Ok(found)
}

/// Nothing where there is no such folder.
fn read_dir(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// The attempt and the replica in a segment's name.
fn owner(name: &OsStr) -> Option<(u32, u32)> {
    let (owner, _) = name.to_str()?.strip_suffix(".log")?.split_once('.')?;
    let (attempt, replica) = owner.split_once('-')?;
    Some((attempt.parse().ok()?, replica.parse().ok()?))
}

/// Appends to a log.
#[derive(Debug)]
pub struct Appender {
    place: Place,
    file: File,
    newest: Segment,
    older: Vec<Segment>,
    half: u64,
}

impl Appender {
    /// Opens a log at its end, making it where there is none. What a crash left of a last line is cut off.
    ///
    /// # Errors
    /// When its files cannot be made or read.
    pub fn open(place: &Place, limit: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&place.folder)?;
        let mut older = place.segments()?;
        let mut newest = older.pop().unwrap_or_else(|| Segment { base: 0, len: 0, path: place.path(0) });
        let mut file = open(&newest.path)?;
        newest.len = end_of_last_line(&mut file, newest.len)?;
        file.set_len(newest.len)?;
        Ok(Self { place: place.clone(), file, newest, older, half: limit / 2 })
    }

    /// Where the next byte goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.newest.end()
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// When the disk takes no more; then nothing of `lines` is kept.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let len = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.newest.len > 0 && self.newest.len + len > self.half {
            self.begin_segment()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // A part may have been written: a line must not begin in the middle of another.
            let _ = self.file.set_len(self.newest.len);
            return Err(error);
        }
        self.newest.len += len;
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let next = Segment { base: self.newest.end(), len: 0, path: self.place.path(self.newest.end()) };
        self.file = open(&next.path)?;
        for old in self.older.drain(..) {
            std::fs::remove_file(&old.path)?;
        }
        self.older.push(std::mem::replace(&mut self.newest, next));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// Offset after the last line feed within the first `len` bytes.
fn end_of_last_line(file: &mut File, len: u64) -> io::Result<u64> {
    const BLOCK: u64 = 32 * 1024;
    let mut end = len;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(begin))?;
        Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}
