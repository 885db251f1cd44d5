//! What the containers truly do, and what must hold at every moment: nothing twice, nothing without a
//! reason, nothing beyond what a device has.

use berth_common::id::Replica;
use berth_common::message::Start;
use berth_common::spec::Disconnect;
use uuid::Uuid;

use super::{Auditor, End, How, Kind, Run};

impl Auditor {
    /// Docker runs a command in a container.
    pub fn executed(&mut self, command: Uuid) {
        self.events += 1;
        if !self.executed.insert(command) {
            self.find(Kind::Doubled, format!("the command {command} was run twice"));
        }
    }

    /// A worker asks Docker to make a container: not once more when it ran before, and was lost.
    pub fn create_asked(&mut self, replica: Replica) {
        if self.runs.contains_key(&replica) {
            self.find(Kind::Doubled, format!("{replica} is to be made again after it has run"));
        }
    }

    /// A container begins to run.
    pub fn started(&mut self, host: usize, start: &Start, now_ms: u64) {
        self.events += 1;
        let replica = start.replica;
        if self.runs.contains_key(&replica) {
            self.find(Kind::Doubled, format!("{replica} was started twice"));
        }
        if self.ordered.get(&replica) != Some(&host) {
            self.wrong(format!("{replica} runs where nobody ordered it"));
        }
        if let Some((outcome, attempt)) = self.jobs.get(&replica.job).and_then(|job| job.exited)
            && replica.attempt <= attempt
        {
            self.find(Kind::Doubled, format!("{replica} starts after the job was {outcome}"));
        }
        self.gpus_are_free(start);
        self.no_other_attempt_lives(start, now_ms);
        let run = Run {
            host,
            start: start.clone(),
            started_ms: now_ms,
            signalled_ms: None,
            may_be_fenced: false,
            end: None,
        };
        self.runs.insert(replica, run);
        self.live.insert(replica);
        self.device_is_not_over_committed(host);
    }

    fn gpus_are_free(&mut self, start: &Start) {
        let taken = |uuid: &String| {
            let has = |replica: &&Replica| self.runs[replica].start.gpus.iter().any(|gpu| &gpu.uuid == uuid);
            self.live.iter().find(has).copied()
        };
        let found = start.gpus.iter().find_map(|gpu| Some((gpu.uuid.clone(), taken(&gpu.uuid)?)));
        if let Some((uuid, other)) = found {
            self.find(Kind::Doubled, format!("{} got the GPU {uuid}, which {other} has", start.replica));
        }
    }

    /// With `disconnect: requeue` an attempt has ended when the next one begins.
    fn no_other_attempt_lives(&mut self, start: &Start, now_ms: u64) {
        if start.spec.disconnect == Disconnect::Keep {
            return;
        }
        let of =
            |replica: &&Replica| replica.job == start.replica.job && replica.attempt != start.replica.attempt;
        let Some(other) = self.live.iter().find(of).copied() else { return };
        if !self.is_out_of_reach(self.runs[&other].host, now_ms) {
            self.find(Kind::Doubled, format!("{} starts while {other} lives", start.replica));
        }
    }

    fn device_is_not_over_committed(&mut self, host: usize) {
        let here = self.live.iter().map(|replica| &self.runs[replica]).filter(|run| run.host == host);
        let (cpu_milli, memory_mb) = here.fold((0, 0), |(cpu_milli, memory_mb), run| {
            let needs = &run.start.spec.resources;
            (cpu_milli + needs.cpus.milli, memory_mb + i64::try_from(needs.memory_mb).unwrap_or(i64::MAX))
        });
        let of = &self.hosts[host];
        if cpu_milli > of.cpu_milli || memory_mb > of.memory_mb {
            self.wrong(format!("host {host} is over-committed: {cpu_milli} milli-CPUs, {memory_mb} MB"));
        }
    }

    pub fn ended(&mut self, _host: usize, replica: Replica, code: i64, how: How, now_ms: u64) {
        self.events += 1;
        self.live.remove(&replica);
        if let Some(run) = self.runs.get_mut(&replica) {
            run.end = Some(End { ms: now_ms, code, how });
        }
        self.ended_in_time(replica);
    }
}
