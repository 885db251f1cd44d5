//! Which containers the guard has killed: an empty file each, written before the kill, by which the worker
//! tells a fault from an end of the job's own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const FOLDER: &str = "fenced";

fn path(state_dir: &Path, container: &str) -> PathBuf {
    state_dir.join(FOLDER).join(container)
}

/// # Errors
/// When it cannot be written; the container must be killed all the same.
pub(super) fn note(state_dir: &Path, container: &str) -> io::Result<()> {
    // Not the folders above: a state folder that was removed stays so.
    match std::fs::create_dir(state_dir.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    File::create(path(state_dir, container)).map(drop)
}

/// Whether the guard has killed it, or was about to.
#[must_use]
pub fn is_noted(state_dir: &Path, container: &str) -> bool {
    path(state_dir, container).exists()
}

/// Its end has been told, or nobody will ask for it: it is gone.
///
/// # Errors
/// When the note is there and cannot be removed.
pub fn forget(state_dir: &Path, container: &str) -> io::Result<()> {
    match std::fs::remove_file(path(state_dir, container)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_note_stays_until_it_is_forgotten() {
        let dir = Scratch::new();
        assert!(!is_noted(&dir, "berth-1"));
        for _ in 0..2 {
            note(&dir, "berth-1").expect("writable");
        }
        assert!(is_noted(&dir, "berth-1") && !is_noted(&dir, "berth-2"));
        for _ in 0..2 {
            forget(&dir, "berth-1").expect("writable");
        }
        assert!(!is_noted(&dir, "berth-1"));
        note(&dir.join("gone"), "berth-1").expect_err("nothing is made anew");
    }
}
