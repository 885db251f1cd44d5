//! A job's specification as Docker's configuration of a container. Pure: folders have been
//! resolved and GPUs chosen before.
//!
//! What must always hold: a container sees its own GPUs and no other, its limits are those that
//! were reserved for it, it is never privileged and never removes itself, and nothing secret
//! stands in a label.

use std::collections::HashMap;

use berth_common::message::Start;
use berth_common::spec::Disconnect;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
};
use uuid::Uuid;

pub const LABEL_JOB: &str = "berth.job";
pub const LABEL_ATTEMPT: &str = "berth.attempt";
pub const LABEL_REPLICA: &str = "berth.replica";
pub const LABEL_DEVICE: &str = "berth.device";
pub const LABEL_INSTANCE: &str = "berth.instance";
/// By this one the guard knows what it may kill.
pub const LABEL_DISCONNECT: &str = "berth.disconnect";
pub const REQUEUE: &str = "requeue";
pub const KEEP: &str = "keep";

/// Docker's name for the host's own network: no ports are published there.
pub const HOST_NETWORK: &str = "host";

/// How the UUID of a GPU begins that was declared and not measured: Docker is not asked for it.
const DECLARED: &str = "declared-";
/// Docker's own copy of the output, which the worker follows; two files of it are kept.
const DOCKER_LOG_SIZE: &str = "64m";
const DOCKER_LOG_FILES: &str = "2";
/// Threads and processes: no training needs as many, a fork bomb needs more.
const PIDS: i64 = 32_768;
const MIB: i64 = 1 << 20;
const NANO_PER_MILLI: i64 = 1_000_000;

/// A folder of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// What a container's configuration depends on besides its start message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub device: String,
    pub instance: Uuid,
    /// What Docker accepts at most; a device may declare more for trying things.
    pub host_cpu_milli: Option<i64>,
    /// Docker's network for containers of a gang.
    pub gang_network: String,
    pub binds: Vec<Bind>,
}

/// The body of Docker's `create`.
#[must_use]
pub fn configure(start: &Start, place: &Place) -> ContainerCreateBody {
    let spec = &start.spec;
    let ports = published(start, place);
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(environment(start)),
        working_dir: spec.workdir.clone(),
        labels: Some(labels(start, place)),
        exposed_ports: (!ports.is_empty()).then(|| ports.iter().map(|&p| tcp(p)).collect()),
        host_config: Some(host_config(start, place)),
        ..Default::default()
    }
}

/// Ports in the container that Docker gives a port of the host.
fn published(start: &Start, place: &Place) -> Vec<u16> {
    match network(start, place) {
        Some(HOST_NETWORK) => Vec::new(),
        Some(_) | None => start.spec.ports.values().copied().collect(),
    }
}

/// Docker's default for a container of its own.
fn network<'a>(start: &Start, place: &'a Place) -> Option<&'a str> {
    start.gang.as_ref().map(|_| place.gang_network.as_str())
}

fn host_config(start: &Start, place: &Place) -> HostConfig {
    let ports = published(start, place);
    let resources = &start.spec.resources;
    let memory = mebibytes(resources.memory_mb);
    let cpu_milli = place.host_cpu_milli.map_or(resources.cpus.milli, |host| resources.cpus.milli.min(host));
    HostConfig {
        nano_cpus: Some(cpu_milli.saturating_mul(NANO_PER_MILLI)),
        memory: Some(memory),
        memory_swap: Some(memory), // the same: no swap
        shm_size: resources.shm_mb.map(mebibytes),
        pids_limit: Some(PIDS),
        init: Some(true), // without it SIGTERM is ignored by most programs
        privileged: Some(false),
        cap_drop: Some(vec!["MKNOD".into()]), // a device file in a data folder would outlive the container
        auto_remove: Some(false),             // the end is recorded before the container goes
        mounts: Some(place.binds.iter().map(mount).collect()),
        network_mode: network(start, place).map(str::to_owned),
        port_bindings: (!ports.is_empty()).then(|| {
            let any = PortBinding { host_ip: None, host_port: Some("0".into()) };
            ports.iter().map(|&port| (tcp(port), Some(vec![any.clone()]))).collect()
        }),
        device_requests: gpu_request(start).map(|request| vec![request]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([
                ("max-size".into(), DOCKER_LOG_SIZE.into()),
                ("max-file".into(), DOCKER_LOG_FILES.into()),
            ])),
        }),
        ..Default::default()
    }
}

