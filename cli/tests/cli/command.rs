//! Commands to jobs, arrays, devices and queues.

use serde_json::{Value, json};

use crate::berth::run;
use crate::job::{A, B, command, job};
use crate::server::{Server, json, no_content, problem};

/// An id that is an array's: there is no job of this name, and jobs of that array.
async fn array() -> Server {
    let bulk = json!({"items": [
        {"job": A, "command": {"id": B, "status": "pending"}},
        {"job": B, "error": {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "not now"}},
    ]});
    Server::start(move |asked, _| match asked.what.as_str() {
        "POST /v1/commands" => json(200, &bulk),
        "GET /v1/jobs" => json(200, &json!({"items": [job(A, "running")], "next_cursor": null})),
        _ => problem(404, "an array"),
    })
    .await
}

#[tokio::test]
async fn an_arrays_id_stands_for_its_jobs() {
    let server = array().await;
    let done = run(&server, &["kill", "--grace", "5", B]).await;
    done.assert(1, &format!("{B} kill: 1 refused, 1 under way\n")).says(&format!("{B}: not now"));
    let sent = server.asked_for("POST /v1/commands").remove(0);
    assert_eq!(sent.body, json!({"command": "kill", "grace_s": 5, "array": B}));
    assert!(!sent.header("idempotency-key").is_empty());
    assert_eq!(server.asked_for("GET /v1/jobs")[0].query, format!("array={B}&limit=1"));

    let done = run(&server, &["hold", "--json", B]).await;
    let items: Vec<Value> = serde_json::from_str(&done.out).expect("one document");
    assert_eq!((done.code, items.len(), &items[1]["error"]["status"]), (1, 2, &json!(409)));
}

#[tokio::test]
async fn each_verb_sends_what_it_was_given() {
    let server = Server::start(|_, _| json(202, &command(A, "retry"))).await;
    for (args, body) in [
        (&["approve", A][..], json!({"command": "approve"})),
        (&["priority", A, "150"], json!({"command": "priority", "value": 150})),
        (&["timeout", A, "2h"], json!({"command": "timeout", "value": 7200})),
        (
            &["retry", A, "--set", "timeout_s=60", "--set", "image=busybox:1"],
            json!({"command": "retry", "set": {"timeout_s": 60, "image": "busybox:1"}}),
        ),
        (
            &["drain", "dev-1", "--now", "--note", "new fans"],
            json!({"command": "drain", "now": true, "note": "new fans"}),
        ),
        (&["resume", "dev-1"], json!({"command": "resume"})),
    ] {
        let done = run(&server, args).await;
        assert_eq!(done.code, 0, "{}", done.err);
        assert!(done.out.ends_with(": done\n"), "{}", done.out);
        let asked = server.asked().pop().expect("asked");
        assert_eq!(asked.body, body);
        let path = if args[1] == A { format!("jobs/{A}") } else { "devices/dev-1".into() };
        assert_eq!(asked.what, format!("POST /v1/{path}/commands"));
    }
}

#[tokio::test]
async fn an_execs_output_and_exit_code_are_the_commands_own() {
    let ended = |status: &str, exit_code: Option<i64>, output: &str| {
        let mut view = command(A, "exec");
        view["status"] = status.into();
        view["exit_code"] = exit_code.into();
        view["output"] = output.into();
        view
    };
    for (status, exit_code, output, code, out) in [
        ("done", Some(0), "a\u{1b}[31m\nb", 0, "a\u{1b}[31m\nb"),
        ("done", Some(3), "", 3, ""),
        ("failed", None, "no such program", 1, ""),
        ("unknown", None, "", 1, ""),
    ] {
        let end = ended(status, exit_code, output);
        let pending = ended("pending", None, "");
        let server = Server::start(move |asked, before| match asked.what.starts_with("POST") {
            true => json(202, &pending),
            false if before == 0 => problem(503, "the database is away"),
            false if before == 1 => json(200, &pending),
            false => json(200, &end),
        })
        .await;
        let args = ["exec", "--timeout", "5", "--replica", "1", A, "--", "sh", "-c", "$(x) ; 'y'"];
        let done = run(&server, &args).await;
        done.assert(code, out);
        let sent = server.asked()[0].body.clone();
        let argv = json!(["sh", "-c", "$(x) ; 'y'"]);
        assert_eq!(sent, json!({"command": "exec", "argv": argv, "timeout_s": 5, "replica": 1}));
        if status == "failed" {
            done.says("no such program");
        }
    }
}

#[tokio::test]
async fn queues_are_listed_changed_and_removed() {
    let nlp = json!({"name": "nlp", "weight": 1, "approval": true, "user_quota": {"T4": 2}, "default_timeout_s": 3600});
    let server = Server::start(move |asked, _| match asked.what.as_str() {
        "GET /v1/queues" => json(200, &json!({"items": [nlp], "next_cursor": null})),
        "DELETE /v1/queues/nlp" | "DELETE /v1/devices/dev-1" => no_content(),
        "POST /v1/queues" => json(201, &nlp),
        _ => json(200, &nlp),
    })
    .await;
    run(&server, &["queues"]).await.assert(
        0,
        "NAME  WEIGHT  POLICY  QUOTA  USER QUOTA  TIMEOUT  MAX JOBS  APPROVAL     MEMBERS\n\
                    nlp        1  xf      -      T4=2        1h00m           -  by an admin  everybody\n",
    );
    run(&server, &["queues", "create", "nlp", "--approval"]).await.assert(0, "nlp added\n");
    assert_eq!(server.asked().pop().expect("asked").body, json!({"name": "nlp", "approval": true}));
    run(&server, &["queues", "set", "nlp", "--no-user-quota"]).await.assert(0, "nlp changed\n");
    let put = server.asked().pop().expect("asked");
    assert_eq!(
        (put.what.as_str(), &put.body["user_quota"], &put.body["approval"]),
        ("PUT /v1/queues/nlp", &json!({}), &json!(true))
    );
    run(&server, &["queues", "rm", "nlp"]).await.assert(0, "nlp removed\n");
    run(&server, &["devices", "rm", "dev-1"]).await.assert(0, "dev-1 removed\n");
}
