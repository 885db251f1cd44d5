//! `berth queues`: where jobs wait, and by which rules.

mod overlay;

use std::collections::BTreeMap;

use berth_common::queue::{Member, MemberRole, Queue};
use serde_json::{Map, Value, json};

use crate::client::{Answer, Client, Query};
use crate::cluster_args::{QueuesArgs, QueuesCommand};
use crate::duration;
use crate::failure::Failure;
use crate::operate;
use crate::output::{self, escape};
use crate::patience::{self, Patience};
use crate::read;
use crate::request_error::RequestError;
use crate::table::Table;
use overlay::overlay;

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
            overlay(&mut queue, rules)?;
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
            overlay(&mut queue, rules)?;
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

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let items = read::all(client, &["v1", "queues"]).await?;
    if json {
        output::print_json(&items)?;
        return Ok(0);
    }
    let headings =
        ["NAME", "WEIGHT", "POLICY", "QUOTA", "USER QUOTA", "TIMEOUT", "MAX JOBS", "APPROVAL", "MEMBERS"];
    let mut table = Table::new(&headings).numbers(&[1, 6]);
    for item in items {
        let queue: Queue = serde_json::from_value(item).map_err(|e| client.nonsense(&e.to_string()))?;
        let members = queue.members.len();
        table.row(vec![
            (&queue.name).into(),
            queue.weight.to_string().into(),
            queue.policy.as_str().into(),
            quota(&queue.quota).into(),
            quota(&queue.user_quota).into(),
            timeout(&queue).into(),
            max_jobs(&queue).into(),
            approval(&queue).into(),
            (if members == 0 { "everybody".to_owned() } else { members.to_string() }).into(),
        ]);
    }
    output::print(&table.to_string())?;
    Ok(0)
}

fn describe(queue: &Queue) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("queue", queue.name.clone()),
        ("weight", queue.weight.to_string()),
        ("policy", queue.policy.to_string()),
        ("placement", queue.placement.to_string()),
        ("quota", quota(&queue.quota)),
        ("user quota", quota(&queue.user_quota)),
        ("timeout", timeout(queue)),
        ("max jobs", max_jobs(queue)),
        ("approval", approval(queue).to_owned()),
        ("members", members(queue)),
    ] {
        let value = if value.is_empty() { "none" } else { &value };
        text.push_str(&format!("{name:<10} {}\n", escape(value)));
    }
    text
}

fn approval(queue: &Queue) -> &'static str {
    if queue.approval { "by an admin" } else { "" }
}

fn quota(quota: &BTreeMap<String, u32>) -> String {
    quota.iter().map(|(kind, gpus)| format!("{kind}={gpus}")).collect::<Vec<_>>().join(", ")
}

/// `1h00m, at most 1d00h`: of jobs that name no limit, and of those that do.
fn timeout(queue: &Queue) -> String {
    let shown = |seconds: u64| duration::format(i64::try_from(seconds).unwrap_or(i64::MAX));
    let usual = queue.default_timeout_s.map(shown);
    let longest = queue.max_timeout_s.map(|seconds| format!("at most {}", shown(seconds)));
    usual.into_iter().chain(longest).collect::<Vec<_>>().join(", ")
}

fn max_jobs(queue: &Queue) -> String {
    queue.max_jobs.map(|jobs| jobs.to_string()).unwrap_or_default()
}

fn members(queue: &Queue) -> String {
    if queue.members.is_empty() {
        return "everybody may submit".to_owned();
    }
    let shown = |member: &Member| match member.role {
        MemberRole::Admin => format!("{} (admin)", member.user),
        MemberRole::Member => member.user.clone(),
    };
    queue.members.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_told_in_words() {
        let mut queue = Queue::new("nlp");
        assert_eq!(
            describe(&queue),
            "queue      nlp\nweight     1\npolicy     xf\nplacement  pack\nquota      none\nuser quota none\n\
             timeout    none\nmax jobs   none\napproval   none\nmembers    everybody may submit\n"
        );
        queue.user_quota.insert("T4".into(), 2);
        queue.default_timeout_s = Some(604_800);
        queue.max_timeout_s = Some(1_209_600);
        queue.members =
            ["ann", "bob"].map(|user| Member { user: user.into(), role: MemberRole::Member }).into();
        queue.members[1].role = MemberRole::Admin;
        let text = describe(&queue);
        for line in
            ["user quota T4=2\n", "timeout    7d00h, at most 14d00h\n", "members    ann, bob (admin)\n"]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
