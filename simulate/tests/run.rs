//! Whole runs: what comes out does not depend on the file, nothing breaks the audit, and the options do what they say.

use std::io::Cursor;

use berth_policy::queue::{Order, Placement};
use berth_simulate::chance::Chance;
use berth_simulate::cluster::{self, Cluster};
use berth_simulate::generate::{self, Work};
use berth_simulate::metrics::summary;
use berth_simulate::run::{Limits, Options, Queues, Run, run};
use berth_simulate::source::Lines;
use berth_simulate::trace::{self, Trace};
use berth_simulate::{picture, table};

const SECOND: i64 = 1_000;

fn read(text: &str) -> Trace {
    let bytes = Box::new(Cursor::new(text.to_owned().into_bytes()));
    trace::read_lines(Lines::of("trace".as_ref(), bytes), false).expect("a trace")
}

fn made_up(jobs: u32, seed: u64, gpus: u64) -> String {
    let mut text = Vec::new();
    generate::write(&Work { jobs, seed, gpus, load: 1.1 }, &mut text).expect("memory takes it");
    String::from_utf8(text).expect("it writes text")
}

fn play(trace: &Trace, cluster: &Cluster, options: Options) -> Run {
    let run = run(trace, cluster, options, &mut |_| ());
    assert_eq!(run.violations, 0, "{:?}", run.found);
    run
}

/// Start and end in seconds; none: it never ran.
fn times(run: &Run) -> Vec<Option<(i64, i64)>> {
    run.jobs.iter().map(|ran| ran.times().map(|ran| (ran.start / SECOND, ran.end / SECOND))).collect()
}

#[test]
fn nothing_breaks_whatever_the_policy_the_cluster_and_the_queues() {
    for (hosts, gpus) in [(4, 8), (100, 1), (3, 4)] {
        let cluster = cluster::of_hosts(hosts, gpus).unwrap();
        let trace = read(&made_up(1_500, 7, cluster.gpus()));
        for order in [Order::Expansion, Order::Fifo, Order::FifoBackfill] {
            for placement in [Placement::Pack, Placement::Spread, Placement::Fgd] {
                let run = play(&trace, &cluster, Options { order, placement, ..Options::default() });
                let summary = summary(&trace, &run);
                assert_eq!((summary.jobs, summary.infeasible), (1_500, 0));
                assert_eq!(summary.promises_broken, 0, "{} on {hosts}x{gpus}: limits are kept", run.policy);
                assert!(summary.utilization > 0.3 && summary.utilization <= 1.0, "{}", summary.utilization);
            }
        }
    }
}

#[test]
fn the_order_of_the_file_changes_nothing() {
    let text = made_up(600, 3, 32);
    // Many at the same time.
    let (head, rest) = text.split_once('\n').unwrap();
    let hourly = |line: &str| {
        let (id, after) = line.split_once(',').unwrap();
        let (submit, after) = after.split_once(',').unwrap();
        format!("{id},{},{after}", submit.parse::<u64>().unwrap() / 3_600 * 3_600)
    };
    let lines: Vec<String> = rest.lines().map(hourly).collect();
    let cluster = cluster::of_hosts(4, 8).unwrap();
    let played = |lines: &[String]| {
        let trace = read(&format!("{head}\n{}\n", lines.join("\n")));
        times(&play(&trace, &cluster, Options::default()))
    };
    let forward = played(&lines);
    assert_eq!(played(&lines.iter().rev().cloned().collect::<Vec<_>>()), forward);
    for seed in 0..5 {
        let mut shuffled = lines.clone();
        Chance::new(seed).shuffle(&mut shuffled);
        assert_eq!(played(&shuffled), forward, "seed {seed}");
    }
}

#[test]
fn a_million_rows_are_read_and_the_one_that_is_wrong_is_named() {
    let mut text = String::from("id,submit,dur,limit,gpus\n");
    for id in 0..1_000_000_u32 {
        text.push_str(&format!("{id},{},10,20,1\n", id / 100));
    }
    assert_eq!(read(&text).jobs.len(), 1_000_000);
    text.push_str("x,1,-1,1,1\n");
    let bytes = Box::new(Cursor::new(text.into_bytes()));
    let error = trace::read_lines(Lines::of("trace".as_ref(), bytes), false).expect_err("is refused");
    assert!(error.to_string().contains("line 1000002, column dur: -1 is negative"), "{error}");
}

