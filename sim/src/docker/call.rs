//! A call of Docker's: it takes time, is not answered while the daemon hangs, and is carried out also
//! when whoever made it has died.

use std::rc::Rc;

use berth_worker::docker::DockerError;
use tokio::sync::oneshot;

use super::{Answer, Client, State};
use crate::exec::NATURE;
use crate::world::{World, guard_pid};

/// A call during which whoever made it dies takes so long at most.
const LONG_CALL_MS: u64 = 30_000;

pub(super) fn away() -> DockerError {
    DockerError::Away("simulated".into())
}

impl Client {
    /// The call goes on even if whoever made it dies.
    pub(super) async fn call<T: 'static>(
        &self,
        takes_ms: (u64, u64),
        work: impl FnOnce(&Rc<World>, usize) -> Answer<T> + 'static,
    ) -> Answer<T> {
        self.w.point(self.pid, "before Docker").await;
        let (done, answer) = oneshot::channel();
        let (w, host) = (Rc::clone(&self.w), self.host);
        self.w.exec.spawn(NATURE, async move {
            let mut state = w.hosts[host].docker.state.subscribe();
            let slow_ms =
                if w.chance.one_in(w.weather().slow_docker) { w.chance.skewed(100, 20_000) } else { 0 };
            let takes_ms = w.chance.between(takes_ms.0, takes_ms.1) + slow_ms;
            if *state.borrow_and_update() == State::Down {
                let _ = done.send(Err(away()));
                return;
            }
            w.exec.sleep(takes_ms).await;
            state.wait_for(|state| *state != State::Hung).await;
            if *state.borrow() != State::Up {
                let _ = done.send(Err(away()));
                return;
            }
            let answer = work(&w, host);
            w.exec.sleep(w.chance.between(0, 3)).await;
            let heard = *state.borrow() != State::Down;
            let _ = done.send(if heard { answer } else { Err(away()) });
        });
        let answer = answer.await.unwrap_or_else(|_| Err(away()));
        self.w.point(self.pid, "after Docker").await;
        answer
    }

    /// A call that changes something: whoever makes it may die before it is done.
    pub(super) async fn change<T: 'static>(
        &self,
        (least_ms, most_ms): (u64, u64),
        work: impl FnOnce(&Rc<World>, usize) -> Answer<T> + 'static,
    ) -> Answer<T> {
        if self.pid == guard_pid(self.host) || !self.w.chance.one_in(self.w.weather().crash_in_call) {
            return self.call((least_ms, most_ms), work).await;
        }
        let (w, pid) = (Rc::clone(&self.w), self.pid);
        let dies_ms = w.chance.between(0, most_ms);
        self.w.exec.spawn(NATURE, async move {
            w.exec.sleep(dies_ms).await;
            w.crash(pid, "while Docker works");
        });
        self.call((most_ms, self.w.chance.skewed(most_ms, LONG_CALL_MS)), work).await
    }
}
