//! The life of containers, as the leader hears of it: a real worker, RabbitMQ and Docker.

use std::time::Duration;

use crate::stage::{Stage, eventually, start_order};
use berth_common::id::Replica;
use berth_common::message::{DeviceRpc, FaultKind, Gang, HeldState, LogQuery, LogStream, Order};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_container_runs_to_its_exit_code_and_its_log_stays() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let script = "echo out $BERTH_ATTEMPT $BERTH_USER $NVIDIA_VISIBLE_DEVICES; echo err >&2; echo ü; exit 3";
    let spec = json!({"command": ["sh", "-c", script], "resources": {"gpus": 1}, "env": {"LR": "1"}});
    let job = leader.start(&stage.image, spec).await;
    let ending = leader.exited(job).await;
    assert_eq!((ending.exit_code, ending.oom, ending.signalled, ending.fault), (Some(3), false, false, None));
    assert!(ending.started_at.is_some_and(|at| at <= ending.exited_at));
    let log = leader.log(job).await;
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out 1 ann declared-x-0", "ü"]);
    let docker = stage.docker();
    eventually("its container goes", async || match docker.inspect(&job.container_name()).await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    leader.lists(&[]).await;
    let errors = LogQuery {
        replica: job,
        stream: Some(LogStream::Stderr),
        tail: Some(1),
        since: None,
        cursor: None,
        wait_ms: 0,
    };
    let reply = leader.ask(&DeviceRpc::Logs(errors)).await;
    assert_eq!((reply.status, reply.body["text"].as_str()), (200, Some("err\n")));
}

#[tokio::test]
async fn what_cannot_start_is_told_in_dockers_words() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let missing = leader.start("berth-test/none:1", json!({})).await;
    let fault = leader.exited(missing).await.fault.expect("a fault");
    assert!(fault.text.contains("berth-test/none") || fault.text.contains("registry"), "{fault:?}");
    let mount = json!({"mounts": [{"source": "no/such", "target": "/m"}]});
    let mount = leader.start(&stage.image, mount).await;
    let fault = leader.exited(mount).await.fault.expect("a fault");
    assert_eq!(fault.kind, FaultKind::NeverStarts);
    assert!(fault.text.contains("no/such"), "{fault:?}");
    let upper = leader.start("UPPER:1", json!({})).await;
    let fault = leader.exited(upper).await.fault.expect("a fault");
    assert_eq!(fault.kind, FaultKind::NeverStarts, "{fault:?}");
    assert!(fault.text.contains("reference"), "{fault:?}");
    let workdir = json!({"command": ["/no/such/program"]});
    let program = leader.start(&stage.image, workdir).await;
    let ending = leader.exited(program).await;
    let never = ending.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::NeverStarts);
    assert!(never || ending.exit_code == Some(127), "{ending:?}");
}

#[tokio::test]
async fn memory_is_limited_and_its_end_says_so() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let spec = json!({"command": ["tail", "/dev/zero"], "resources": {"memory_mb": 16}});
    let job = leader.start(&stage.image, spec).await;
    let ending = leader.exited(job).await;
    assert_eq!((ending.exit_code, ending.oom, ending.signalled), (Some(137), true, false));
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_grace() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let polite = json!({"command": ["sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"]});
    let polite = leader.start(&stage.image, polite).await;
    let deaf = json!({"command": ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]});
    let deaf = leader.start(&stage.image, deaf).await;
    leader.wrote(polite, "ready").await;
    leader.wrote(deaf, "ready").await;
    leader.stop(polite, Duration::from_secs(60)).await;
    leader.stop(deaf, Duration::from_secs(1)).await;
    let ending = leader.exited(polite).await;
    assert_eq!((ending.exit_code, ending.signalled), (Some(7), true));
    assert_eq!(leader.log(polite).await, "ready\nbye\n");
    let ending = leader.exited(deaf).await;
    assert_eq!((ending.exit_code, ending.signalled), (Some(137), true));
}

#[tokio::test]
async fn a_second_stop_with_less_grace_is_obeyed() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let deaf = json!({"command": ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]});
    let deaf = leader.start(&stage.image, deaf).await;
    leader.wrote(deaf, "ready").await;
    leader.stop(deaf, Duration::from_secs(3600)).await;
    leader.stop(deaf, Duration::ZERO).await;
    assert_eq!(leader.exited(deaf).await.exit_code, Some(137));
}

