//! Time since the host's start, as Linux's `CLOCK_BOOTTIME` counts it: nobody sets it, and a host that
//! was suspended has aged. By it the lease is judged, in the worker and in the guard alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment since the host's start. Comparable between processes, until the next start of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        // Both parts of this clock are never negative.
        Self(Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)))
    }

    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    #[must_use]
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    #[must_use]
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How much time has passed since `earlier`; none where it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Which start of the host this is; empty where the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_and_the_boot_has_a_name() {
        let before = BootTime::now();
        assert!(BootTime::now() >= before && before > BootTime::from_ms(0));
        assert_eq!(before.plus(Duration::from_secs(7)).since(before), Duration::from_secs(7));
        assert_eq!(before.since(before.plus(Duration::from_secs(7))), Duration::ZERO);
        assert_eq!(boot_id().len(), 36);
    }
}
