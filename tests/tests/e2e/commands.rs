//! Commands on jobs that run, wait or are over; commands on devices.

use std::time::Duration;

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Runs until it is stopped.
const LONG: &str = "trap 'exit 0' TERM; sleep 600 & wait";
/// The least that the scheduler takes for both.
const FENCE_AFTER: Duration = Duration::from_secs(3);
const LOST_AFTER: Duration = Duration::from_secs(13);

fn small(gpus: u32) -> Value {
    json!({"gpus": gpus, "cpus": 0.25, "memory_mb": 64})
}

/// Waits until the command has come to its end.
async fn command_ends(berth: &Berth, command: &Value) -> Value {
    let path = format!("/v1/commands/{}", command["id"].as_str().expect("a command has an id"));
    until(SHORT, "the command is over", async || {
        let (_, command) = berth.get(&path).await;
        if command["status"] == "pending" { Err((command, berth.logs())) } else { Ok(command) }
    })
    .await
}

async fn delete(berth: &Berth, path: &str) -> StatusCode {
    berth.as_admin(Method::DELETE, path).send().await.expect("an answer").status()
}

fn assert_refused(answer: &(StatusCode, Value), status: u16, part: &str) {
    let detail = answer.1["detail"].as_str().unwrap_or_default();
    assert!(answer.0.as_u16() == status && detail.contains(part), "{answer:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_the_jobs_status() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(LONG, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    for verb in ["retry", "release", "approve"] {
        assert_refused(&berth.command(&id, json!({"command": verb})).await, 409, "running");
    }
    let wrong = berth.command(&id, json!({"command": "drain"})).await;
    assert_eq!((wrong.0.as_u16(), &wrong.1["errors"][0]["pointer"]), (422, &json!("/command")), "{wrong:#?}");

    let (status, first) = berth.command(&id, json!({"command": "kill"})).await;
    assert_eq!((status, &first["status"]), (StatusCode::ACCEPTED, &json!("pending")), "{first:#}");
    let (status, second) = berth.command(&id, json!({"command": "kill"})).await;
    assert_eq!((status, &second["status"]), (StatusCode::ACCEPTED, &json!("done")), "{second:#}");
    berth.job_ends(&id, "killed", SHORT).await;
    assert_eq!(command_ends(&berth, &first).await["status"], "done");
    for body in [json!({"command": "hold"}), json!({"command": "exec", "argv": ["true"]})] {
        assert_refused(&berth.command(&id, body).await, 409, "exited");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_may_change_what_is_run_and_not_where_it_belongs() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script("exit 3", 1).await;
    berth.job_ends(&id, "failed", SHORT).await;
    let refused = berth.command(&id, json!({"command": "retry", "set": {"queue": "other"}})).await;
    assert_eq!(refused.1["errors"][0]["pointer"], "/set/queue", "{refused:#?}");
    let refused = berth.command(&id, json!({"command": "retry", "set": {"resources": {"gpus": 2}}})).await;
    assert_eq!(refused.1["errors"][0]["pointer"], "/set/resources/gpus", "{refused:#?}");
    let set = json!({"command": ["sh", "-c", "echo $LR"], "env": {"LR": "0.2"}});
    let (status, command) = berth.command(&id, json!({"command": "retry", "set": set})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{command:#}");
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(
        (&job["attempt"], &job["failures"], &job["spec"]["env"]["LR"]),
        (&json!(2), &json!(0), &json!("0.2"))
    );
    assert_eq!(berth.log(&id).await, "0.2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_limit_counts_for_what_runs_already() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(LONG, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let (status, command) = berth.command(&id, json!({"command": "timeout", "value": 1})).await;
    assert_eq!((status, &command["status"]), (StatusCode::ACCEPTED, &json!("done")), "{command:#}");
    let job = berth.job_ends(&id, "timed_out", SHORT).await;
    assert_eq!(job["spec"]["timeout_s"], 1, "{job:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_runs_an_argument_list_in_the_container_once() {
    let berth = Berth::with_worker("1xT4").await;
    let id = berth.submit_script(LONG, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let exec = async |argv: Value| {
        let (status, command) = berth.command(&id, json!({"command": "exec", "argv": argv})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{command:#}");
        command_ends(&berth, &command).await
    };
    let told = exec(json!(["sh", "-c", "echo out; echo err >&2; echo $BERTH_JOB_ID; exit 7"])).await;
    assert_eq!((&told["status"], &told["exit_code"]), (&json!("done"), &json!(7)), "{told:#}");
    let output = told["output"].as_str().unwrap_or_default();
    assert!(["out\n", "err\n", &id].iter().all(|part| output.contains(part)), "{told:#}");

    // No shell ever sees them.
    let odd = ["$(touch /tmp/a)", "; touch /tmp/b", "`id`", "'\"", "-rf", "a\nb", "ä*?"];
    let mut argv = vec!["printf", "[%s]"];
    argv.extend(odd);
    let told = exec(json!(argv)).await;
    let expected: String = odd.iter().map(|argument| format!("[{argument}]")).collect();
    assert_eq!(told["output"], expected.as_str(), "{told:#}");
    assert_eq!(exec(json!(["ls", "/tmp"])).await["output"], Value::Null, "none of them was run");

    let once = json!({"command": "exec", "argv": ["sh", "-c", "echo x >> /data/once"]});
    let send = async || {
        let request = berth.as_admin(Method::POST, &format!("/v1/jobs/{id}/commands"));
        let answer = request.header("idempotency-key", "once").json(&once).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(first["id"], second["id"]);
    assert_eq!(command_ends(&berth, &first).await["status"], "done");
    assert_eq!(send().await["status"], "done", "what is known is answered, and not run again");
    let written = berth.folder.join(&berth.workers[0].device).join("data/admin/once");
    assert_eq!(std::fs::read_to_string(written).expect("it ran"), "x\n");

    let told = exec(json!(["/no/such/program"])).await;
    assert!(told["status"] == "failed" || told["exit_code"] != 0, "{told:#}");
    let late = json!({"command": "exec", "argv": ["sleep", "600"], "timeout_s": 1});
    let (_, late) = berth.command(&id, late).await;
    let told = command_ends(&berth, &late).await;
    assert_eq!((&told["status"], &told["exit_code"]), (&json!("failed"), &Value::Null), "{told:#}");
    let waiting = berth.submit_script("true", 1).await;
    let refused = berth.command(&waiting, json!({"command": "exec", "argv": ["true"]})).await;
    assert_refused(&refused, 409, "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_device_starts_nothing_until_it_is_resumed() {
    let berth = Berth::with_worker("2xT4").await;
    let device = berth.workers[0].device.clone();
    let commands = format!("/v1/devices/{device}/commands");
    let runs = berth.submit_script(LONG, 1).await;
    berth.job_is(&runs, "running", SHORT).await;
    let ann = berth.user("ann").await;
    let drain = json!({"command": "drain", "note": "new fans"});
    let refused = berth.request(Method::POST, &commands, &ann, Some(drain.to_string())).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN, "{refused:#?}");
    let (status, command) = berth.post(&commands, drain).await;
    assert_eq!((status, &command["device"]), (StatusCode::ACCEPTED, &json!(device)), "{command:#}");

    let waits = berth.submit_script("true", 1).await;
    let (_, shown) = berth.get(&format!("/v1/devices/{device}")).await;
    assert_eq!((&shown["state"], &shown["note"]), (&json!("draining"), &json!("new fans")), "{shown:#}");
    let job = berth.job(&waits).await;
    assert_eq!(
        (&job["status"], &job["reason"]["code"]),
        (&json!("pending"), &json!("DEVICE_DOWN")),
        "{job:#}"
    );
    assert_eq!(berth.job(&runs).await["status"], "running", "what runs goes on");
    let (status, command) = berth.post(&commands, json!({"command": "resume"})).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{command:#}");
    berth.job_ends(&waits, "succeeded", SHORT).await;
    assert_refused(&berth.post(&commands, json!({"command": "resume"})).await, 409, "nobody has drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_now_moves_what_runs_to_another_device() {
    let mut berth = Berth::with_worker("1xT4").await;
    let first = berth.workers[0].device.clone();
    let id = berth.submit_script(LONG, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    let second = berth.add_worker("1xT4", &[]).await;
    let drain = json!({"command": "drain", "now": true});
    let (status, command) = berth.post(&format!("/v1/devices/{first}/commands"), drain).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{command:#}");
    let job = until(SHORT, "it runs on the other device", async || {
        let job = berth.job(&id).await;
        if job["status"] == "running" && job["device"] == second.as_str() {
            Ok(job)
        } else {
            Err((job, berth.logs()))
        }
    })
    .await;
    assert_eq!(
        (&job["attempt"], &job["failures"], &job["faults"]),
        (&json!(2), &json!(0), &json!(0)),
        "{job:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_gone_can_be_deleted_and_one_that_is_up_cannot() {
    let mut berth = Berth::impatient(FENCE_AFTER, LOST_AFTER).await;
    let device = berth.add_worker("1xT4", &[]).await;
    let path = format!("/v1/devices/{device}");
    let keeps = berth
        .submit(json!({"command": ["sh", "-c", LONG], "resources": small(1), "disconnect": "keep"}))
        .await;
    berth.job_is(&keeps, "running", SHORT).await;
    assert_eq!(delete(&berth, &path).await, StatusCode::CONFLICT);

    berth.workers[0].process.kill();
    until(SHORT, "the device is lost", async || {
        let (_, shown) = berth.get(&path).await;
        if shown["state"] == "lost" { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(delete(&berth, &path).await, StatusCode::NO_CONTENT);
    assert_eq!(berth.get(&path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(delete(&berth, &path).await, StatusCode::NOT_FOUND);
    let job = berth.job_is(&keeps, "pending", SHORT).await;
    assert_eq!((&job["faults"], &job["attempts"][0]["device"]), (&json!(1), &json!(device)), "{job:#}");
    let client = berth.vhost.client().await;
    for queue in [format!("berth.device.{device}"), format!("berth.rpc.{device}")] {
        until(SHORT, "its queues are gone", async || {
            if client.has_queue(&queue).await { Err(&queue) } else { Ok(()) }
        })
        .await;
    }
}