#[tokio::test]
async fn folders_and_ports_are_there_and_a_users_data_stays() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let serve = json!({"command": ["sh", "-c", "echo hello > /data/f; exec httpd -f -p 8888 -h /data"],
                       "ports": {"jupyter": 8888}});
    let job = leader.start(&stage.image, serve).await;
    let port = leader.started(job).await.ports["jupyter"];
    eventually("its port answers", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())
    })
    .await;
    eventually("its file is in the user's folder", async || {
        std::fs::read_to_string(stage.state_dir().join("data/ann/f")).map_err(|error| error.to_string())
    })
    .await;
    leader.stop(job, Duration::ZERO).await;
    leader.exited(job).await;
    let read =
        json!({"command": ["cat", "/in/f"], "mounts": [{"source": ".", "target": "/in", "read_only": true}]});
    let read = leader.start(&stage.image, read).await;
    assert_eq!(leader.exited(read).await.exit_code, Some(0));
    assert_eq!(leader.log(read).await, "hello\n");
}

#[tokio::test]
async fn a_flood_of_output_neither_fills_the_disk_nor_loses_its_last_line() {
    let (stage, mut leader) = Stage::new(&["--log-limit-mb", "2"]).await;
    leader.welcome(&[]).await;
    // More than Docker itself keeps of it: its own files turn over twice meanwhile.
    let flood = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 100000000; echo last";
    let job = leader.start(&stage.image, json!({"command": ["sh", "-c", flood]})).await;
    assert_eq!(leader.exited(job).await.exit_code, Some(0));
    // Whoever follows while it is written sees more than is kept; this one comes later.
    leader.log(job).await;
    let log = leader.log(job).await;
    assert!(log.starts_with("[berth: "), "{log:.80}");
    assert!(log.ends_with("last\n"), "{}", &log[log.len() - 200..]);
    assert!(log.len() < 2 << 20, "{}", log.len());
}

#[tokio::test]
async fn a_stop_before_the_start_means_that_nothing_ever_ran() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    // Many at once: most of them wait for their turn at Docker when their stop arrives.
    let mut jobs = Vec::new();
    for _ in 0..8 {
        let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
        leader.stop(job, Duration::ZERO).await;
        jobs.push(job);
    }
    for &job in &jobs {
        let ending = leader.exited(job).await;
        assert!(ending.signalled && ending.fault.is_none(), "{ending:?}");
        assert!(matches!(ending.exit_code, None | Some(137)), "{ending:?}");
    }
    leader.lists(&[]).await;
    let docker = stage.docker();
    eventually("nothing is left", async || {
        let left = docker.list(&stage.device, leader.instance).await.map_err(|error| error.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_running_container_is_listed_in_every_heartbeat() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let job = leader.start(&stage.image, json!({"command": ["sleep", "600"]})).await;
    leader.lists(&[(job, HeldState::Running)]).await;
    let inventory =
        leader.heartbeat.as_ref().and_then(|beat| beat.inventory.as_ref()).expect("told at first");
    assert_eq!(inventory.gpus.len(), 2);
    assert!(inventory.gpus_declared && inventory.engine.starts_with("Docker "), "{inventory:?}");
    leader.stop(job, Duration::ZERO).await;
    leader.exited(job).await;
}

#[tokio::test]
async fn the_ranks_of_a_gang_reach_each_other_by_the_hosts_network() {
    let (stage, mut leader) = Stage::new(&[]).await;
    leader.welcome(&[]).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let master_port = free.expect("a port").port();
    let gang = Gang { replicas: 2, master_addr: "127.0.0.1".into(), master_port };
    let job = Uuid::new_v4();
    // Rank 1 tries until rank 0 listens.
    let script = "if [ $RANK = 0 ]; then echo hello from $RANK of $WORLD_SIZE | nc -l -p $MASTER_PORT; \
        else until nc $MASTER_ADDR $MASTER_PORT </dev/null; do sleep 0.1; done; exec sleep 600; fi";
    let rank = |replica| Replica { job, attempt: 1, replica };
    for replica in [0, 1] {
        let spec = json!({"image": stage.image, "command": ["sh", "-c", script], "ports": {"http": 27_544}});
        let mut order = start_order(rank(replica), spec);
        if let Order::Start(start) = &mut order {
            start.gang = Some(gang.clone());
        }
        leader.order(order).await;
    }
    assert_eq!(leader.started(rank(1)).await.ports["http"], 27_544, "its port is the host's");
    assert_eq!(leader.exited(rank(0)).await.exit_code, Some(0));
    leader.wrote(rank(1), "hello from 0 of 2\n").await;
}
