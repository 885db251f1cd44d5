//! A state of a world: the leader, the workers, what is on its way between them, what the clients have
//! asked, and how much may still go wrong.
//!
//! What is on its way is read in any order. It is there once or not at all: a second copy of a message to
//! a device would be dropped as the first one was taken, and a report that is read twice is what the
//! repetitions are for. A stop or a question that is sent once more while the first is still on its way
//! takes its place; that is all the two differ in, and otherwise they pile up with each tick.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use berth_common::message::{Event, FromDevice, Order, ToDevice};
use berth_scheduler::core::rows::OutboxRow;

use crate::leader::{Broken, Leader};
use crate::worker::Worker;
use crate::world::{Bounds, World};

#[derive(Clone)]
pub struct State {
    pub leader: Arc<Leader>,
    pub workers: Vec<Arc<Worker>>,
    /// By device, by number.
    pub to_device: Vec<Vec<Arc<ToDevice>>>,
    pub to_leader: Vec<Arc<FromDevice>>,
    /// By job.
    pub clients: Vec<Client>,
    pub left: Bounds,
    /// Laws that the step to this state broke.
    pub broken: Vec<Broken>,
    /// See `print.rs`.
    pub print: u64,
}

/// What the owner of a job has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    Waits,
    Submitted,
    /// The kill was answered with 202.
    KillAccepted,
}

impl State {
    /// The devices of a world, welcomed, before the first job.
    #[must_use]
    pub fn begin(world: &World) -> Self {
        let workers = world.devices.iter().enumerate();
        let mut state = Self {
            leader: Arc::new(Leader::new()),
            workers: workers.map(|(place, plan)| Arc::new(Worker::new(place, *plan))).collect(),
            to_device: vec![Vec::new(); world.devices.len()],
            to_leader: Vec::new(),
            clients: vec![Client::Waits; world.jobs.len()],
            left: world.bounds,
            broken: Vec::new(),
            print: 0,
        };
        for device in 0..state.workers.len() {
            // The hello, the welcome, and the first list.
            for _ in 0..2 {
                let beat = Arc::new(state.beat(device));
                state.read(&beat);
                while let Some(message) = state.to_device[device].pop() {
                    state.take(device, &message);
                }
            }
        }
        state.print = crate::print::print(&state);
        state
    }

    pub(crate) fn leader(&mut self) -> &mut Leader {
        Arc::make_mut(&mut self.leader)
    }

    pub(crate) fn worker(&mut self, device: usize) -> &mut Worker {
        Arc::make_mut(&mut self.workers[device])
    }

    /// Puts what the leader sent on its way.
    pub(crate) fn send(&mut self, rows: Vec<OutboxRow>) {
        for row in rows {
            let Some(device) = self.workers.iter().position(|worker| worker.name == row.device) else {
                continue;
            };
            let messages = &mut self.to_device[device];
            messages.retain(|before| !is_same_wish(before, &row.message));
            if let Err(place) = messages.binary_search_by_key(&row.message.id, |message| message.id) {
                messages.insert(place, Arc::new(row.message));
            }
        }
    }

    pub(crate) fn tell(&mut self, told: Vec<FromDevice>) {
        for told in told {
            if !self.to_leader.iter().any(|before| **before == told) {
                self.to_leader.push(Arc::new(told));
            }
        }
    }

    /// The leader takes these reports, and what follows is on its way.
    pub(crate) fn step(&mut self, told: &[Arc<FromDevice>]) {
        use berth_scheduler::core::input::Input;
        let inputs = told.iter().map(|told| Input::Device(Box::new(FromDevice::clone(told)))).collect();
        let told = self.leader().step(inputs);
        self.broken.extend(told.broken);
        self.send(told.sent);
    }

    pub(crate) fn read(&mut self, report: &Arc<FromDevice>) {
        self.step(std::slice::from_ref(report));
    }

    pub(crate) fn take(&mut self, device: usize, message: &ToDevice) {
        let told = self.worker(device).take(message);
        self.tell(told);
    }

    pub(crate) fn beat(&mut self, device: usize) -> FromDevice {
        let worker = self.worker(device);
        worker.beat_due = false;
        worker.heartbeat()
    }

    /// What can make no difference any more happens at once, so that nothing waits for it:
    ///
    /// - a worker takes the messages of the past, from before its session or up to its last number: if
    ///   it drops them now, it will drop them for ever, for both numbers only grow;
    /// - the leader reads the reports about jobs that have exited, which it no longer knows.
    pub(crate) fn settle(&mut self) {
        for device in 0..self.workers.len() {
            while let Some(place) = self.past(device) {
                let message = self.to_device[device].remove(place);
                self.take(device, &message);
            }
        }
        while let Some(place) = self.to_leader.iter().position(|told| self.is_about_the_past(told)) {
            let told = self.to_leader.remove(place);
            self.read(&told);
        }
        self.print = crate::print::print(self);
    }

    fn past(&self, device: usize) -> Option<usize> {
        self.to_device[device].iter().position(|message| self.is_past(device, message))
    }

    fn is_past(&self, device: usize, message: &ToDevice) -> bool {
        let numbers = &self.workers[device].numbers;
        let of_session = numbers.session == Some(message.session);
        message.session <= numbers.greatest && (!of_session || message.id <= numbers.last)
    }

    /// What a leader that crashed now would publish once more, and is not on its way or past already:
    /// what was lost of the last batch.
    pub(crate) fn to_be_repeated(&self, device: usize) -> impl Iterator<Item = &ToDevice> {
        let name = self.workers[device].name;
        let rows = self.leader.tables.outbox.iter().filter(move |row| row.device == name);
        let messages = rows.map(|row| &row.message).filter(move |message| !self.is_past(device, message));
        messages.filter(move |message| self.to_device[device].iter().all(|there| there.id != message.id))
    }

    fn is_about_the_past(&self, told: &FromDevice) -> bool {
        let replica = match &told.event {
            Event::Started(started) => started.replica,
            Event::Exited(exited) => exited.replica,
            Event::Answer(answer) => answer.replica,
            Event::Heartbeat(_) | Event::Executed(_) => return false,
        };
        self.leader.tables.jobs.get(&replica.job).is_some_and(|row| row.life.outcome.is_some())
    }

    /// Time passes: heartbeats that nobody has read expire, and every connected worker will send another.
    pub(crate) fn tick(&mut self, ms: i64) {
        self.to_leader.retain(|told| !is_heartbeat(told));
        for device in 0..self.workers.len() {
            self.worker(device).tick();
        }
        self.leader().pass(ms);
    }
}

/// Whether one stop, or one question, is sent once more in the same session.
fn is_same_wish(before: &ToDevice, after: &ToDevice) -> bool {
    before.session == after.session
        && match (&before.order, &after.order) {
            (Order::Stop(before), Order::Stop(after)) => before.replica == after.replica,
            (Order::Ask(before), Order::Ask(after)) => before == after,
            _ => false,
        }
}

#[must_use]
pub fn is_heartbeat(told: &FromDevice) -> bool {
    matches!(told.event, Event::Heartbeat(_))
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.print.hash(hasher);
        self.left.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print && self.left == other.left
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "state {:016x}, left: {}", self.print, self.left)
    }
}
