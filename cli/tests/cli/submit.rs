//! Submitting: what is sent, how often, and what is told when it is refused.

use serde_json::json;

use crate::berth::{at, command, done, run};
use crate::job::{A, B, job, waiting};
use crate::server::{Server, json, lost, problem};

#[tokio::test]
async fn a_job_is_sent_with_what_was_given_and_a_key() {
    let server = Server::start(|_, _| json(201, &job(A, "pending"))).await;
    run(&server, &["submit", "--image", "i", "--gpus", "2", "--", "echo", "-n", "a b"])
        .await
        .assert(0, &format!("{A}\n"));
    let asked = &server.asked()[0];
    assert_eq!(asked.what, "POST /v1/jobs");
    assert_eq!(asked.body, json!({"image": "i", "command": ["echo", "-n", "a b"], "resources": {"gpus": 2}}));
    assert_eq!(asked.header("authorization"), "Bearer secret-token");
    assert!(asked.header("idempotency-key").len() >= 32);
}

#[tokio::test]
async fn json_is_the_answer_as_it_came() {
    let server = Server::start(|_, _| json(201, &job(A, "pending"))).await;
    run(&server, &["submit", "--json", "--image", "i"]).await.assert(0, &format!("{}\n", job(A, "pending")));
}

#[tokio::test]
async fn a_specification_comes_from_standard_input() {
    use tokio::io::AsyncWriteExt;
    let server = Server::start(|_, _| json(201, &job(A, "pending"))).await;
    let mut child = at(&server, &["submit", "-f", "-", "--name", "n"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"image: i\nenv:\n  LR: '0.1'\n").await.expect("written");
    drop(stdin);
    done(child).await.assert(0, &format!("{A}\n"));
    assert_eq!(server.asked()[0].body, json!({"image": "i", "env": {"LR": "0.1"}, "name": "n"}));
}

#[tokio::test]
async fn a_lost_answer_or_a_busy_server_make_no_second_job() {
    let server = Server::start(|_, before| match before {
        0 => problem(503, "the broker is away"),
        1 => lost(),
        2 => problem(429, "too many"),
        _ => json(200, &job(A, "pending")),
    })
    .await;
    let done = run(&server, &["submit", "--image", "i"]).await;
    done.assert(0, &format!("{A}\n")).says("the broker is away; trying again");
    let keys: Vec<String> =
        server.asked().iter().map(|asked| asked.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| *key == keys[0] && !key.is_empty()), "{keys:?}");
}

#[tokio::test]
async fn an_accepted_job_is_asked_for_until_it_is_decided() {
    let server = Server::start(|_, before| match before {
        0 => json(202, &json!({"id": A, "status": "accepted"})),
        _ => problem(422, "larger than every device"),
    })
    .await;
    run(&server, &["submit", "--image", "i", "--idempotency-key", "k1"])
        .await
        .assert(1, "")
        .says("larger than every");
    assert!(server.asked().iter().all(|asked| asked.header("idempotency-key") == "k1"));
}

#[tokio::test]
async fn a_refusal_names_every_field() {
    let refusal = json!({
        "type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "2 fields are wrong",
        "errors": [{"pointer": "/image", "message": "must name an image"}, {"pointer": "/resources/gpus", "message": "at most 1024"}],
    });
    let server = Server::start(move |_, _| json(422, &refusal)).await;
    let done = run(&server, &["submit"]).await;
    done.assert(1, "")
        .says("2 fields are wrong\n  image: must name an image\n  resources.gpus: at most 1024\n");
    assert_eq!(server.asked().len(), 1, "a refusal is final");
}

#[tokio::test]
async fn who_is_not_known_learns_where_the_token_came_from() {
    let server = Server::start(|_, _| problem(401, "the token is not known")).await;
    run(&server, &["ls"])
        .await
        .assert(1, "")
        .says("the token is not known")
        .says("the token came from BERTH_TOKEN");
    let none = done(at(&server, &["ls"]).env_remove("BERTH_TOKEN").spawn().expect("starts")).await;
    none.assert(1, "").says("no token was given").says("/nowhere/berth/config.toml");
    assert_eq!(server.asked()[1].header("authorization"), "");
}

#[tokio::test]
async fn nobody_there_is_told_at_once_with_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    for args in [&["submit", "--image", "i"][..], &["ls"], &["show", A]] {
        let done = done(command(args).env("BERTH_URL", &url).spawn().expect("starts")).await;
        done.assert(1, "").says(&url).says("make up").says("BERTH_URL");
    }
}

#[tokio::test]
async fn wrong_usage_is_2_and_nothing_is_sent() {
    let server = Server::start(|_, _| problem(500, "must not be asked")).await;
    for args in [
        &["submit", "--gpus", "many"][..],
        &["submit", "-f", "/nowhere/spec.yaml"],
        &["submit", "--image", "i", "--idempotency-key", "a b"],
        &["show", "no-id"],
        &["--url", "nonsense", "ls"],
        &["frobnicate"],
    ] {
        let done = run(&server, args).await;
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}: {}", done.err);
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn an_array_is_told_by_its_id_and_cannot_be_run() {
    let server = Server::start(|asked, _| match asked.what.as_str() {
        "POST /v1/jobs" => json(201, &json!({"array": B, "jobs": [A, B]})),
        _ => json(200, &json!({"items": [job(A, "running")], "next_cursor": null})),
    })
    .await;
    let args = ["submit", "--image", "i", "--array", "2%1", "--after", &A[..10], "--after", B];
    run(&server, &args).await.assert(0, &format!("{B}\n")).says("an array of 2 jobs");
    let sent = server.asked_for("POST /v1/jobs").remove(0).body;
    assert_eq!(sent, json!({"image": "i", "array": {"count": 2, "max_running": 1}, "after": [A, B]}));
    run(&server, &["run", "--image", "i", "--array", "2"]).await.assert(2, "").says("berth submit");
    assert_eq!(server.asked_for("POST /v1/jobs").len(), 1, "nothing was sent");
}

#[tokio::test]
async fn why_a_job_waits_is_told_to_a_person_and_not_to_a_script() {
    let mut answer = waiting(A, "It needs 2 GPUs; 1 free.");
    answer["position"] = json!(3);
    let server = Server::start(move |_, _| json(201, &answer)).await;
    let script = run(&server, &["submit", "--image", "i"]).await;
    script.assert(0, &format!("{A}\n"));
    assert_eq!(script.err, "");
    // script(1) gives it a terminal.
    let line = format!("{} submit --image i", env!("CARGO_BIN_EXE_berth"));
    let mut person = tokio::process::Command::new("script");
    person.args(["-qec", &line, "/dev/null"]).env("BERTH_URL", &server.url).env("BERTH_TOKEN", "t");
    person.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let shown = done(person.spawn().expect("script is part of util-linux")).await.out;
    assert!(shown.contains("berth: pending, position 3: It needs 2 GPUs; 1 free."), "{shown}");
    assert!(shown.contains(A), "{shown}");
}
