//! Queues are read with their defaults; what is wrong is told with its place and what is allowed.

use super::*;
use serde_json::{Value, json};

fn refused(body: Value) -> Vec<(String, String)> {
    let problem = Queue::from_value(body.clone()).expect_err(&body.to_string());
    problem.errors.into_iter().map(|error| (error.pointer, error.message)).collect()
}

#[test]
fn a_queue_is_read_with_its_defaults() {
    let queue = Queue::from_value(json!({"name": "nlp", "approval": true})).expect("valid");
    assert_eq!(queue, Queue { approval: true, ..Queue::new("nlp") });
    let nothing = json!({"name": "nlp", "weight": null, "policy": null, "placement": null, "max_jobs": null});
    let queue = Queue::from_value(nothing).expect("null is the default");
    assert_eq!(queue, Queue::new("nlp"));
    let written = serde_json::to_value(&queue).expect("JSON");
    assert_eq!((&written["policy"], &written["placement"]), (&json!("xf"), &json!("pack")));
}

#[test]
fn every_rule_is_read() {
    let body = json!({
        "name": "nlp", "weight": 1000, "policy": "fifo-backfill", "placement": "fgd", "quota": {"T4": 8, "*": 16},
        "user_quota": {"*": 2}, "default_timeout_s": 60, "max_timeout_s": 60, "max_jobs": 0, "approval": false,
        "members": [{"user": "carol", "role": "member"}, {"user": "ann", "role": "admin"}],
    });
    let queue = Queue::from_value(body).expect("valid");
    assert_eq!((queue.policy, queue.placement), (Policy::FifoBackfill, Placement::Fgd));
    assert_eq!((queue.role_of("ann"), queue.role_of("bob")), (Some(MemberRole::Admin), None));
    let names: Vec<_> = queue.members.iter().map(|member| member.user.as_str()).collect();
    assert_eq!(names, ["ann", "carol"], "in the order in which they are stored");
    let again = Queue::from_value(serde_json::to_value(&queue).expect("JSON")).expect("what it prints");
    assert_eq!(again, queue);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let role = |user: &str, role: &str| json!({"user": user, "role": role});
    for (body, pointer) in [
        (json!({"name": "N"}), "/name"),
        (json!({"name": "a", "default_timeout_s": 0}), "/default_timeout_s"),
        (json!({"name": "a", "max_timeout_s": 31_622_401}), "/max_timeout_s"),
        (json!({"name": "a", "max_timeout_s": 59, "default_timeout_s": 60}), "/max_timeout_s"),
        (json!({"name": "a", "user_quota": {"": 1}}), "/user_quota"),
        (json!({"name": "a", "user_quota": {"T4": -1}}), "/user_quota/T4"),
        (json!({"name": "a", "quota": {"a\n": 1}}), "/quota"),
        (json!({"name": "a", "quota": {"T4": 1.5}}), "/quota/T4"),
        (json!({"name": "a", "color": 1}), "/color"),
        (json!({"name": "a", "weight": 0}), "/weight"),
        (json!({"name": "a", "weight": 1001}), "/weight"),
        (json!({"name": "a", "weight": -1}), "/weight"),
        (json!({"name": "a", "max_jobs": 1_000_000_001}), "/max_jobs"),
        (json!({"name": "a", "members": [role("ann", "owner")]}), "/members/0/role"),
        (json!({"name": "a", "members": [{"user": "ann"}]}), "/members/0/role"),
        (json!({"name": "a", "members": [{"user": "ann", "role": "admin", "since": 1}]}), "/members/0/since"),
        (json!({"name": "a", "members": [role("ann", "admin"), role("ann", "member")]}), "/members/1/user"),
    ] {
        let found = refused(body.clone());
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, [pointer], "{body}");
    }
}

#[test]
fn an_unknown_word_is_refused_with_those_that_are_known() {
    for (field, words) in [
        ("policy", Policy::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>()),
        ("placement", Placement::ALL.iter().map(|word| word.as_str()).collect()),
    ] {
        let found = refused(json!({"name": "a", field: "best"}));
        assert_eq!(found[0].0, format!("/{field}"));
        assert!(words.iter().all(|word| found[0].1.contains(word)), "{found:?}");
    }
}
