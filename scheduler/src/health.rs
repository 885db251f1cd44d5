//! What this process needs to do its work, and whether it has it: the answer of `/readyz`.
//!
//! A standby is as ready as a leader: both take requests. What is missing is told with where it was
//! looked for and what a person can do about it.

use std::sync::{Arc, Mutex, PoisonError};

use berth_common::broker::LinkState;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Who leads the cell, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leading {
    /// Not looked up yet, or not known any more.
    Unknown,
    /// This process has the lease and reads the state.
    Loading,
    Leader {
        epoch: i64,
    },
    /// Another process leads; this one answers requests all the same.
    Standby {
        holder: String,
    },
}

/// Shared by everything that knows something about it.
#[derive(Clone)]
pub struct Health {
    database_at: Arc<str>,
    broker_at: Arc<str>,
    publishing: watch::Receiver<LinkState>,
    consuming: watch::Receiver<LinkState>,
    known: Arc<Mutex<Known>>,
}

struct Known {
    database: Result<(), String>,
    leading: Leading,
}

impl Health {
    /// `database_at` and `broker_at` are shown, so without passwords; `links` are the publishing and
    /// the consuming connection.
    #[must_use]
    pub fn new(
        database_at: &str,
        broker_at: &str,
        links: (watch::Receiver<LinkState>, watch::Receiver<LinkState>),
    ) -> Self {
        let known = Known { database: Err("not connected yet".into()), leading: Leading::Unknown };
        Self {
            database_at: database_at.into(),
            broker_at: broker_at.into(),
            publishing: links.0,
            consuming: links.1,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// What the last call of the database met.
    pub fn set_database(&self, state: Result<(), String>) {
        self.known().database = state;
    }

    pub fn set_leading(&self, leading: Leading) {
        self.known().leading = leading;
    }

    #[must_use]
    pub fn leading(&self) -> Leading {
        self.known().leading.clone()
    }

    /// Whether requests can be served, and the body of `/readyz`.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let mut missing = Vec::new();
        missing.extend(self.missing_database());
        missing.extend(self.missing_link("broker (publishing)", &self.publishing.borrow()));
        missing.extend(self.missing_link("broker (consuming)", &self.consuming.borrow()));
        let leading = self.leading();
        missing.extend(missing_leader(&leading));
        if missing.is_empty() { (true, ready(&leading)) } else { (false, unready(&missing)) }
    }

    fn missing_database(&self) -> Option<Value> {
        let problem = self.known().database.clone().err()?;
        Some(json!({
            "part": "database",
            "where": &*self.database_at,
            "problem": problem,
            "do": "check that the database runs and that BERTH_DATABASE_URL is right; it is tried again by itself",
        }))
    }

    fn missing_link(&self, part: &str, state: &LinkState) -> Option<Value> {
        let (state, problem, advice) = match state {
            LinkState::Up => return None,
            LinkState::Connecting { error } => (
                "connecting",
                error.as_deref().unwrap_or("not connected yet").to_owned(),
                "check that RabbitMQ runs and that BERTH_AMQP_URL is right; it is tried again by itself",
            ),
            LinkState::Blocked { reason } => (
                "blocked",
                format!("RabbitMQ takes no messages: {reason}"),
                "give the broker's host memory or disk space; see rabbitmq-diagnostics alarms",
            ),
        };
        let at = &*self.broker_at;
        Some(json!({"part": part, "where": at, "state": state, "problem": problem, "do": advice}))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While nobody knows who leads, or the new leader reads its state, submissions would wait.
fn missing_leader(leading: &Leading) -> Option<Value> {
    let problem = match leading {
        Leading::Leader { .. } | Leading::Standby { .. } => return None,
        Leading::Unknown => "it is not known who leads",
        Leading::Loading => "this process became the leader and reads the state of the cluster",
    };
    Some(json!({
        "part": "leader",
        "where": "sched.leader",
        "problem": problem,
        "do": "wait; if it stays so, look for the cause in the scheduler's log",
    }))
}

fn ready(leading: &Leading) -> Value {
    match leading {
        Leading::Leader { epoch } => json!({"status": "ready", "role": "leader", "epoch": epoch}),
        Leading::Standby { holder } => json!({"status": "ready", "role": "standby", "leader": holder}),
        Leading::Unknown | Leading::Loading => json!({"status": "ready"}),
    }
}

fn unready(missing: &[Value]) -> Value {
    json!({"status": "unready", "missing": missing})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (Health, watch::Sender<LinkState>) {
        let (set, link) = watch::channel(LinkState::Connecting { error: Some("refused".into()) });
        (Health::new("db:5432/berth", "mq:5672 (vhost /)", (link.clone(), link)), set)
    }

    fn parts(report: &Value) -> Vec<&str> {
        report["missing"].as_array().expect("a list").iter().filter_map(|m| m["part"].as_str()).collect()
    }

    #[test]
    fn everything_that_is_missing_is_told_with_where_and_what_to_do() {
        let (health, _set) = health();
        let (ready, report) = health.report();
        assert!(!ready);
        assert_eq!(parts(&report), ["database", "broker (publishing)", "broker (consuming)", "leader"]);
        assert_eq!(report["missing"][1]["where"], "mq:5672 (vhost /)");
        assert_eq!(report["missing"][1]["problem"], "refused");
        assert!(report["missing"][1]["do"].as_str().is_some_and(|text| text.contains("BERTH_AMQP_URL")));
    }

    #[test]
    fn a_standby_is_as_ready_as_a_leader_and_a_loading_one_is_not() {
        let (health, set) = health();
        set.send_replace(LinkState::Up);
        health.set_database(Ok(()));
        for (leading, expected) in [
            (Leading::Unknown, false),
            (Leading::Loading, false),
            (Leading::Leader { epoch: 3 }, true),
            (Leading::Standby { holder: "other".into() }, true),
        ] {
            health.set_leading(leading.clone());
            assert_eq!(health.report().0, expected, "{leading:?}");
        }
    }

    #[test]
    fn a_blocked_broker_is_not_ready() {
        let (health, set) = health();
        set.send_replace(LinkState::Blocked { reason: "low on memory".into() });
        health.set_database(Ok(()));
        health.set_leading(Leading::Leader { epoch: 1 });
        let (ready, report) = health.report();
        assert!(!ready && report.to_string().contains("low on memory"), "{report}");
        assert_eq!(report["missing"][0]["state"], "blocked", "{report}");
    }
}
