//! `berth devices`: the hosts, their GPUs, and which job has which.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::device::{DeviceState, DeviceView};
use jiff::Timestamp;

use crate::client::{Client, Query};
use crate::cluster_args::{DevicesArgs, DevicesCommand};
use crate::duration;
use crate::failure::Failure;
use crate::operate;
use crate::output::{self, escape};
use crate::read;
use crate::size;
use crate::table::{Entry, Table, Tone};
use crate::telemetry;

/// # Errors
/// No such device.
pub async fn devices(client: &Client, args: &DevicesArgs, json: bool) -> Result<u8, Failure> {
    if let Some(DevicesCommand::Rm(device)) = &args.command {
        return operate::remove(client, &device.name, json).await;
    }
    match &args.name {
        Some(name) if args.telemetry => telemetry::telemetry(client, name, args.table, args.last, json).await,
        Some(name) => one(client, name, json).await,
        None => all(client, json).await,
    }
}

async fn all(client: &Client, json: bool) -> Result<u8, Failure> {
    let items = read::all(client, &["v1", "devices"]).await?;
    if json {
        output::print_json(&items)?;
        return Ok(0);
    }
    let devices = items.into_iter().map(serde_json::from_value).collect::<Result<Vec<DeviceView>, _>>();
    let devices = devices.map_err(|error| client.nonsense(&error.to_string()))?;
    let running = running(client).await?;
    output::print(&table(&devices, &running, Timestamp::now()).to_string())?;
    Ok(0)
}

/// Running jobs by device, of those that the asker may see.
async fn running(client: &Client) -> Result<BTreeMap<String, u64>, Failure> {
    let (jobs, _) = read::pages(client, &["v1", "jobs"], &vec![("status", "running".into())], None).await?;
    let mut running = BTreeMap::new();
    for job in &jobs {
        let attempt = &job["attempt"];
        let replicas = job["attempts"].as_array().into_iter().flatten().filter(|a| a["attempt"] == *attempt);
        let mut devices: BTreeSet<&str> = replicas.filter_map(|a| a["device"].as_str()).collect();
        devices.extend(job["device"].as_str());
        for device in devices {
            *running.entry(device.to_owned()).or_default() += 1;
        }
    }
    Ok(running)
}

