//! Starting when something is missing, and starting twice.

use berth_tests::berth::{Berth, SHORT, START};
use berth_tests::port::free_port;
use berth_tests::process::Process;
use berth_tests::until::until;
use serde_json::Value;

async fn readyz(url: &str) -> Result<(u16, Value), String> {
    let answer = reqwest::get(format!("{url}/readyz")).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    Ok((status, answer.json().await.map_err(|error| error.to_string())?))
}

/// A scheduler whose variables are changed; and its address.
fn other_scheduler(berth: &Berth, change: &[(&'static str, String)]) -> (Process, String) {
    let port = free_port();
    let mut variables = berth.scheduler_variables();
    variables.push(("BERTH_LISTEN", format!("127.0.0.1:{port}")));
    variables.extend_from_slice(change);
    let log = berth.folder.join(format!("other-{port}.log"));
    (Process::start("berth-scheduler", &["serve"], &variables, &log), format!("http://127.0.0.1:{port}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_service_is_named_with_where_it_was_looked_for() {
    let berth = Berth::start().await;
    let nowhere = "127.0.0.1:1";
    let changes = [
        ("database", ("BERTH_DATABASE_URL", format!("postgres://berth:x@{nowhere}/berth"))),
        ("broker", ("BERTH_AMQP_URL", format!("amqp://guest:guest@{nowhere}/%2f"))),
    ];
    for (part, change) in changes {
        let (mut process, url) = other_scheduler(&berth, &[change]);
        let report = until(START, "it says what is missing", async || {
            let (status, report) = readyz(&url).await?;
            let missing = report["missing"].as_array().cloned().unwrap_or_default();
            let found =
                missing.iter().find(|m| m["part"].as_str().is_some_and(|p| p.starts_with(part))).cloned();
            let found = found.filter(|m| m["problem"].as_str().is_some_and(|p| p.contains("refused")));
            if status == 503 { found.ok_or_else(|| report.to_string()) } else { Err(report.to_string()) }
        })
        .await;
        assert!(report["where"].as_str().is_some_and(|w| w.contains(nowhere)), "{report:#}");
        assert!(report["do"].as_str().is_some_and(|d| d.contains("BERTH_")), "{report:#}");
        assert_eq!(process.ended(), None, "it keeps trying: {}", process.output());
        assert!(process.output().contains(nowhere), "the log says where: {}", process.output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_schedulers_one_leads_and_the_other_takes_over() {
    let mut berth = Berth::with_worker("1xT4").await;
    let (second, url) = other_scheduler(&berth, &[]);
    until(START, "the second stands by", async || {
        let (status, report) = readyz(&url).await?;
        if (status, report["role"].as_str()) == (200, Some("standby")) {
            Ok(())
        } else {
            Err(report.to_string())
        }
    })
    .await;
    let (_, first) = readyz(&berth.url).await.expect("the first answers");
    assert_eq!(first["role"], "leader");
    let id = berth.submit_script("true", 0).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    berth.schedulers[0].kill();
    berth.schedulers.clear();
    berth.url.clone_from(&url);
    until(START, "the second leads", async || {
        let (_, report) = readyz(&url).await?;
        if report["role"] == "leader" { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
    let id = berth.submit_script("true", 1).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_setting_is_told_and_ends_the_program() {
    let berth = Berth::start().await;
    for (variable, value) in
        [("BERTH_AMQP_URL", "http://x"), ("BERTH_DATABASE_URL", "mysql://x/y"), ("BERTH_LOST_AFTER", "5")]
    {
        let (mut process, _) = other_scheduler(&berth, &[(variable, value.to_owned())]);
        let code = until(START, "it ends", async || process.ended().ok_or("it runs")).await;
        assert_ne!(code, 0, "{variable}");
        let word = variable.trim_start_matches("BERTH_").to_lowercase().replace('_', "-");
        let output = process.output();
        assert!(output.contains(variable) || output.contains(&word), "{variable}: {output}");
    }
}
