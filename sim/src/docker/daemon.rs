//! The daemon's own troubles: it hangs, it is restarted with or without its containers, the host
//! loses its power.

use std::rc::Rc;

use berth_worker::docker::Stage;

use super::State;
use super::life::{end, end_later, running};
use crate::auditor::How;
use crate::docker::Term;
use crate::world::World;

/// dockerd kills what does not end when it ends (`shutdown-timeout`).
const SHUTDOWN_MS: u64 = 15_000;

/// How the daemon goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    Hangs,
    /// As `systemctl stop` does.
    Stops,
    /// Killed: without live-restore its next start ends what it finds.
    Crashes,
}

/// The daemon goes, and comes back after `away_ms`.
pub async fn restart(w: Rc<World>, host: usize, going: Going, away_ms: u64) {
    let docker = &w.hosts[host].docker;
    if *docker.state.borrow() != State::Up {
        return;
    }
    let dies = !docker.live_restore.get();
    let away_ms = if dies && going == Going::Stops { away_ms.max(SHUTDOWN_MS + 1_000) } else { away_ms };
    w.trace(|| format!("{}: Docker {going:?} for {away_ms} ms", w.hosts[host].name));
    w.auditor.borrow_mut().docker_away(host, w.exec.now_ms(), w.exec.now_ms() + away_ms);
    docker.state.send_replace(if going == Going::Hangs { State::Hung } else { State::Down });
    if dies && going == Going::Stops {
        shut_down(&w, host);
    }
    w.exec.sleep(away_ms).await;
    if !w.hosts[host].is_on.get() {
        return; // the host comes back with it
    }
    if dies && going == Going::Crashes {
        docker.names().iter().for_each(|name| end(&w, host, name, 137, How::ByDocker));
    }
    docker.state.send_replace(State::Up);
}

/// Asks everything to end, and kills what does not.
fn shut_down(w: &Rc<World>, host: usize) {
    for name in w.hosts[host].docker.names() {
        let Some((_, run, program)) = running(w, host, &name) else { continue };
        let (after_ms, code) = match program.on_term {
            Term::Ends { code, after_ms } if after_ms < SHUTDOWN_MS => (after_ms, code),
            Term::Ends { .. } | Term::Ignores => (SHUTDOWN_MS, 137),
        };
        end_later(w, host, name, run, after_ms, (code, How::ByDocker));
    }
}

/// Somebody removes a container by hand.
pub fn remove_by_hand(w: &Rc<World>, host: usize) {
    let docker = &w.hosts[host].docker;
    let names = docker.names();
    if names.is_empty() {
        return;
    }
    let name = w.chance.pick(&names);
    w.trace(|| format!("{}: somebody removes {name}", w.hosts[host].name));
    vanish(w, host, name);
}

/// A container ends, and nothing is left of it.
pub(super) fn vanish(w: &Rc<World>, host: usize, name: &str) {
    end(w, host, name, 137, How::ByDocker);
    w.hosts[host].docker.containers.borrow_mut().remove(name);
}

/// Everything on the host dies.
pub fn power_lost(w: &Rc<World>, host: usize) {
    let docker = &w.hosts[host].docker;
    docker.state.send_replace(State::Down);
    docker.names().iter().for_each(|name| end(w, host, name, 255, How::ByDocker));
}

/// Docker starts with the host, and finds dead what ran.
pub fn power_back(w: &Rc<World>, host: usize) {
    let docker = &w.hosts[host].docker;
    let now = w.hosts[host].now(w);
    for of in docker.containers.borrow_mut().values_mut() {
        if let Stage::Exited(exit) = &mut of.stage
            && exit.code == 255
        {
            exit.finished_at = Some(now);
        }
    }
    docker.state.send_replace(State::Up);
}
