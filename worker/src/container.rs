//! A job's specification as Docker's configuration of a container. Pure: folders have been
//! resolved and GPUs chosen before.
//!
//! What must always hold: a container sees its own GPUs and no other, its limits are those that
//! were reserved for it, it is never privileged and never removes itself, and nothing secret
//! stands in a label.

mod environment;

use std::collections::HashMap;

use berth_common::message::Start;
use berth_common::spec::Disconnect;
use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType, PortBinding,
};
use uuid::Uuid;

use self::environment::environment;

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

fn tcp(port: u16) -> String {
    format!("{port}/tcp")
}

fn mebibytes(mb: u64) -> i64 {
    i64::try_from(mb).unwrap_or(i64::MAX).saturating_mul(MIB)
}

#[cfg(test)]
mod tests;
