//! A specification becomes exactly the configuration that was promised.

use super::*;
use berth_common::id::Replica;
use berth_common::message::{Gang, StartGpu};
use serde_json::json;

fn start(extra: serde_json::Value, gpus: &[&str]) -> Start {
    let mut body = json!({"image": "busybox:1", "name": "train"});
    for (key, value) in extra.as_object().expect("an object") {
        body[key] = value.clone();
    }
    let gpu = |(idx, uuid): (u32, &&str)| StartGpu { uuid: (*uuid).into(), idx, kind: "T4".into() };
    Start {
        replica: Replica { job: Uuid::from_u128(5), attempt: 2, replica: 0 },
        owner: "ann".into(),
        spec: berth_common::spec::from_value(body).expect("valid"),
        gpus: (0..).zip(gpus).map(gpu).collect(),
        password: "hunter2".into(),
        timeout_s: None,
        array_index: None,
        gang: None,
    }
}

fn place() -> Place {
    let bind = Bind { source: "/srv/ann".into(), target: "/data".into(), read_only: false };
    Place {
        device: "dev-1".into(),
        instance: Uuid::from_u128(7),
        host_cpu_milli: Some(2000),
        gang_network: HOST_NETWORK.into(),
        binds: vec![bind],
    }
}

fn host(start: &Start) -> HostConfig {
    configure(start, &place()).host_config.expect("given")
}

#[test]
fn limits_are_those_that_were_reserved() {
    let start = start(json!({"resources": {"cpus": 1.5, "memory_mb": 64, "shm_mb": 16}}), &[]);
    let host = host(&start);
    assert_eq!(host.nano_cpus, Some(1_500_000_000));
    assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!(host.shm_size, Some(16 << 20));
    assert_eq!(host.cap_drop, Some(vec!["MKNOD".to_owned()]));
    assert_eq!((host.init, host.privileged, host.auto_remove), (Some(true), Some(false), Some(false)));
}

#[test]
fn more_cpus_than_the_host_has_are_cut_to_what_docker_accepts() {
    let start = start(json!({"resources": {"cpus": 64}}), &[]);
    assert_eq!(host(&start).nano_cpus, Some(2_000_000_000));
}

#[test]
fn measured_gpus_are_requested_by_uuid_and_declared_ones_are_not() {
    let measured = start(json!({"resources": {"gpus": 2}}), &["GPU-a", "GPU-b"]);
    let request = host(&measured).device_requests.expect("requested").remove(0);
    assert_eq!(request.device_ids, Some(vec!["GPU-a".into(), "GPU-b".into()]));
    assert_eq!((request.driver.as_deref(), request.count), (Some("nvidia"), None));
    let declared = start(json!({"resources": {"gpus": 1}}), &["declared-dev-1-0"]);
    assert_eq!(host(&declared).device_requests, None);
    let env = environment(&declared);
    assert!(env.contains(&"NVIDIA_VISIBLE_DEVICES=declared-dev-1-0".into()), "{env:?}");
}

#[test]
fn a_cpu_job_sees_no_gpu_and_ours_come_after_the_users_variables() {
    let start = start(json!({"env": {"LR": "0.1"}}), &[]);
    let env = environment(&start);
    assert_eq!(env[0], "LR=0.1");
    for line in ["NVIDIA_VISIBLE_DEVICES=void", "BERTH_GPUS=0", "BERTH_ATTEMPT=2", "DLTS_USER_NAME=ann"] {
        assert!(env.contains(&line.into()), "{line} in {env:?}");
    }
}

#[test]
fn an_element_of_an_array_knows_its_place() {
    let mut start = start(json!({}), &[]);
    assert!(environment(&start).iter().all(|line| !line.starts_with("BERTH_ARRAY_INDEX")));
    start.array_index = Some(0);
    assert!(environment(&start).contains(&"BERTH_ARRAY_INDEX=0".into()));
}

#[test]
fn the_ranks_of_a_gang_find_each_other_on_the_network_of_the_device() {
    let mut start = start(json!({"ports": {"ssh": 22}, "env": {"RANK": "user"}}), &[]);
    assert!(environment(&start).iter().all(|line| !line.starts_with("MASTER_")));
    assert_eq!(host(&start).network_mode, None);
    let gang = Gang { replicas: 4, master_addr: "10.0.0.7".into(), master_port: 29_501 };
    (start.gang, start.replica.replica) = (Some(gang), 3);
    let env = environment(&start);
    for line in
        ["MASTER_ADDR=10.0.0.7", "MASTER_PORT=29501", "WORLD_SIZE=4", "BERTH_REPLICAS=4", "DLTS_NUM_WORKER=4"]
    {
        assert!(env.contains(&line.into()), "{line} in {env:?}");
    }
    assert_eq!(env.iter().rfind(|line| line.starts_with("RANK=")), Some(&"RANK=3".to_owned()));
    let body = configure(&start, &place());
    assert_eq!(body.exposed_ports, None, "the host's network publishes nothing");
    let host = body.host_config.expect("given");
    assert_eq!((host.network_mode.as_deref(), host.port_bindings), (Some("host"), None));
    let overlay = Place { gang_network: "training".into(), ..place() };
    let host = configure(&start, &overlay).host_config.expect("given");
    assert_eq!(host.network_mode.as_deref(), Some("training"));
    assert!(host.port_bindings.is_some());
}

#[test]
fn labels_name_the_container_and_hold_no_secret() {
    let body = configure(&start(json!({}), &[]), &place());
    let labels = body.labels.expect("given");
    assert_eq!(labels[LABEL_ATTEMPT], "2");
    assert_eq!(labels[LABEL_INSTANCE], Uuid::from_u128(7).to_string());
    assert_eq!((labels[LABEL_DISCONNECT].as_str(), labels.len()), (REQUEUE, 6));
    assert!(labels.values().all(|value| value != "hunter2"));
}

#[test]
fn ports_are_exposed_and_published_and_an_empty_command_is_the_images_own() {
    let body = configure(&start(json!({"ports": {"ssh": 22}}), &[]), &place());
    assert_eq!(body.exposed_ports, Some(vec!["22/tcp".to_owned()]));
    assert!(body.host_config.expect("given").port_bindings.expect("given").contains_key("22/tcp"));
    assert_eq!(body.cmd, None);
    let body = configure(&start(json!({"command": ["sh", "-c", "true"]}), &[]), &place());
    assert_eq!(body.cmd.map(|c| c.len()), Some(3));
    assert_eq!(body.exposed_ports, None);
}
