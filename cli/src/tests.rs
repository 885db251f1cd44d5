//! What several tests of this crate build upon.

use serde_json::{Value, json};

/// A job as the API answers it.
pub fn job_json(id: &str, status: &str, outcome: Option<&str>) -> Value {
    json!({
        "id": id, "name": "train", "owner": "ann", "queue": "default", "status": status, "outcome": outcome,
        "held": false, "stopping": null, "reason": null, "position": null, "start_by": null, "priority": 100,
        "array": null, "attempt": 1, "failures": 0, "faults": 0, "spec": {"image": "i"}, "device": "dev-1",
        "gpus": [], "exit_code": null, "error": null,
        "submitted_at": "2027-01-01T00:00:00.000000Z", "scheduled_at": "2027-01-01T00:00:01.000000Z",
        "started_at": "2027-01-01T00:00:10.000000Z",
        "exited_at": outcome.map(|_| "2027-01-01T00:01:40.000000Z"), "attempts": [],
    })
}
