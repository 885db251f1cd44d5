//! Which folders of the host a container sees: its user's own, the public one, and those below the
//! user's own that the job names.
//!
//! What must always hold: nothing outside the user's folder is reached, also not through a link
//! that a container of that user put there.

use std::io;
use std::path::{Path, PathBuf};

use berth_common::message::{Fault, FaultKind, Start};

use crate::container::Bind;
use crate::ending::fault;

const DATA: &str = "/data";
const PUB_DATA: &str = "/pub_data";

#[derive(Debug, Clone)]
pub struct Folders {
    /// Root of the users' folders.
    pub data: PathBuf,
    /// Read-only for everybody.
    pub public: Option<PathBuf>,
}

impl Folders {
    /// The folders of a container; its user's own is made if it is not there. Blocks on the disk.
    ///
    /// # Errors
    /// A fault that says which mount cannot be had, and why.
    pub fn binds(&self, start: &Start) -> Result<Vec<Bind>, Fault> {
        let own = self.own(&start.owner)?;
        let mut binds = vec![bind(&own, DATA, false)?];
        if let Some(public) = &self.public {
            let public = public.canonicalize().map_err(|error| host(public, &error))?;
            binds.push(bind(&public, PUB_DATA, true)?);
        }
        for (i, mount) in start.spec.mounts.iter().enumerate() {
            let refused = |why: &str| {
                let text = format!("mounts/{i}: {:?} {why}", mount.source);
                fault(FaultKind::NeverStarts, text)
            };
            let source = own.join(&mount.source).canonicalize().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => refused("is not in your data folder on this device"),
                _ => refused(&format!("cannot be used: {error}")),
            })?;
            if !source.starts_with(&own) {
                return Err(refused("leads out of your data folder"));
            }
            binds.push(bind(&source, &mount.target, mount.read_only)?);
        }
        Ok(binds)
    }

    fn own(&self, owner: &str) -> Result<PathBuf, Fault> {
        if owner.is_empty() || owner == "." || owner == ".." || owner.contains(['/', '\0']) {
            let text = format!("the user name {owner:?} cannot name a data folder");
            return Err(fault(FaultKind::NeverStarts, text));
        }
        let own = self.data.join(owner);
        std::fs::create_dir_all(&own).map_err(|error| host(&own, &error))?;
        let (root, own) = (self.data.canonicalize(), own.canonicalize());
        match (root, own) {
            (Ok(root), Ok(own)) if own == root.join(owner) => Ok(own),
            (Ok(root), Ok(_)) => {
                let text = format!("{} is a link; it must be a folder", root.join(owner).display());
                Err(fault(FaultKind::NeverStarts, text))
            }
            (Err(error), _) | (_, Err(error)) => Err(host(&self.data, &error)),
        }
    }
}

/// Another device may have a better disk.
fn host(path: &Path, error: &io::Error) -> Fault {
    fault(FaultKind::Transient, format!("the device's folder {} cannot be used: {error}", path.display()))
}

fn bind(source: &Path, target: &str, read_only: bool) -> Result<Bind, Fault> {
    let source = source.to_str().ok_or_else(|| {
        fault(FaultKind::NeverStarts, format!("{} is not UTF-8, which Docker needs", source.display()))
    })?;
    Ok(Bind { source: source.to_owned(), target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests;
