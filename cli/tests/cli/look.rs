//! Looking at jobs, devices and users, and commands to several jobs.

use serde_json::{Value, json};

use crate::berth::{at, done, run};
use crate::job::{A, B, command, exited, job, waiting};
use crate::server::{Server, json, problem, text};

#[tokio::test]
async fn the_beginning_of_an_id_is_enough_if_it_is_unique() {
    let server = Server::start(|asked, _| {
        match (asked.what.as_str(), asked.query.contains("id_prefix=0192abcd-12")) {
            ("GET /v1/jobs", true) => json(200, &json!({"items": [job(A, "running")], "next_cursor": null})),
            ("GET /v1/jobs", false) => {
                let twin = A.replace("00a", "00c");
                json(200, &json!({"items": [job(A, "running"), job(&twin, "running")], "next_cursor": null}))
            }
            _ => json(200, &job(A, "running")),
        }
    })
    .await;
    let shown = run(&server, &["show", "0192ABCD12"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(shown.out.contains(A) && shown.out.contains("running"), "{}", shown.out);
    assert_eq!(server.asked()[1].what, format!("GET /v1/jobs/{A}"));
    run(&server, &["show", "0192"]).await.assert(1, "").says("several").says(A).says("00c");
    run(&server, &["show", "ff"]).await.assert(1, "").says("no job's id begins with ff");
}

#[tokio::test]
async fn a_list_is_a_table_and_its_json_the_items_of_all_pages() {
    let server = Server::start(|asked, _| {
        let first = !asked.query.contains("cursor=next");
        let item = if first { waiting(A, "waits for\x1b[2J GPUs") } else { exited(B, "failed", Some(3)) };
        json(200, &json!({"items": [item], "next_cursor": first.then_some("next")}))
    })
    .await;
    let all = run(&server, &["ls", "--json", "--all", "--status", "pending", "--label", "a=b"]).await;
    assert_eq!(all.code, 0, "{}", all.err);
    let items: Vec<Value> = serde_json::from_str(&all.out).expect("one document");
    assert_eq!(items, [waiting(A, "waits for\x1b[2J GPUs"), exited(B, "failed", Some(3))]);
    assert_eq!(server.asked()[0].query, "status=pending&label=a%3Ab&limit=1000");

    let one = run(&server, &["ls", "--limit", "1"]).await;
    assert_eq!(one.code, 0, "{}", one.err);
    one.says("--all");
    let lines: Vec<&str> = one.out.lines().collect();
    assert!(lines[0].starts_with("ID        NAME   OWNER"), "{}", lines[0]);
    assert!(lines[1].starts_with("0192abcd  train  ann"), "{}", lines[1]);
    assert!(lines[1].ends_with("waits for\\u{1b}[2J GPUs"), "{}", lines[1]);
    assert!(!one.out.contains('\x1b'), "no colour without a terminal");
}

#[tokio::test]
async fn nobody_who_stops_reading_makes_it_panic() {
    let server = Server::start(|_, _| text(vec![b'x'; 1 << 20])).await;
    let mut child = at(&server, &["logs", A]).spawn().expect("starts");
    drop(child.stdout.take());
    done(child).await.assert(141, "");
}

#[tokio::test]
async fn a_log_passes_as_it_is() {
    let server = Server::start(|_, _| text(b"\x1b[31mred\x1b[0m \xff\r\n".to_vec())).await;
    let child = at(&server, &["logs", A, "--tail", "5", "--attempt", "2", "--stream", "stderr"])
        .spawn()
        .expect("starts");
    let output = child.wait_with_output().await.expect("it ran");
    assert_eq!(output.stdout, b"\x1b[31mred\x1b[0m \xff\r\n");
    assert_eq!(server.asked()[0].query, "tail=5&stream=stderr&attempt=2");
}

#[tokio::test]
async fn every_job_is_commanded_and_one_failure_is_the_exit_code() {
    let server = Server::start(|asked, _| {
        if asked.what.contains(B) { problem(409, "the job is over") } else { json(202, &command(A, "kill")) }
    })
    .await;
    let done = run(&server, &["kill", "--reason", "why", "--grace", "1m", B, A]).await;
    done.assert(1, &format!("{A} kill: done\n")).says(&format!("{B}: the job is over"));
    assert_eq!(server.asked()[1].body, json!({"command": "kill", "reason": "why", "grace_s": 60}));

    let done = run(&server, &["hold", "--json", A, B]).await;
    let items: Vec<Value> = serde_json::from_str(&done.out).expect("one document");
    assert_eq!((done.code, items.len()), (1, 2));
    assert_eq!((&items[0]["job"], &items[0]["command"]["status"]), (&json!(A), &json!("done")));
    assert_eq!((&items[1]["job"], &items[1]["error"]["status"]), (&json!(B), &json!(409)));
    run(&server, &["release", A]).await.assert(0, &format!("{A} release: done\n"));
    run(&server, &["retry", A]).await.assert(0, &format!("{A} retry: done\n"));
    assert_eq!(server.asked().last().expect("asked").body, json!({"command": "retry"}));
}

#[tokio::test]
async fn a_devices_telemetry_is_all_five_tables() {
    let server = Server::start(|_, _| {
        json(200, &json!({"items": [{"t": "2027-01-01T00:00:00.000000Z", "cpu": 1.5, "total": 2}]}))
    })
    .await;
    let shown = run(&server, &["devices", "dev-1", "--telemetry"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    for table in ["gauge (%)", "memory (MB)", "gpumem (MB)", "diskio (MB/s)", "netio (MB/s)"] {
        assert!(shown.out.contains(table), "{table} is not in {}", shown.out);
    }
    let all = run(&server, &["devices", "dev-1", "--telemetry", "--json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&all.out).expect("one document")["netio"]["items"][0]["total"],
        2
    );
}

#[tokio::test]
async fn a_new_token_alone_goes_to_standard_output() {
    let server = Server::start(|asked, _| match asked.what.as_str() {
        "POST /v1/users/ann/tokens" => json(201, &json!({"id": A, "token": "t0k3n", "expires_at": null})),
        "POST /v1/users" => json(201, &json!({"name": "ann", "email": null, "role": "admin"})),
        _ => json(
            200,
            &json!({"items": [{"name": "ann", "email": null, "role": "admin"}], "next_cursor": null}),
        ),
    })
    .await;
    run(&server, &["users", "add", "ann", "--role", "admin"])
        .await
        .assert(0, "ann added; berth users token ann makes a token\n");
    assert_eq!(server.asked()[0].body, json!({"name": "ann", "role": "admin"}));
    run(&server, &["users", "token", "ann"]).await.assert(0, "t0k3n\n").says("cannot be shown again");
    run(&server, &["users"]).await.assert(0, "NAME  ROLE   EMAIL\nann   admin  -\n");
}

#[tokio::test]
async fn why_a_job_waits_is_told_in_plain_words() {
    let why = json!({
        "id": A, "status": "pending", "reason": {"code": "CAPACITY", "text": "It needs 2 GPUs; 1 free.", "need": 2},
        "position": 3, "start_by": null, "text": "An array of 2 jobs. It needs 2 GPUs; 1 free.",
        "changes": [{"field": "/resources/gpus", "value": 1, "text": "would start now with 1 GPU instead of 2"}],
    });
    let answer = why.clone();
    let server = Server::start(move |_, _| json(200, &answer)).await;
    let rest = "  need 2\n  position 3 in its queue\n\nWhat you could change:\n  \
                resources.gpus=1: would start now with 1 GPU instead of 2\n";
    let done = run(&server, &["why", A]).await;
    done.assert(0, &format!("It needs 2 GPUs; 1 free.\n{rest}"));
    assert_eq!(server.asked()[0].what, format!("GET /v1/jobs/{A}/why"));
    let done = run(&server, &["why", B]).await;
    done.assert(0, &format!("An array of 2 jobs. It needs 2 GPUs; 1 free.\n{rest}")).says(A);
    let done = run(&server, &["why", "--json", A]).await;
    assert_eq!(serde_json::from_str::<Value>(&done.out).expect("the answer as it came"), why);
}