fn gpu_request(start: &Start) -> Option<DeviceRequest> {
    let measured: Vec<String> =
        start.gpus.iter().map(|gpu| &gpu.uuid).filter(|uuid| !uuid.starts_with(DECLARED)).cloned().collect();
    (!measured.is_empty()).then(|| DeviceRequest {
        driver: Some("nvidia".into()),
        device_ids: Some(measured),
        capabilities: Some(vec![vec!["gpu".into()]]),
        ..Default::default()
    })
}

fn mount(bind: &Bind) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.clone()),
        target: Some(bind.target.clone()),
        read_only: Some(bind.read_only),
        ..Default::default()
    }
}

fn labels(start: &Start, place: &Place) -> HashMap<String, String> {
    let replica = start.replica;
    HashMap::from([
        (LABEL_JOB.into(), replica.job.to_string()),
        (LABEL_ATTEMPT.into(), replica.attempt.to_string()),
        (LABEL_REPLICA.into(), replica.replica.to_string()),
        (LABEL_DEVICE.into(), place.device.clone()),
        (LABEL_INSTANCE.into(), place.instance.to_string()),
        (LABEL_DISCONNECT.into(), disconnect(start.spec.disconnect).into()),
    ])
}

const fn disconnect(of: Disconnect) -> &'static str {
    match of {
        Disconnect::Requeue => REQUEUE,
        Disconnect::Keep => KEEP,
    }
}

/// The user's variables and ours. Where both have one, Docker takes the last: ours.
fn environment(start: &Start) -> Vec<String> {
    let spec = &start.spec;
    let replica = start.replica;
    let gpus = start.gpus.len();
    let uuids: Vec<_> = start.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    let replicas = start.gang.as_ref().map_or(spec.replicas, |gang| gang.replicas).to_string();
    let visible = if uuids.is_empty() { "void".to_owned() } else { uuids.join(",") };
    let ours = [
        ("BERTH_JOB_ID", replica.job.to_string()),
        ("BERTH_JOB_NAME", spec.name.clone()),
        ("BERTH_ATTEMPT", replica.attempt.to_string()),
        ("BERTH_REPLICA", replica.replica.to_string()),
        ("BERTH_REPLICAS", replicas.clone()),
        ("BERTH_QUEUE", spec.queue.clone()),
        ("BERTH_USER", start.owner.clone()),
        ("BERTH_GPUS", gpus.to_string()),
        ("BERTH_PASSWORD", start.password.clone()),
        ("NVIDIA_VISIBLE_DEVICES", visible),
        ("DLTS_JOB_ID", replica.job.to_string()),
        ("DLTS_USER_NAME", start.owner.clone()),
        ("DLTS_VC_NAME", spec.queue.clone()),
        ("DLTS_ROLE_NAME", "worker".into()),
        ("DLTS_ROLE_IDX", replica.replica.to_string()),
        ("DLTS_NUM_WORKER", replicas),
        ("DLTS_NUM_GPU_PER_WORKER", gpus.to_string()),
        ("DLTS_PREEMPTIBLE", spec.preemptible.to_string()),
    ];
    let users = spec.env.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let index = start.array_index.map(|index| ("BERTH_ARRAY_INDEX", index.to_string()));
    let all = users.chain(ours).chain(index).chain(rendezvous(start));
    all.map(|(key, value)| format!("{key}={value}")).collect()
}

/// How the replicas of a gang find each other, in the names of `torch.distributed`'s `env://`.
fn rendezvous(start: &Start) -> Vec<(&'static str, String)> {
    let Some(gang) = &start.gang else { return Vec::new() };
    vec![
        ("MASTER_ADDR", gang.master_addr.clone()),
        ("MASTER_PORT", gang.master_port.to_string()),
        ("WORLD_SIZE", gang.replicas.to_string()),
        ("RANK", start.replica.replica.to_string()),
    ]
}

fn tcp(port: u16) -> String {
    format!("{port}/tcp")
}

fn mebibytes(mb: u64) -> i64 {
    i64::try_from(mb).unwrap_or(i64::MAX).saturating_mul(MIB)
}

#[cfg(test)]
mod tests {
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
        for line in [
            "MASTER_ADDR=10.0.0.7",
            "MASTER_PORT=29501",
            "WORLD_SIZE=4",
            "BERTH_REPLICAS=4",
            "DLTS_NUM_WORKER=4",
        ] {
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
}
