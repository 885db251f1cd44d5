//! What operators do and see: the command line on queues, arrays and devices; a worker that is refused.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::setting;
use berth_tests::until::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_commands_jobs_arrays_queues_and_devices() {
    let berth = Berth::with_worker("2xT4").await;
    let (image, device) = (setting("BERTH_TEST_IMAGE"), berth.workers[0].device.clone());
    let submit = |flags: &[&str], script: &str| {
        let common = ["submit", "--image", &image, "--memory", "64m", "--cpus", "0.25"];
        berth.cli(&[&common, flags, &["--", "sh", "-c", script]].concat(), 0)
    };
    assert_eq!(
        berth.cli(&["queues", "add", "checked", "--approval", "--user-quota", "*=2"], 0),
        "checked added"
    );
    assert_eq!(berth.cli(&["queues", "set", "checked", "--default-timeout", "1h"], 0), "checked changed");
    assert!(berth.cli(&["queues", "show", "checked"], 0).contains("*=2\ntimeout    1h00m"));

    let long = "trap 'exit 0' TERM; sleep 600 & wait";
    let runs = submit(&["--queue", "checked", "--gpus", "1"], long);
    assert_eq!(berth.cli(&["approve", &runs[..12]], 0), format!("{runs} approve: done"));
    berth.job_is(&runs, "running", SHORT).await;
    assert_eq!(berth.cli(&["exec", &runs, "--", "sh", "-c", "echo hello; exit 6"], 6), "hello");
    let next = submit(&["--after", &runs[..12]], "exit 1");
    assert_eq!(berth.job(&next).await["reason"]["code"], "DEPENDENCY");

    let array = submit(&["--array", "3%1"], long);
    let killed = berth.cli(&["kill", &array], 0);
    assert!(killed.starts_with(&format!("{array} kill: ")) && killed.contains("done"), "{killed}");
    assert_eq!(berth.cli(&["ls", "--array", &array], 0).lines().count(), 4);

    let drained = berth.cli(&["drain", &device, "--note", "new fans"], 0);
    assert_eq!(drained, format!("{device} drain: done"));
    assert!(berth.cli(&["devices"], 0).contains("new fans"));
    assert_eq!(berth.cli(&["devices", "rm", &device], 1), "");
    assert_eq!(berth.cli(&["resume", &device], 0), format!("{device} resume: done"));
    assert_eq!(berth.cli(&["timeout", &runs, "1"], 0), format!("{runs} timeout: done"));
    berth.job_ends(&runs, "timed_out", SHORT).await;
    berth.job_ends(&next, "error", SHORT).await;
    berth.cli(&["retry", &runs, "--set", "command=[\"true\"]", "--set", "timeout_s=null"], 0);
    berth.cli(&["approve", &runs], 1); // an admin's retry needs no approval
    assert_eq!(berth.cli(&["wait", &runs], 0).split(' ').next(), Some(runs.as_str()));
    berth.cli(&["queues", "rm", "checked"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_under_a_devices_name_is_refused_and_that_is_told_once() {
    let berth = Berth::with_worker("1xT4").await;
    let twin = berth.start_twin(0);
    let told = "is in use by a living worker";
    until(SHORT, "the second worker is told", async || {
        let log = twin.output();
        if log.contains(told) { Ok(()) } else { Err(log) }
    })
    .await;
    let id = berth.submit_script("true", 1).await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    let log = berth.schedulers[0].output();
    assert_eq!(log.matches(told).count(), 1, "{log}");
}
