//! What the guard decides from the worker's lease file and the clock.

use crate::clock::BootTime;
use crate::lease::Record;

/// What the guard does about the containers of jobs that may run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarding {
    /// The worker answers for them.
    Wait,
    /// The lease has run out: they are to go, and others that appear as well.
    Fence,
}

/// `boot`: which start of the host this is. A lease from before says nothing: nothing of then runs.
#[must_use]
pub fn guarding(lease: &Record, boot: &str, now: BootTime) -> Guarding {
    if lease.boot_id == boot && lease.term().is_over(now) { Guarding::Fence } else { Guarding::Wait }
}

/// Whether a guard that a worker started has nothing more to do. `left`: containers that it would kill,
/// counted when the worker is gone.
#[must_use]
pub fn guard_leaves(lease: &Record, own_version: &str, left: Option<usize>) -> bool {
    // The worker that wrote it starts a guard of its own version.
    lease.version != own_version || left == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Record {
        Record {
            boot_id: "b".into(),
            confirmed_ms: 100_000,
            fence_after_s: 240,
            device: "dev-1".into(),
            instance: None,
            docker_host: None,
            version: "1".into(),
        }
    }

    #[test]
    fn it_fences_when_the_lease_of_this_boot_has_run_out() {
        let at = |second: u64| guarding(&lease(), "b", BootTime::from_ms(second * 1000));
        assert_eq!((at(339), at(340)), (Guarding::Wait, Guarding::Fence));
        assert_eq!(guarding(&lease(), "another", BootTime::from_ms(900_000)), Guarding::Wait);
    }

    #[test]
    fn it_leaves_after_the_worker_and_its_containers_or_for_another_version() {
        assert!(!guard_leaves(&lease(), "1", None) && !guard_leaves(&lease(), "1", Some(1)));
        assert!(guard_leaves(&lease(), "1", Some(0)) && guard_leaves(&lease(), "2", None));
    }
}