fn table(devices: &[DeviceView], running: &BTreeMap<String, u64>, now: Timestamp) -> Table {
    let headings =
        ["NAME", "STATE", "CPUS FREE", "MEMORY FREE", "GPUS FREE", "RUNNING", "SEEN", "LABELS", "NOTE"];
    let mut table = Table::new(&headings).numbers(&[5]);
    for device in devices {
        table.row(vec![
            (&device.name).into(),
            Entry::toned(device.state.as_str(), tone(device.state)),
            format!("{}/{}", number(device.cpus - device.cpus_used), number(device.cpus)).into(),
            format!(
                "{}/{}",
                size::format_mb((device.memory_mb - device.memory_used_mb).max(0)),
                size::format_mb(device.memory_mb)
            )
            .into(),
            gpus(device).into(),
            running.get(&device.name).copied().unwrap_or_default().to_string().into(),
            seen(device, now).into(),
            labels(device).into(),
            device.note.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// `2/4 A100-80GB, 0/1 T4`: free of all, by type.
fn gpus(device: &DeviceView) -> String {
    let mut kinds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for gpu in &device.gpus {
        let (free, total) = kinds.entry(&gpu.kind).or_default();
        *free += u32::from(gpu.free);
        *total += 1;
    }
    let kinds: Vec<String> =
        kinds.iter().map(|(kind, (free, total))| format!("{free}/{total} {kind}")).collect();
    kinds.join(", ")
}

/// `disk=nvme, rack=b2`.
fn labels(device: &DeviceView) -> String {
    device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

fn number(cpus: f64) -> String {
    // Two digits, as CPUs are asked for; whole numbers without any.
    let text = format!("{cpus:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn seen(device: &DeviceView, now: Timestamp) -> String {
    device.last_seen_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", duration::between(at, now)))
}

fn tone(state: DeviceState) -> Option<Tone> {
    match state {
        DeviceState::Up => Some(Tone::Good),
        DeviceState::Draining | DeviceState::Degraded => Some(Tone::Busy),
        DeviceState::Lost => Some(Tone::Bad),
    }
}

async fn one(client: &Client, name: &str, json: bool) -> Result<u8, Failure> {
    let answer = read::one(client, &["v1", "devices", name], &Query::new()).await?;
    let text = if json { answer.text } else { describe(&answer.read()?, Timestamp::now()) };
    output::print(&text)?;
    Ok(0)
}

fn describe(device: &DeviceView, now: Timestamp) -> String {
    let note = device.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let declared = if device.gpus_declared { ", GPUs declared" } else { "" };
    let mut text = String::new();
    for (name, value) in [
        ("device", device.name.clone()),
        ("state", format!("{}{note}, seen {}", device.state, seen(device, now))),
        ("address", device.ip.clone()),
        (
            "cpus",
            format!(
                "{} of {} free, {}",
                number(device.cpus - device.cpus_used),
                number(device.cpus),
                device.cpu_name
            ),
        ),
        (
            "memory",
            format!(
                "{} of {} free",
                size::format_mb((device.memory_mb - device.memory_used_mb).max(0)),
                size::format_mb(device.memory_mb)
            ),
        ),
        ("engine", format!("{}{declared}", device.engine)),
        ("labels", labels(device)),
    ] {
        let value = if value.is_empty() { "none" } else { &value };
        text.push_str(&format!("{name:<10} {}\n", escape(value)));
    }
    if !device.gpus.is_empty() {
        let mut table = Table::new(&["GPU", "INDEX", "TYPE", "MEMORY", "JOB", "UUID"]).numbers(&[0, 1]);
        for gpu in &device.gpus {
            let holder = match (gpu.free, gpu.job) {
                (true, _) => "free".to_owned(),
                (false, Some(job)) => job.to_string(),
                (false, None) => "of somebody else".to_owned(),
            };
            let memory = if gpu.memory_mb > 0 { size::format_mb(gpu.memory_mb) } else { String::new() };
            table.row(vec![
                gpu.id.to_string().into(),
                gpu.idx.to_string().into(),
                (&gpu.kind).into(),
                memory.into(),
                holder.into(),
                (&gpu.uuid).into(),
            ]);
        }
        text.push_str(&format!("\n{table}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device() -> DeviceView {
        let gpu = |id: i64, free: bool, job: Option<&str>| json!({"id": id, "idx": id - 1, "type": "T4", "uuid": "u", "memory_mb": 16384, "free": free, "job": job});
        serde_json::from_value(json!({
            "name": "dev-1", "state": "up", "note": null, "ip": "10.0.0.1", "cpus": 8.0, "cpu_name": "CPU", "memory_mb": 16384,
            "cpus_used": 0.25, "memory_used_mb": 1024, "gpus_declared": true, "engine": "Docker 20.10", "labels": {"rack": "b2"}, "session": 1,
            "last_seen_at": "2027-01-01T00:00:00Z",
            "gpus": [gpu(1, true, None), gpu(2, false, Some("0192abcd-1234-7000-8000-000000000001")), gpu(3, false, None)],
        }))
        .expect("a device")
    }

    #[test]
    fn a_device_is_a_line() {
        let running = BTreeMap::from([("dev-1".to_owned(), 2)]);
        let now = "2027-01-01T00:00:05Z".parse().expect("a time");
        assert_eq!(
            table(&[device()], &running, now).to_string(),
            "NAME   STATE  CPUS FREE  MEMORY FREE  GPUS FREE  RUNNING  SEEN    LABELS   NOTE\n\
             dev-1  up     7.75/8     15 GB/16 GB  1/3 T4           2  5s ago  rack=b2  -"
        );
    }

    #[test]
    fn each_gpu_says_who_has_it() {
        let text = describe(&device(), Timestamp::UNIX_EPOCH);
        for part in [
            "  free  ",
            "0192abcd-1234-7000-8000-000000000001",
            "of somebody else",
            "GPUs declared",
            "labels     rack=b2\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
