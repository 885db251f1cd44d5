//! When the broker has confirmed nothing for too long, the session is over: nothing is taken any
//! more, and what the leader will place elsewhere is killed. A welcome that is still on its way was
//! decided before the silence: it is not for us any more, so a new boot is told from now on.

use std::sync::Arc;

use uuid::Uuid;

use crate::attempts::Permission;
use crate::worker::Worker;

pub async fn run(worker: Arc<Worker>) {
    loop {
        let expired = worker.tasks.stop.run_until_cancelled(worker.lease.expired()).await;
        if expired.is_none() {
            return;
        }
        let held = worker.attempts.held().len();
        tracing::warn!(held, "the broker has confirmed nothing for too long: the session is over");
        let boot = Uuid::now_v7();
        worker.change_numbers(|numbers| {
            numbers.session = None;
            numbers.boot = boot;
        });
        worker.reporter.set_boot(boot);
        worker.attempts.permit_all(Permission::Fenced);
        worker.lease.end();
        // A hello under the new boot: what was published before counts no more.
        worker.beat.notify_one();
        if worker.tasks.stop.run_until_cancelled(worker.lease.begun_anew()).await.is_none() {
            return;
        }
        // The leader answers the hello with a welcome.
        worker.beat.notify_one();
    }
}
