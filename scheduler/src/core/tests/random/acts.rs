//! What can happen in a random world, and how often.

use berth_common::queue::Queue;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::shares::{QUEUES, rules};
use super::world::World;

pub const DEVICES: [&str; 2] = ["a", "b"];
pub const COMMANDS: [&str; 9] =
    ["kill", "kill", "hold", "release", "retry", "approve", "exec", "timeout", "priority"];
pub const DRAINS: [&str; 4] = ["drain", "drain now", "resume", "resume"];

#[derive(Debug, Clone)]
pub enum Act {
    Submit(Kind),
    Command {
        job: usize,
        verb: usize,
    },
    Drain {
        device: usize,
        verb: usize,
    },
    /// Other rules for a queue, or a queue that was not there.
    Rule(Box<Queue>),
    /// Refused once it has had a job.
    Delete {
        queue: usize,
    },
    Read {
        again: bool,
    },
    Take {
        device: usize,
        again: bool,
    },
    Start {
        device: usize,
    },
    Finish {
        device: usize,
        code: i64,
    },
    Heartbeat {
        device: usize,
    },
    Crash {
        device: usize,
    },
    /// The oldest message comes so late that it might as well not come.
    Lose {
        device: usize,
    },
    /// The oldest message comes last.
    Delay {
        device: usize,
    },
    /// The broker is away for so long that the worker fences itself and the leader gives it up.
    Cut {
        device: usize,
    },
    /// Another leader; after more than a day, some jobs have waited for too long.
    Reload {
        away_ms: i64,
    },
    Pass {
        ms: i64,
    },
    /// Everybody is heard, everything arrives, and everything starts.
    Settle,
    /// Minutes in which everybody is heard: what may be stopped for others has run for long enough then.
    Wait {
        times: u32,
    },
}

#[derive(Debug, Clone)]
pub struct Kind {
    gpus: u32,
    /// The type that it must get.
    gpu_type: Option<&'static str>,
    retries: u32,
    /// 1: a single job; 2: a gang.
    replicas: u32,
    /// Elements of an array; 0: none.
    array: u32,
    /// One that was submitted before, counted from the first.
    after: Option<usize>,
    keep: bool,
    queue: &'static str,
    preemptible: bool,
    priority: i32,
    timeout_s: Option<u64>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let gpus = prop_oneof![1 => 0..3u32, 2 => 1..4u32];
    let choices = (gpus, 0..2u32, 1..3u32, prop_oneof![4 => Just(0u32), 1 => 2..4u32]);
    let further = (prop_oneof![4 => Just(None), 1 => (0..6usize).prop_map(Some)], prop::bool::weighted(0.15));
    let gpu_type = prop_oneof![4 => Just(None), 1 => select(vec!["T4", "P4"]).prop_map(Some)];
    let timeout_s = select(vec![None, None, Some(900), Some(3600)]);
    let queue = prop_oneof![1 => Just(QUEUES[0]), 6 => select(QUEUES[1..].to_vec())];
    let turn = (gpu_type, queue, prop::bool::weighted(0.4), select(vec![100, 100, 150]));
    (choices, further, turn, timeout_s).prop_map(
        |((gpus, retries, replicas, array), (after, keep), turn, timeout_s)| {
            let (gpu_type, queue, preemptible, priority) = turn;
            let replicas = if gpus < 3 { replicas } else { 1 };
            Kind {
                gpus,
                gpu_type,
                retries,
                replicas,
                array,
                after,
                keep,
                queue,
                preemptible,
                priority,
                timeout_s,
            }
        },
    )
}

impl Kind {
    pub fn body(&self, world: &World) -> Value {
        let mut job = json!({
            "resources": {"gpus": self.gpus}, "retries": self.retries, "replicas": self.replicas,
            "disconnect": if self.keep { "keep" } else { "requeue" }, "timeout_s": self.timeout_s,
            "queue": self.queue, "preemptible": self.preemptible, "priority": self.priority,
        });
        if let Some(kind) = self.gpu_type.filter(|_| self.gpus > 0) {
            job["resources"]["gpu_type"] = json!(kind);
        }
        if self.array > 0 {
            job["array"] = json!({"count": self.array, "max_running": 1});
        }
        if let Some(id) = self.after.and_then(|after| world.tables.jobs.keys().nth(after)) {
            job["after"] = json!([id]);
        }
        job
    }
}

pub fn command(verb: &str) -> Value {
    match verb {
        "exec" => json!({"command": "exec", "argv": ["true"]}),
        "timeout" => json!({"command": "timeout", "value": 3600}),
        "priority" => json!({"command": "priority", "value": 150}),
        "drain now" => json!({"command": "drain", "now": true}),
        verb => json!({ "command": verb }),
    }
}

pub fn act() -> impl Strategy<Value = Act> {
    let device = || 0..DEVICES.len();
    prop_oneof![
        8 => kind().prop_map(Act::Submit),
        3 => (0..8usize, 0..COMMANDS.len()).prop_map(|(job, verb)| Act::Command { job, verb }),
        1 => (device(), 0..DRAINS.len()).prop_map(|(device, verb)| Act::Drain { device, verb }),
        2 => rules().prop_map(|queue| Act::Rule(Box::new(queue))),
        1 => (0..QUEUES.len()).prop_map(|queue| Act::Delete { queue }),
        8 => any::<bool>().prop_map(|again| Act::Read { again }),
        8 => (device(), any::<bool>()).prop_map(|(device, again)| Act::Take { device, again }),
        5 => device().prop_map(|device| Act::Start { device }),
        4 => (device(), 0..2i64).prop_map(|(device, code)| Act::Finish { device, code }),
        3 => device().prop_map(|device| Act::Heartbeat { device }),
        1 => device().prop_map(|device| Act::Crash { device }),
        1 => device().prop_map(|device| Act::Lose { device }),
        1 => device().prop_map(|device| Act::Delay { device }),
        1 => device().prop_map(|device| Act::Cut { device }),
        1 => select(vec![0, 25 * 3_600_000]).prop_map(|away_ms| Act::Reload { away_ms }),
        3 => (1..20_000i64).prop_map(|ms| Act::Pass { ms }),
        5 => Just(Act::Settle),
        3 => (1..4u32).prop_map(|times| Act::Wait { times }),
    ]
}
