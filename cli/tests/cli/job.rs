//! Jobs as the API answers them.

use serde_json::{Value, json};

pub const A: &str = "0192abcd-1234-7000-8000-00000000000a";
pub const B: &str = "ff92abcd-1234-7000-8000-00000000000b";

pub fn job(id: &str, status: &str) -> Value {
    json!({
        "id": id, "name": "train", "owner": "ann", "queue": "default", "status": status, "outcome": null,
        "held": false, "stopping": null, "reason": null, "position": null, "start_by": null, "priority": 100,
        "array": null, "attempt": i32::from(status != "pending"), "failures": 0, "faults": 0,
        "spec": {"image": "i"}, "device": "dev-1", "gpus": [], "exit_code": null, "error": null,
        "submitted_at": "2027-01-01T00:00:00.000000Z", "scheduled_at": null,
        "started_at": "2027-01-01T00:00:10.000000Z", "exited_at": null, "attempts": [],
    })
}

pub fn exited(id: &str, outcome: &str, exit_code: Option<i64>) -> Value {
    let mut job = job(id, "exited");
    job["outcome"] = outcome.into();
    job["exit_code"] = exit_code.into();
    job["exited_at"] = "2027-01-01T00:01:40.000000Z".into();
    job
}

pub fn waiting(id: &str, why: &str) -> Value {
    let mut job = job(id, "pending");
    job["reason"] = json!({"code": "WAITS", "text": why});
    job
}

pub fn command(job: &str, verb: &str) -> Value {
    json!({
        "id": B, "job": job, "device": null, "command": verb, "argument": {}, "actor": "ann", "reason": null,
        "status": "done", "exit_code": null, "output": null, "truncated": false,
        "asked_at": "2027-01-01T00:00:00.000000Z", "done_at": null,
    })
}
