//! Looking at Docker as a whole, again and again: whether it answers, and whether it has containers
//! of ours that nobody looks after (their end was reported and the worker died before it removed
//! them; or the worker's memory was lost).

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{Unattended, unattended};
use crate::docker::{DockerError, Listed};
use crate::health::Part;
use crate::worker::Worker;

/// A daemon that went away is missed in heartbeats after at most this long.
const EVERY: Duration = Duration::from_secs(5);
/// A daemon that needs longer to say how it is does not answer.
const ANSWER: Duration = Duration::from_secs(10);

pub async fn run(worker: Arc<Worker>) {
    let mut warned_live_restore = false;
    loop {
        match look(&worker).await {
            Ok(()) => {
                worker.health.seen(Part::Docker, Ok(()));
                let live_restore = worker.engine.borrow().as_ref().is_some_and(|engine| engine.live_restore);
                if !live_restore && !std::mem::replace(&mut warned_live_restore, true) {
                    tracing::warn!(
                        "Docker's live-restore is off: a restart of dockerd stops every container. \
                         Put \"live-restore\": true into /etc/docker/daemon.json"
                    );
                }
            }
            Err(error) => missed(&worker, &error),
        }
        if worker.tasks.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

async fn look(worker: &Worker) -> Result<(), DockerError> {
    let late = || DockerError::Away(format!("no answer within {} s", ANSWER.as_secs()));
    let asked = tokio::time::timeout(ANSWER, worker.docker.engine()).await;
    let engine = asked.unwrap_or_else(|_| Err(late()))?;
    let numbers = worker.numbers();
    if let Some(instance) = numbers.instance {
        for container in worker.docker.list(&worker.device, instance).await? {
            if !worker.attempts.attends(container.replica) {
                clear(worker, &container, numbers.session).await?;
            }
        }
    }
    let news = worker.engine.send_if_modified(|known| {
        let news = known.as_ref() != Some(&engine);
        *known = Some(engine);
        news
    });
    if news {
        worker.beat.notify_one();
    }
    Ok(())
}

async fn clear(worker: &Worker, container: &Listed, session: Option<i64>) -> Result<(), DockerError> {
    let replica = container.replica;
    let Ok(row) = worker.inbox.find(replica).await else { return Ok(()) }; // at the next look
    match unattended(row.as_ref(), session) {
        Unattended::Leave => return Ok(()),
        Unattended::Remove => {}
        Unattended::StopAndRemove => {
            tracing::warn!(%replica, docker.id = container.id, running = container.running, "nobody knows it: removing it");
        }
    }
    if worker.docker.remove(&replica.container_name()).await? {
        worker.forget_fenced(replica);
    }
    Ok(())
}

fn missed(worker: &Worker, error: &DockerError) {
    worker.health.seen(Part::Docker, Err(error.to_string()));
    let news = worker.engine.send_if_modified(|known| known.take().is_some());
    if news {
        tracing::warn!(%error, "Docker does not answer; containers go on, nothing is started. Trying again");
        worker.beat.notify_one();
    } else {
        tracing::debug!(%error, "Docker does not answer");
    }
}
