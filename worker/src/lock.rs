//! Files that a process locks for as long as it lives. The kernel lets go of the lock at its end, however
//! that comes; so whoever finds one free knows that nobody is there.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Held by the worker.
pub const WORKER: &str = "worker.lock";
/// Held by the guard.
pub const GUARD: &str = "guard.lock";

/// A lock that is held until this value is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits for the lock. Whoever looks at it holds it for a moment.
///
/// # Errors
/// When the file cannot be made.
pub fn hold(path: &Path) -> io::Result<Lock> {
    let file = open(path)?;
    file.lock()?;
    Ok(Lock { _file: file })
}

/// None: somebody else has it.
///
/// # Errors
/// When the file cannot be made.
pub fn try_hold(path: &Path) -> io::Result<Option<Lock>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether nobody has it; also where its file is not there.
///
/// # Errors
/// When the file cannot be read.
pub fn is_free(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn one_has_it_and_everybody_sees_that() {
        let dir = Scratch::new();
        let path = dir.join(GUARD);
        assert!(is_free(&path).expect("readable"), "nobody ever had it");
        let lock = try_hold(&path).expect("writable").expect("free");
        assert!(!is_free(&path).expect("readable"));
        assert!(try_hold(&path).expect("writable").is_none());
        drop(lock);
        assert!(is_free(&path).expect("readable"));
        hold(&path).expect("writable");
    }
}
