//! What clients ask for, by chance: specifications and commands, all of them valid.

use serde_json::{Value, json};
use uuid::Uuid;

use super::queues::{CAPPED, CHECKED, LINED};
use crate::chance::Chance;
use crate::docker::{HERE, MISSING, PULLED, SHAKY};
use crate::host::KINDS;

/// How much is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    No,
    /// More GPUs than there are: many wait, and who may be stopped for others is.
    ForGpus,
}

/// A job that may be stopped for others runs so long in a crowd that it comes to that: nobody is stopped in the
/// first five minutes.
const STOPPABLE_MS: (u64, u64) = (300_000, 500_000);
/// It goes on where it was, and then has so much left.
const LEFT_MS: (u64, u64) = (1_000, 60_000);

/// A job's specification; it may come after one of `known`.
pub fn spec(chance: &Chance, crowd: Crowd, known: &[Uuid]) -> Value {
    let image = match chance.between(0, 19) {
        0 => MISSING,
        1..=2 => SHAKY,
        3..=6 => chance.pick(&PULLED),
        _ => HERE,
    };
    let runs_ms = match chance.between(0, 9) {
        0 => 0,
        1..=3 => chance.between(100, 5_000),
        4..=6 => chance.skewed(5_000, 60_000),
        _ => chance.between(60_000, 400_000),
    };
    let codes = *chance.pick(&["0", "0", "0", "0", "1", "1,0", "3,2,0", "137,0"]);
    let on_term = *chance.pick(&["143:200", "0:1000", "1:4000", "ignore", "143:0"]);
    let mut spec = json!({
        "image": image,
        "command": [runs_ms.to_string(), codes, on_term],
        "resources": {
            "gpus": *chance.pick(&[0, 0, 1, 1, 1, 2, 3]),
            "cpus": *chance.pick(&[0.5, 1.0, 4.0]),
            "memory_mb": *chance.pick(&[256, 1024, 6000]),
        },
        "retries": *chance.pick(&[0, 0, 1, 2]),
        "backoff_s": chance.between(0, 5),
        "priority": chance.between(100, 200),
    });
    if chance.one_in(3) {
        spec["disconnect"] = json!("keep");
    }
    if chance.one_in(5) {
        spec["timeout_s"] = json!(chance.between(1, 120));
    }
    if chance.one_in(8) {
        spec["hold"] = json!(true);
    }
    match chance.between(0, 9) {
        0 => spec["queue"] = json!(CHECKED),
        1..=3 => spec["queue"] = json!(CAPPED),
        4 => spec["queue"] = json!(LINED),
        _ => {}
    }
    if chance.one_in(4) {
        spec["preemptible"] = json!(true);
    }
    if crowd == Crowd::ForGpus {
        wants_gpus(chance, &mut spec);
    }
    if !known.is_empty() && chance.one_in(6) {
        spec["after"] = json!([chance.pick(known)]);
    }
    match chance.between(0, 11) {
        0..=1 => {
            spec["replicas"] = json!(chance.between(2, 3));
            spec["resources"]["gpus"] = json!(chance.between(0, 1));
        }
        2 => {
            spec["array"] = json!({"count": chance.between(2, 4)});
            if chance.one_in(2) {
                spec["array"]["max_running"] = json!(chance.between(1, 2));
            }
        }
        _ => {}
    }
    if spec["resources"]["gpus"] != 0 && chance.one_in(8) {
        spec["resources"]["gpu_type"] = json!(chance.pick(&[&KINDS[..1], &KINDS[1..], &KINDS]));
    }
    spec
}

fn wants_gpus(chance: &Chance, spec: &mut Value) {
    spec["resources"]["gpus"] = json!(*chance.pick(&[1, 1, 2, 2, 3]));
    if chance.one_in(3) {
        spec["queue"] = json!(CAPPED);
    }
    if chance.one_in(2) {
        let runs_ms = chance.between(STOPPABLE_MS.0, STOPPABLE_MS.1);
        let left_ms = chance.between(LEFT_MS.0, LEFT_MS.1);
        spec["preemptible"] = json!(true);
        spec["command"][0] = json!(format!("{runs_ms},{left_ms}"));
    }
}

/// A command on a device.
pub fn of_device(chance: &Chance) -> Value {
    match chance.between(0, 2) {
        0 => json!({"command": "drain"}),
        1 => json!({"command": "drain", "now": true}),
        _ => json!({"command": "resume"}),
    }
}

/// A command on a job.
pub fn command(chance: &Chance) -> Value {
    let grace_s = *chance.pick(&[0, 1, 10, 30]);
    match chance.between(0, 14) {
        0..=2 => json!({"command": "kill", "grace_s": grace_s}),
        3..=4 => json!({"command": "hold", "grace_s": grace_s}),
        5..=6 => json!({"command": "release"}),
        7..=8 => json!({"command": "retry"}),
        9..=11 => {
            json!({"command": "exec", "argv": ["nvidia-smi"], "timeout_s": *chance.pick(&[5, 60, 600, 600])})
        }
        12 => json!({"command": "timeout", "value": chance.between(1, 120)}),
        13 => json!({"command": "approve"}),
        _ => json!({"command": "priority", "value": chance.between(100, 200)}),
    }
}
