//! What the flags of `berth queues add` and `set` say, put over a queue.
//!
//! What must always hold: nothing else of the queue changes, not even what this version does not know.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cluster_args::QueueRules;
use crate::failure::Failure;

/// Puts what the flags say over `queue`; the rest of it stays.
///
/// # Errors
/// When the last member is removed: then everybody could use it.
pub fn overlay(queue: &mut Map<String, Value>, rules: &QueueRules) -> Result<(), Failure> {
    let seconds = |time: Duration| time.as_secs();
    put(queue, "weight", rules.weight, false);
    put(queue, "policy", rules.policy, false);
    put(queue, "placement", rules.placement, false);
    put(queue, "approval", rules.approval, false);
    put(queue, "default_timeout_s", rules.default_timeout.map(seconds), rules.no_default_timeout);
    put(queue, "max_timeout_s", rules.max_timeout.map(seconds), rules.no_max_timeout);
    put(queue, "max_jobs", rules.max_jobs, rules.no_max_jobs);
    for (field, quota, none) in
        [("quota", &rules.quota, rules.no_quota), ("user_quota", &rules.user_quota, rules.no_user_quota)]
    {
        if none || !quota.is_empty() {
            let quota: BTreeMap<_, _> = quota.iter().cloned().collect();
            queue.insert(field.into(), json!(quota));
        }
    }
    overlay_members(queue, rules)
}

fn put(queue: &mut Map<String, Value>, field: &str, value: Option<impl Serialize>, none: bool) {
    if none {
        queue.insert(field.into(), Value::Null);
    } else if let Some(value) = value {
        queue.insert(field.into(), json!(value));
    }
}

/// Members come and go one by one: whoever adds somebody need not know all the others.
fn overlay_members(queue: &mut Map<String, Value>, rules: &QueueRules) -> Result<(), Failure> {
    let named = |user: &Value| {
        rules.member.iter().any(|member| member.user == *user)
            || rules.remove_member.iter().any(|u| u == user)
    };
    if !rules.no_members && rules.member.is_empty() && rules.remove_member.is_empty() {
        return Ok(());
    }
    let before = queue.get("members").and_then(Value::as_array).cloned().unwrap_or_default();
    let had_members = !before.is_empty();
    let stay = before.into_iter().filter(|member| !rules.no_members && !named(&member["user"]));
    let members: Vec<Value> = stay.chain(rules.member.iter().map(|member| json!(member))).collect();
    if had_members && members.is_empty() && !rules.no_members {
        let text = "nobody would be left, and a queue without members is everybody's: say --no-members if that is meant";
        return Err(Failure::Usage(text.into()));
    }
    queue.insert("members".into(), Value::Array(members));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::cluster_args::{QueuesArgs, QueuesCommand};
    use berth_common::queue::Queue;
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
            overlay(&mut queue, &rules(flags)).expect("valid");
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
    fn every_field_of_a_queue_has_its_flag() {
        let flags = "--weight 3 --policy fifo-backfill --placement fgd --quota T4=8 --quota *=16 --user-quota *=2 \
             --default-timeout 1h --max-timeout 1d --max-jobs 100 --approval --member ann --member bob=admin";
        let mut queue = Map::from_iter([("name".to_owned(), json!("nlp"))]);
        overlay(&mut queue, &rules(&flags.split_whitespace().collect::<Vec<_>>())).expect("valid");
        let sent = Queue::from_value(Value::Object(queue)).expect("the server understands it");
        let read = serde_json::to_value(&sent).expect("JSON");
        let default = serde_json::to_value(Queue::new("nlp")).expect("JSON");
        for (field, value) in
            default.as_object().expect("an object").iter().filter(|(field, _)| *field != "name")
        {
            assert_ne!(read[field], *value, "{field} has no flag");
        }
        let flags = "--weight 1 --policy xf --placement pack --no-quota --no-user-quota --no-default-timeout \
             --no-max-timeout --no-max-jobs --approval=false --no-members";
        let mut queue = read.as_object().expect("an object").clone();
        overlay(&mut queue, &rules(&flags.split_whitespace().collect::<Vec<_>>())).expect("valid");
        assert_eq!(Queue::from_value(Value::Object(queue)).expect("valid"), Queue::new("nlp"));
    }

    #[test]
    fn members_come_and_go_one_by_one() {
        let mut queue = Map::new();
        let names = |queue: &Map<String, Value>| queue["members"].as_array().expect("a list").clone();
        overlay(&mut queue, &rules(&["--member", "ann", "--member", "bob"])).expect("valid");
        overlay(
            &mut queue,
            &rules(&["--member", "ann=admin", "--remove-member", "bob", "--member", "carol=member"]),
        )
        .expect("valid");
        let expected = [json!({"user": "ann", "role": "admin"}), json!({"user": "carol", "role": "member"})];
        assert_eq!(names(&queue), expected);
        let nobody = overlay(&mut queue, &rules(&["--remove-member", "ann", "--remove-member", "carol"]));
        assert!(matches!(nobody, Err(Failure::Usage(_))), "it would be everybody's");
        overlay(&mut queue, &rules(&["--no-members"])).expect("valid");
        assert!(names(&queue).is_empty());
    }
}
