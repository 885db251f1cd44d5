//! `berth queues`: where jobs wait, and by which rules.

use std::collections::BTreeMap;

use berth_common::queue::Queue;
use serde_json::{Map, Value, json};

use crate::client::{Answer, Client, Query};
use crate::cluster_args::{QueueRules, QueuesArgs, QueuesCommand};
use crate::duration;
use crate::failure::Failure;
use crate::operate;
use crate::output::{self, escape};
use crate::patience::{self, Patience};
use crate::read;
use crate::request_error::RequestError;
use crate::table::Table;

/// # Errors
/// As the server refuses.
pub async fn queues(client: &Client, args: &QueuesArgs, json: bool) -> Result<u8, Failure> {
    match args.command.as_ref().unwrap_or(&QueuesCommand::Ls) {
        QueuesCommand::Ls => list(client, json).await,
        QueuesCommand::Show { name } => {
            let answer = read::one(client, &["v1", "queues", name], &Query::new()).await?;
            let text = if json { answer.text } else { describe(&answer.read()?) };
            output::print(&text)?;
            Ok(0)
        }
        QueuesCommand::Add { name, rules } => {
            let mut queue = Map::from_iter([("name".to_owned(), json!(name))]);
            overlay(&mut queue, rules);
            let body = Value::Object(queue);
            changed(
                name,
                "added",
                &send(async || client.post(&["v1", "queues"], &body, None).await).await?,
                json,
            )
        }
        QueuesCommand::Set { name, rules } => {
            let path = ["v1", "queues", name];
            let mut queue = read::one(client, &path, &Query::new()).await?.read()?;
            overlay(&mut queue, rules);
            let body = Value::Object(queue);
            changed(name, "changed", &send(async || client.put(&path, &body).await).await?, json)
        }
        QueuesCommand::Rm { name } => {
            let answer = send(async || client.delete(&["v1", "queues", name]).await).await?;
            operate::removed(name, &answer, json)
        }
    }
}

async fn send(ask: impl AsyncFnMut() -> Result<Answer, RequestError>) -> Result<Answer, RequestError> {
    patience::while_not_now(Patience::lasting(patience::READ), ask).await
}

fn changed(name: &str, how: &str, answer: &Answer, json: bool) -> Result<u8, Failure> {
    let accepted = answer.read::<Value>()?["status"] == "accepted";
    let how = if accepted { "accepted, no scheduler has decided on it yet" } else { how };
    output::print(&if json { answer.text.clone() } else { format!("{name} {how}") })?;
    Ok(0)
}

/// Puts what the flags say over `queue`; the rest of it stays.
fn overlay(queue: &mut Map<String, Value>, rules: &QueueRules) {
    if let Some(approval) = rules.approval {
        queue.insert("approval".into(), json!(approval));
    }
    if rules.no_user_quota || !rules.user_quota.is_empty() {
        let quota: BTreeMap<_, _> = rules.user_quota.iter().cloned().collect();
        queue.insert("user_quota".into(), json!(quota));
    }
    if rules.no_default_timeout {
        queue.insert("default_timeout_s".into(), Value::Null);
    }
    if let Some(time) = rules.default_timeout {
        queue.insert("default_timeout_s".into(), json!(time.as_secs()));
    }
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let items = read::all(client, &["v1", "queues"]).await?;
    if json {
        output::print_json(&items)?;
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "APPROVAL", "USER QUOTA", "TIMEOUT"]);
    for item in items {
        let queue: Queue = serde_json::from_value(item).map_err(|e| client.nonsense(&e.to_string()))?;
        table.row(vec![
            (&queue.name).into(),
            approval(&queue).into(),
            quota(&queue).into(),
            timeout(&queue).into(),
        ]);
    }
    output::print(&table.to_string())?;
    Ok(0)
}

fn describe(queue: &Queue) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("queue", queue.name.clone()),
        ("approval", approval(queue).to_owned()),
        ("user quota", quota(queue)),
        ("timeout", timeout(queue)),
    ] {
        let value = if value.is_empty() { "none" } else { &value };
        text.push_str(&format!("{name:<10} {}\n", escape(value)));
    }
    text
}

fn approval(queue: &Queue) -> &'static str {
    if queue.approval { "by an admin" } else { "" }
}

fn quota(queue: &Queue) -> String {
    queue.user_quota.iter().map(|(kind, gpus)| format!("{kind}={gpus}")).collect::<Vec<_>>().join(", ")
}

fn timeout(queue: &Queue) -> String {
    let seconds = queue.default_timeout_s.map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    seconds.map(duration::format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn rules(flags: &[&str]) -> QueueRules {
        let line = ["berth", "queues", "set", "nlp"].iter().chain(flags);
        match Cli::try_parse_from(line).expect("parses").command {
            Command::Queues(QueuesArgs { command: Some(QueuesCommand::Set { rules, .. }) }) => rules,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_change_what_they_name_and_nothing_else() {
        let before = json!({"name": "nlp", "approval": true, "user_quota": {"T4": 2}, "new": 1});
        let after = |flags: &[&str]| {
            let mut queue = before.as_object().expect("an object").clone();
            overlay(&mut queue, &rules(flags));
            Value::Object(queue)
        };
        assert_eq!(after(&[]), before);
        let changed = after(&["--approval=false", "--user-quota", "*=8", "--default-timeout", "1h"]);
        let expected = json!({"name": "nlp", "approval": false, "user_quota": {"*": 8}, "new": 1, "default_timeout_s": 3600});
        assert_eq!(changed, expected);
        assert_eq!(after(&["--approval"]), before);
        let none = after(&["--no-user-quota", "--no-default-timeout"]);
        assert_eq!((&none["user_quota"], &none["default_timeout_s"]), (&json!({}), &Value::Null));
    }

    #[test]
    fn a_queue_is_told_in_words() {
        let mut queue = Queue::new("nlp");
        assert_eq!(describe(&queue), "queue      nlp\napproval   none\nuser quota none\ntimeout    none\n");
        queue.approval = true;
        queue.user_quota.insert("T4".into(), 2);
        queue.default_timeout_s = Some(604_800);
        assert!(describe(&queue).contains("user quota T4=2\ntimeout    7d00h\n"), "{}", describe(&queue));
    }
}
