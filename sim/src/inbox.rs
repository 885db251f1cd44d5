//! The worker's durable memory, as `worker/src/inbox.rs` keeps it in SQLite: who it is, which numbers
//! it took, and what became of the attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::id::Replica;
use berth_common::message::{Ending, Executed, Start};
use berth_worker::inbox::{Command, ExecTaken, Phase, Station, StopTaken, Taken};
use uuid::Uuid;

#[derive(Debug)]
struct Row {
    session: i64,
    start: Start,
    launched: bool,
    fenced: bool,
    stop: Option<StopTaken>,
    ending: Option<Ending>,
    reported: bool,
}

pub struct Inbox {
    pub station: Station,
    rows: BTreeMap<Replica, Row>,
    /// With whether its result was reported.
    commands: BTreeMap<Uuid, (Command, bool)>,
}

impl Inbox {
    pub fn new(worker_id: Uuid) -> Self {
        let station = Station { worker_id, instance: None, session: 0, last: 0, fence_after: None };
        Self { station, rows: BTreeMap::new(), commands: BTreeMap::new() }
    }

    pub fn take_number(&mut self, id: i64) {
        self.station.last = self.station.last.max(id);
    }

    /// False: this attempt had been taken before.
    pub fn take_start(&mut self, session: i64, id: i64, start: &Start) -> bool {
        self.take_number(id);
        if self.rows.contains_key(&start.replica) {
            return false;
        }
        let row = Row {
            session,
            start: start.clone(),
            launched: false,
            fenced: false,
            stop: None,
            ending: None,
            reported: false,
        };
        self.rows.insert(start.replica, row);
        true
    }

    pub fn take_stop(&mut self, id: i64, replica: Replica, stop: StopTaken) {
        self.take_number(id);
        if let Some(row) = self.rows.get_mut(&replica).filter(|row| row.ending.is_none()) {
            // The earlier deadline counts.
            let before = row.stop.unwrap_or(stop);
            let later_ms = u64::try_from(berth_common::time::ms_between(before.at, stop.at)).unwrap_or(0);
            let grace = before.grace.min(stop.grace + Duration::from_millis(later_ms));
            row.stop = Some(StopTaken { grace, ..before });
        }
    }

    pub fn take_limit(&mut self, id: i64, replica: Replica, timeout_s: Option<u64>) {
        self.take_number(id);
        if let Some(row) = self.rows.get_mut(&replica).filter(|row| row.ending.is_none()) {
            row.start.timeout_s = timeout_s;
        }
    }

    /// Nothing changes where a stop was taken before.
    pub fn timing_out(&mut self, replica: Replica, stop: StopTaken) {
        if let Some(row) = self.rows.get_mut(&replica).filter(|row| row.ending.is_none()) {
            row.stop.get_or_insert(stop);
        }
    }

    pub fn launching(&mut self, replica: Replica) {
        if let Some(row) = self.rows.get_mut(&replica) {
            row.launched = true;
        }
    }

    pub fn fencing(&mut self, replica: Replica) {
        if let Some(row) = self.rows.get_mut(&replica) {
            row.fenced = true;
        }
    }

    /// A second ending changes nothing.
    pub fn ended(&mut self, replica: Replica, ending: &Ending) {
        if let Some(row) = self.rows.get_mut(&replica) {
            row.ending.get_or_insert_with(|| ending.clone());
        }
    }

    pub fn reported(&mut self, replica: Replica) {
        if let Some(row) = self.rows.get_mut(&replica) {
            row.reported = row.ending.is_some();
        }
    }

    pub fn take_exec(&mut self, number: i64, id: Uuid) -> ExecTaken {
        self.take_number(number);
        if let Some((known, _)) = self.commands.get(&id) {
            return ExecTaken::Known(known.clone());
        }
        self.commands.insert(id, (Command { id, begun: false, result: None }, false));
        ExecTaken::New
    }

    pub fn exec_begins(&mut self, id: Uuid) {
        if let Some((command, _)) = self.commands.get_mut(&id) {
            command.begun = true;
        }
    }

    pub fn executed(&mut self, result: &Executed) {
        if let Some((command, _)) = self.commands.get_mut(&result.command) {
            command.result.get_or_insert_with(|| result.clone());
        }
    }

    pub fn exec_reported(&mut self, id: Uuid) {
        if let Some((command, reported)) = self.commands.get_mut(&id) {
            *reported = command.result.is_some();
        }
    }

    pub fn open_commands(&self) -> Vec<Command> {
        let open = self.commands.values().filter(|(_, reported)| !reported);
        open.map(|(command, _)| command.clone()).collect()
    }

    pub fn find(&self, replica: Replica) -> Option<Taken> {
        self.rows.get(&replica).map(|row| taken(replica, row))
    }

    /// Every attempt whose end has not been reported.
    pub fn open_attempts(&self) -> Vec<Taken> {
        self.rows.iter().filter(|(_, row)| !row.reported).map(|(&replica, row)| taken(replica, row)).collect()
    }
}

fn taken(replica: Replica, row: &Row) -> Taken {
    let phase = match &row.ending {
        Some(ending) => Phase::Ended { ending: ending.clone(), reported: row.reported },
        None => Phase::Live {
            start: Box::new(row.start.clone()),
            launched: row.launched,
            fenced: row.fenced,
            stop: row.stop,
        },
    };
    Taken { replica, session: row.session, phase }
}
