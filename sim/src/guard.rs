//! The guard of a host (`worker/src/guard.rs`): knows the lease file and nothing else, and kills what
//! may run elsewhere when the lease is too old. What it decides is the worker's own code.

use std::rc::Rc;

use berth_worker::agent::{Guarding, guard_leaves, guarding};
use berth_worker::docker::{Alive, DockerError};
use berth_worker::lease::Record;

use crate::docker::{Client, Signal};
use crate::world::{World, guard_pid, worker_pid};

const EVERY_MS: u64 = 500;
const DOCKER_TIMEOUT_MS: u64 = 10_000;
/// The version that the worker writes; there is one only.
pub const VERSION: &str = "1";

/// Guards until there is nothing more to do.
pub async fn run(w: Rc<World>, host: usize) {
    let pid = guard_pid(host);
    let client = Client { w: Rc::clone(&w), pid, host };
    loop {
        let lease = w.hosts[host].lease.borrow().clone();
        let Some(lease) = lease else { break };
        let decided = guarding(&lease, &w.hosts[host].boot_id(), w.hosts[host].boot_time(&w));
        let gone = w.is_dead(worker_pid(host));
        let acted = match decided == Guarding::Wait && !gone {
            true => None,
            false => tokio::select! {
                biased;
                acted = act(&client, &lease, decided) => acted.ok(),
                () = w.exec.sleep(DOCKER_TIMEOUT_MS) => None,
            },
        };
        if guard_leaves(&lease, VERSION, acted.filter(|_| gone)) {
            break;
        }
        w.exec.sleep(EVERY_MS).await;
    }
    w.trace(|| format!("{pid:?} leaves"));
    w.guard_left(host);
}

/// Does what was decided; says how many containers there were to kill.
async fn act(client: &Client, lease: &Record, decided: Guarding) -> Result<usize, DockerError> {
    if lease.instance.is_none() {
        return Ok(0);
    }
    let left = client.fenceable().await?;
    if decided == Guarding::Fence {
        for of in &left {
            client.w.hosts[client.host].notes.borrow_mut().insert(of.name.clone());
            match of.alive {
                Alive::Made => drop(client.remove(&of.name).await?),
                Alive::Running => drop(client.signal(&of.name, Signal::Kill).await?),
            }
        }
    }
    Ok(left.len())
}
