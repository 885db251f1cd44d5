//! What happens to containers, whoever causes it: they begin to run, and end.

use std::rc::Rc;

use berth_common::id::Replica;
use berth_worker::docker::{DockerError, Exit, Stage};
use jiff::Timestamp;

use super::daemon::vanish;
use super::{Answer, Program};
use crate::auditor::How;
use crate::exec::NATURE;
use crate::world::World;

pub(super) fn fails(w: &World) -> Answer<()> {
    match w.chance.one_in(w.weather().docker_fails) {
        true => Err(DockerError::Failed("no space left on device".into())),
        false => Ok(()),
    }
}

pub(super) fn running(w: &World, host: usize, name: &str) -> Option<(Replica, u64, Program)> {
    let containers = w.hosts[host].docker.containers.borrow();
    let of = containers.get(name).filter(|c| matches!(c.stage, Stage::Running { .. }))?;
    Some((of.start.replica, of.run, of.program.clone()))
}

/// A container begins to run.
pub(super) fn begin(w: &Rc<World>, host: usize, name: &str) -> Answer<()> {
    let mut containers = w.hosts[host].docker.containers.borrow_mut();
    let Some(of) = containers.get_mut(name) else { return Err(DockerError::NotFound(name.into())) };
    if matches!(of.stage, Stage::Running { .. }) {
        return Ok(());
    }
    of.run += 1;
    of.stage = Stage::Running { started_at: Some(w.hosts[host].now(w)) };
    of.running.send_replace(true);
    let (run, program, start) = (of.run, of.program.clone(), of.start.clone());
    drop(containers);
    w.trace(|| format!("{} runs {}", w.hosts[host].name, start.replica));
    w.auditor.borrow_mut().started(host, &start, w.exec.now_ms());
    if w.chance.one_in(w.weather().lose_container) {
        lose_later(w, host, name.to_owned(), run);
    }
    end_later(w, host, name.to_owned(), run, program.runs_ms, (program.code, How::ByItself));
    Ok(())
}

fn lose_later(w: &Rc<World>, host: usize, name: String, run: u64) {
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        world.exec.sleep(world.chance.skewed(10, 60_000)).await;
        if running(&world, host, &name).is_some_and(|(_, now, _)| now == run) {
            world.trace(|| format!("{}: Docker loses {name}", world.hosts[host].name));
            vanish(&world, host, &name);
        }
    });
}

pub(super) fn end_later(
    w: &Rc<World>,
    host: usize,
    name: String,
    run: u64,
    after_ms: u64,
    (code, how): (i64, How),
) {
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        world.exec.sleep(after_ms).await;
        if running(&world, host, &name).is_some_and(|(_, now, _)| now == run) {
            end(&world, host, &name, code, how);
        }
    });
}

/// A container has ended.
pub(super) fn end(w: &Rc<World>, host: usize, name: &str, code: i64, how: How) {
    let finished_at: Timestamp = w.hosts[host].now(w);
    let mut containers = w.hosts[host].docker.containers.borrow_mut();
    let Some(of) = containers.get_mut(name) else { return };
    let Stage::Running { started_at } = of.stage else { return };
    let oom = how == How::ByItself && code == 137;
    of.stage = Stage::Exited(Exit { code, oom, started_at, finished_at: Some(finished_at) });
    of.running.send_replace(false);
    let replica = of.start.replica;
    drop(containers);
    w.trace(|| format!("{}: {replica} ended with {code}, {how:?}", w.hosts[host].name));
    w.auditor.borrow_mut().ended(host, replica, code, how, w.exec.now_ms());
}
