//! The database: transactions on the tables of [`Tables`], the leader's row, and answers that are lost.
//!
//! A call travels, is carried out whole or not at all, and its answer travels back; whoever asked may
//! be dead by then, or may never hear. A commit that was under way for long still asks for its epoch.

mod checks;
mod tables;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::oneshot;

pub use tables::Tables;

use crate::exec::{NATURE, Pid};
use crate::world::World;

/// What `statement_timeout` and the client's own limit come to.
const TIMEOUT_MS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Another one leads.
    Deposed,
    /// The batch itself is wrong: it breaks a constraint.
    Poison(String),
    /// It may have been carried out or not.
    Unknown,
}

pub struct Database {
    pub up: Cell<bool>,
    pub tables: RefCell<Tables>,
}

/// Calls the database in the name of a process.
pub async fn call<T: 'static>(
    w: &Rc<World>,
    pid: Pid,
    work: impl FnOnce(&mut Tables) -> Result<T, StoreError> + 'static,
) -> Result<T, StoreError> {
    w.point(pid, "before the database").await;
    let (done, answer) = oneshot::channel();
    let world = Rc::clone(w);
    w.exec.spawn(NATURE, async move {
        let weather = world.weather();
        let slow_ms =
            if world.chance.one_in(weather.slow_database) { world.chance.between(0, 9_000) } else { 0 };
        world.exec.sleep(world.latency_ms() + slow_ms).await;
        if !world.database.up.get() || world.chance.one_in(weather.lose_call) {
            return; // dropped: the caller hears that nobody knows
        }
        let result = work(&mut world.database.tables.borrow_mut());
        let lost = world.chance.one_in(weather.lose_answer);
        world.exec.sleep(world.latency_ms()).await;
        if world.database.up.get() && !lost {
            let _ = done.send(result);
        }
    });
    let result = tokio::select! {
        biased;
        answer = answer => answer.unwrap_or(Err(StoreError::Unknown)),
        () = w.exec.sleep(TIMEOUT_MS) => Err(StoreError::Unknown),
    };
    w.point(pid, "after the database").await;
    if let Err(StoreError::Poison(text)) = &result {
        w.auditor.borrow_mut().wrong(format!("a batch could not be stored: {text}"));
    }
    result
}
