//! The worker's term, and the file that tells the guard of it (`worker/src/lease.rs`): what the file does
//! not say yet counts for nobody.

use berth_worker::lease::Record;

use super::Worker;
use crate::guard::VERSION;

impl Worker {
    /// As this process knows it, or as the guard does.
    pub(super) fn term_is_over(&self) -> bool {
        let now = self.of().boot_time(&self.w);
        self.term.borrow().is_over(now) || self.written.get().is_over(now)
    }

    pub(super) fn write_lease(&self) {
        let term = *self.term.borrow();
        let record = Record {
            boot_id: self.of().boot_id(),
            confirmed_ms: term.confirmed().as_ms(),
            fence_after_s: term.fence_after().as_secs(),
            device: self.of().name.clone(),
            instance: self.numbers.borrow().instance,
            docker_host: None,
            version: VERSION.into(),
        };
        self.written.set(record.term());
        *self.of().lease.borrow_mut() = Some(record);
        let since_boot = self.of().boot_time(&self.w).since(term.confirmed());
        let ago_ms = u64::try_from(since_boot.as_millis()).unwrap_or(0);
        let now_ms = self.w.exec.now_ms();
        self.w.auditor.borrow_mut().lease_written(self.host, now_ms - ago_ms, now_ms);
    }
}
