//! What somebody does to the world on purpose: kills, pauses, cuts and restarts, until the trouble is
//! over. Then everything is there again, and stays.

use std::rc::Rc;

use crate::broker::{self, Keeps, watch_silence};
use crate::docker::{self, Going};
use crate::exec::{NATURE, Pid};
use crate::host::reboot;
use crate::world::{SCHEDULERS, World, boot, worker_pid};

/// After a host's sleep its processes look at their clocks within this.
const WAKES_MS: u64 = 1_000;

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillScheduler,
    PauseScheduler,
    CutScheduler,
    KillWorker,
    PauseWorker,
    CutWorker,
    KillGuard,
    StopBroker,
    NewBroker,
    StopDatabase,
    HangDocker,
    StopDocker,
    CrashDocker,
    Reboot,
    RemoveByHand,
}

const ALL: &[Fault] = &[
    Fault::KillScheduler,
    Fault::PauseScheduler,
    Fault::CutScheduler,
    Fault::KillWorker,
    Fault::PauseWorker,
    Fault::CutWorker,
    Fault::KillGuard,
    Fault::StopBroker,
    Fault::NewBroker,
    Fault::StopDatabase,
    Fault::HangDocker,
    Fault::StopDocker,
    Fault::CrashDocker,
    Fault::Reboot,
    Fault::RemoveByHand,
];

/// Makes trouble until `until_ms`: of some kinds, so that each is seen alone too.
pub async fn run(w: Rc<World>, until_ms: u64) {
    let some: Vec<Fault> = match w.chance.one_in(2) {
        true => (0..w.chance.between(1, 3)).map(|_| *w.chance.pick(ALL)).collect(),
        false => ALL.iter().copied().filter(|_| w.chance.one_in(3)).collect(),
    };
    let pause_ms = w.chance.skewed(10_000, 200_000);
    loop {
        w.exec.sleep(w.chance.between(pause_ms / 2, pause_ms * 2)).await;
        if w.exec.now_ms() >= until_ms {
            return;
        }
        if !some.is_empty() {
            let (world, fault) = (Rc::clone(&w), *w.chance.pick(&some));
            w.faults.set(w.faults.get() + 1);
            w.trace(|| format!("fault: {fault:?}"));
            w.exec.spawn(NATURE, async move { inflict(&world, fault).await });
        }
    }
}

async fn inflict(w: &Rc<World>, fault: Fault) {
    let host = usize::try_from(w.chance.between(0, w.hosts.len() as u64 - 1)).unwrap_or(0);
    let scheduler = *w.chance.pick(&SCHEDULERS);
    match fault {
        Fault::KillScheduler => w.crash(scheduler, "killed"),
        Fault::PauseScheduler => pause(w, scheduler, w.chance.skewed(1_000, 60_000)).await,
        Fault::CutScheduler => cut(w, scheduler, w.chance.skewed(1_000, 500_000)).await,
        Fault::KillWorker => w.crash(worker_pid(host), "killed"),
        Fault::PauseWorker => pause(w, worker_pid(host), w.chance.skewed(1_000, 500_000)).await,
        Fault::CutWorker => cut(w, worker_pid(host), w.chance.skewed(4_000, 600_000)).await,
        Fault::KillGuard => kill_guard(w, host).await,
        Fault::StopBroker => stop_broker(w, Keeps::Everything).await,
        Fault::NewBroker => stop_broker(w, Keeps::Nothing).await,
        Fault::StopDatabase => stop_database(w).await,
        Fault::HangDocker => docker(w, host, Going::Hangs).await,
        Fault::StopDocker => docker(w, host, Going::Stops).await,
        Fault::CrashDocker => docker(w, host, Going::Crashes).await,
        Fault::Reboot => reboot(w, host),
        Fault::RemoveByHand => docker::remove_by_hand(w, host),
    }
}

async fn pause(w: &Rc<World>, pid: Pid, ms: u64) {
    if w.is_dead(pid) || w.exec.is_paused(pid) {
        return;
    }
    w.trace(|| format!("{pid:?} is paused for {ms} ms"));
    w.exec.pause(pid);
    w.there(pid, false);
    watch_silence(w, pid);
    w.exec.sleep(ms).await;
    w.trace(|| format!("{pid:?} goes on"));
    // A host that slept counted no time meanwhile: what was due then comes within the next moments.
    let slept = w.chance.one_in(2);
    for waker in w.exec.resume(pid) {
        let world = Rc::clone(w);
        let after_ms = if slept { w.chance.between(0, WAKES_MS) } else { 0 };
        w.exec.spawn(NATURE, async move {
            world.exec.sleep(after_ms).await;
            waker.wake();
        });
    }
    w.there(pid, !w.is_dead(pid));
}

async fn cut(w: &Rc<World>, pid: Pid, ms: u64) {
    if w.net.is_cut(pid) {
        return;
    }
    w.trace(|| format!("{pid:?} is cut off for {ms} ms"));
    w.net.set(pid, true);
    watch_silence(w, pid);
    w.exec.sleep(ms).await;
    w.trace(|| format!("{pid:?} is back in the network"));
    w.net.set(pid, false);
}

/// While no guard runs and the worker cannot start one, nobody fences: the auditor is told.
async fn kill_guard(w: &Rc<World>, host: usize) {
    if !w.guarded {
        return;
    }
    w.auditor.borrow_mut().guard_is_gone(host, w.exec.now_ms());
    w.kill_guard(host);
    while w.guard_is_free(host) {
        w.exec.sleep(1_000).await;
    }
    w.auditor.borrow_mut().guard_is_back(host, w.exec.now_ms());
}

async fn stop_broker(w: &Rc<World>, keeps: Keeps) {
    if !w.broker.up.get() {
        return;
    }
    broker::stop(w);
    w.exec.sleep(w.chance.skewed(1_000, 400_000)).await;
    w.trace(|| format!("the broker is back and keeps {keeps:?}"));
    broker::start(w, keeps);
}

async fn stop_database(w: &Rc<World>) {
    if !w.database.up.replace(false) {
        return;
    }
    w.exec.sleep(w.chance.skewed(500, 120_000)).await;
    w.trace(|| "the database is back".into());
    w.database.up.set(true);
}

async fn docker(w: &Rc<World>, host: usize, going: Going) {
    let away_ms = w.chance.skewed(500, 400_000);
    docker::restart(Rc::clone(w), host, going, away_ms).await;
}

/// The trouble is over: what is still away comes back by itself within minutes, and nothing new
/// happens.
pub fn heal(w: &Rc<World>) {
    w.trace(|| "nothing goes wrong any more".into());
    w.healed.set(true);
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        // The longest of all faults; whoever is dead by then was forgotten.
        world.exec.sleep(700_000).await;
        let workers = (0..world.hosts.len()).map(worker_pid);
        for pid in SCHEDULERS.into_iter().chain(workers) {
            boot(&world, pid);
        }
    });
}
