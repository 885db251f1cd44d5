//! The lease as a file, by which the guard, and the next start of the worker, know how old it is.
//!
//! A record of fixed length is written over the one before: that needs no new room, so a full disk
//! cannot make a lease look old. Nothing is flushed: after a restart of the host it says nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::agent::Term;
use crate::clock::BootTime;

/// Its name in the state folder.
pub const NAME: &str = "lease";
/// Filled up with spaces. Names of devices have at most 63 bytes; what is left is for `DOCKER_HOST`.
const LENGTH: usize = 1024;

/// What the worker says about its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which start of the host it is about.
    pub boot_id: String,
    /// When what the broker last confirmed was published, in milliseconds since the host's start.
    pub confirmed_ms: u64,
    pub fence_after_s: u64,
    pub device: String,
    /// The installation that the worker obeys; none before its first welcome.
    pub instance: Option<Uuid>,
    /// As the worker has it.
    pub docker_host: Option<String>,
    /// The worker's own.
    pub version: String,
}

impl Record {
    #[must_use]
    pub const fn term(&self) -> Term {
        Term::new(BootTime::from_ms(self.confirmed_ms), Duration::from_secs(self.fence_after_s))
    }
}

/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, record: &Record) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(record).expect("a record has only string keys");
    if bytes.len() > LENGTH {
        return Err(io::Error::other("DOCKER_HOST is too long for the lease file"));
    }
    bytes.resize(LENGTH, b' ');
    File::options().create(true).write(true).truncate(false).open(path)?.write_all_at(&bytes, 0)
}

/// # Errors
/// `NotFound` where there is none; `InvalidData` where it is being written just now, or is not ours; and
/// whatever else keeps it from being read.
pub fn read(path: &Path) -> io::Result<Record> {
    // Twice the same: nobody was writing it meanwhile.
    let bytes = std::fs::read(path)?;
    if bytes != std::fs::read(path)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is being written"));
    }
    serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn it_is_read_as_it_was_written_and_takes_the_same_room_each_time() {
        let dir = Scratch::new();
        let path = dir.join(NAME);
        let kind = || read(&path).expect_err("nothing to be read").kind();
        assert_eq!(kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, b"").expect("written");
        assert_eq!(kind(), io::ErrorKind::InvalidData, "as the version before wrote it");
        let mut record = Record {
            boot_id: "b".into(),
            confirmed_ms: 1_000_000,
            fence_after_s: 240,
            device: "d".repeat(63),
            instance: Some(Uuid::from_u128(7)),
            docker_host: Some("unix:///var/run/docker.sock".into()),
            version: "0.1.0".into(),
        };
        for confirmed_ms in [1_000_000, 9] {
            record.confirmed_ms = confirmed_ms;
            write(&path, &record).expect("written");
            assert_eq!(read(&path).expect("readable"), record);
            assert_eq!(std::fs::metadata(&path).expect("there").len(), LENGTH as u64);
        }
        record.docker_host = Some("x".repeat(LENGTH));
        write(&path, &record).expect_err("refused");
    }
}