#[test]
fn completions_then_arrivals_then_one_pass() {
    // The third arrives when the first ends, and is shorter than the second, which waits.
    let trace =
        read("id,submit,dur,limit,gpus\n1,0,100,100,2\n2,0,100,100,2\n3,100,0,100,2\n4,100,10,100,2\n");
    let cluster = cluster::of_hosts(1, 4).unwrap();
    let run = play(&trace, &cluster, Options::default());
    assert_eq!(times(&run), [Some((0, 100)), Some((0, 100)), Some((100, 100)), Some((100, 110))]);
}

#[test]
fn limits_queues_and_the_end_of_time() {
    let text = "id,submit,dur,limit,gpus,queue\n1,50,1000,100,1,a\n2,60,10,100,1,b\n3,70,10,100,9,a\n4,5000,10,,1,\n";
    let (trace, cluster) = (read(text), cluster::of_hosts(1, 1).unwrap());
    let trusting = play(&trace, &cluster, Options::default());
    assert_eq!(times(&trusting), [Some((50, 1050)), Some((1050, 1060)), None, Some((5000, 5010))]);
    assert_eq!((trusting.infeasible, trusting.left_out), (1, 0));
    // It was promised its start for when the first would reach its limit.
    assert_eq!((trusting.promises, trusting.promises_broken), (1, 1));
    let options = Options {
        limits: Limits::Enforced,
        queues: Queues::One,
        until: Some(4_000 * SECOND),
        ..Options::default()
    };
    let strict = play(&trace, &cluster, options);
    assert_eq!(times(&strict), [Some((50, 150)), Some((150, 160)), None, None]);
    assert_eq!((strict.promises, strict.promises_broken, strict.left_out), (1, 0, 1));
}

#[test]
fn a_preempted_job_goes_on_where_it_stopped() {
    let head = "id,submit,dur,limit,gpus,preemptible\n";
    let trace = read(&format!("{head}1,0,1000,2000,1,yes\n2,400,100,200,1,no\n"));
    let run = play(&trace, &cluster::of_hosts(1, 1).unwrap(), Options::default());
    assert_eq!(times(&run), [Some((0, 1100)), Some((400, 500))]);
}

#[test]
fn types_cpus_and_memory_count_where_the_cluster_has_them() {
    let json = r#"[{"name": "a", "gpus": 2, "gpu_type": "T4", "cpus": 8, "memory_mb": 1000},
                   {"name": "b", "gpus": 2, "gpu_type": "A100", "cpus": 8, "memory_mb": 1000}]"#;
    let cluster = cluster::from_json("cluster", json).unwrap();
    let head = "id,submit,dur,limit,gpus,gpu_type,cpus,memory_mb\n";
    let trace = read(&format!(
        "{head}1,0,10,10,1,A100,5,1\n2,0,10,10,1,A100,5,1\n3,0,10,10,1,A100|T4,5,1\n4,0,10,10,1,H100,1,1\n"
    ));
    let run = play(&trace, &cluster, Options::default());
    assert_eq!(times(&run), [Some((0, 10)), Some((10, 20)), Some((0, 10)), None]);
}

#[test]
fn the_files_have_every_job_and_every_policy() {
    let (trace, cluster) = (read(&made_up(200, 1, 32)), cluster::of_hosts(4, 8).unwrap());
    let fifo = Options { order: Order::Fifo, ..Options::default() };
    let runs = [play(&trace, &cluster, Options::default()), play(&trace, &cluster, fifo)];
    let mut csv = Vec::new();
    table::write(&trace, &runs, &mut csv).unwrap();
    assert_eq!(String::from_utf8(csv).unwrap().lines().count(), 1 + 2 * 200);
    let svg = picture::svg(&trace, &runs);
    assert!(svg.matches("<polyline").count() == 4 && svg.contains(">fifo<") && !svg.contains("NaN"), "{svg}");
}
