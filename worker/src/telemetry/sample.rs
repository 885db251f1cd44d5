//! One sample of everything, and the rows that it makes: a pure function of two readings of the
//! host and of what GPUs and containers said. What was not measured is `None`, never 0.

use berth_common::time;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::containers::ContainerUse;
use super::host::{Reading, rates};
use super::tables::{self, Series};
use crate::gpu::GpuSample;

/// Everything that was measured at one time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub t: Timestamp,
    cpu: f64,
    memory_total_mb: f64,
    memory_used_mb: f64,
    /// MB/s read and written.
    disk: Option<(f64, f64)>,
    /// MB/s sent and received.
    net: Option<(f64, f64)>,
    gpus: Vec<GpuSample>,
    containers: Vec<ContainerUse>,
}

/// A row of one table at the time of its sample.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    pub series: &'static Series,
    /// The GPU or container that it is about.
    pub key: Option<&'a str>,
    /// In the order of the table's columns.
    pub values: Vec<Option<f64>>,
}

impl Sample {
    pub(super) fn new(
        t: Timestamp,
        before: &Reading,
        now: &Reading,
        gpus: Vec<GpuSample>,
        containers: Vec<ContainerUse>,
    ) -> Self {
        let elapsed = now.at.saturating_duration_since(before.at);
        Self {
            t: time::to_micros(t),
            cpu: now.cpu,
            memory_total_mb: now.memory_total_mb,
            memory_used_mb: now.memory_used_mb,
            disk: rates(&before.disks, &now.disks, elapsed),
            net: rates(&before.interfaces, &now.interfaces, elapsed),
            gpus,
            containers,
        }
    }

    /// The rows to store: one of each of the device's tables, one per GPU, one per container.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let gpu_mem = self.gpu_memory();
        let whole = |series, values| Row { series, key: None, values: rounded(values) };
        let mut rows = vec![
            whole(
                &tables::GAUGE,
                vec![
                    Some(self.cpu),
                    percent(self.memory_used_mb, self.memory_total_mb),
                    mean(self.gpus.iter().filter_map(|gpu| gpu.load)),
                    gpu_mem.and_then(|(total, used)| percent(used, total)),
                ],
            ),
            whole(&tables::MEMORY, vec![Some(self.memory_total_mb), Some(self.memory_used_mb)]),
            whole(&tables::GPUMEM, vec![gpu_mem.map(|(total, _)| total), gpu_mem.map(|(_, used)| used)]),
        ];
        for (series, rates) in [(&tables::DISKIO, self.disk), (&tables::NETIO, self.net)] {
            rows.extend(rates.map(|(a, b)| whole(series, vec![Some(a), Some(b)])));
        }
        rows.extend(self.gpus.iter().map(gpu_row));
        rows.extend(self.containers.iter().map(|used| container_row(used, &self.gpus)));
        rows
    }

    /// Total and used MB of all GPUs that tell it.
    fn gpu_memory(&self) -> Option<(f64, f64)> {
        let told = self.gpus.iter().filter_map(|gpu| Some((gpu.mem_total_mb?, gpu.mem_used_mb?)));
        told.map(|(total, used)| (whole(total), whole(used)))
            .reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Row<'_> {
    /// As it is published: its table's columns with device and time.
    pub(super) fn to_json(&self, device: &str, t: Timestamp) -> Value {
        let mut object = Map::new();
        object.insert("device".into(), device.into());
        object.insert("t".into(), format!("{t:.6}").into());
        if let (Some(column), Some(key)) = (self.series.key, self.key) {
            object.insert(column.into(), key.into());
        }
        for (column, value) in self.series.columns.iter().zip(&self.values) {
            object.insert((*column).into(), Value::from(*value));
        }
        Value::Object(object)
    }
}

fn gpu_row(gpu: &GpuSample) -> Row<'_> {
    let values = vec![gpu.load, gpu.mem_used_mb.map(whole), gpu.power_w, gpu.temp_c, gpu.ecc.map(whole)];
    Row { series: &tables::GPU_SAMPLE, key: Some(&gpu.uuid), values: rounded(values) }
}

/// Its GPUs are its alone: their mean load and the memory in use on all of them, as far as measured.
fn container_row<'a>(used: &'a ContainerUse, gpus: &[GpuSample]) -> Row<'a> {
    let own = || gpus.iter().filter(|gpu| used.gpus.contains(&gpu.uuid));
    let load = mean(own().filter_map(|gpu| gpu.load));
    let memory = own().filter_map(|gpu| gpu.mem_used_mb).reduce(|sum, mb| sum.saturating_add(mb));
    let values = vec![used.cpu, used.mem_mb, load, memory.map(whole)];
    Row { series: &tables::CONTAINER_SAMPLE, key: Some(&used.container), values: rounded(values) }
}

#[expect(clippy::cast_precision_loss, reason = "megabytes and counts stay far below 2^53")]
fn whole(value: i64) -> f64 {
    value as f64
}

fn percent(part: f64, total: f64) -> Option<f64> {
    (total > 0.0).then(|| 100.0 * part / total)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    (count > 0.0).then(|| sum / count)
}

/// Thousandths are more than is measured; what is no number was not measured.
fn rounded(values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    let round = |value: f64| value.is_finite().then(|| (value * 1000.0).round() / 1000.0);
    values.into_iter().map(|value| value.and_then(round)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    pub(in crate::telemetry) fn reading(at: Instant, mb_moved: u64) -> Reading {
        let bytes = mb_moved << 20;
        Reading {
            at,
            cpu: 12.5,
            memory_total_mb: 1000.0,
            memory_used_mb: 250.0,
            disks: [("vda".to_owned(), (bytes, 2 * bytes))].into(),
            interfaces: [("eth0".to_owned(), (3 * bytes, 4 * bytes))].into(),
        }
    }

    pub(in crate::telemetry) fn sample_at(t: Timestamp) -> Sample {
        let start = Instant::now();
        let end = start + Duration::from_secs(10);
        Sample::new(t, &reading(start, 0), &reading(end, 10), Vec::new(), Vec::new())
    }

    fn gpu(idx: u32, load: Option<f64>, memory: Option<(i64, i64)>) -> GpuSample {
        GpuSample {
            idx,
            uuid: format!("GPU-{idx}"),
            load,
            mem_used_mb: memory.map(|(_, used)| used),
            mem_total_mb: memory.map(|(total, _)| total),
            power_w: Some(70.1234),
            temp_c: Some(40.0),
            ecc: Some(0),
        }
    }

    fn values<'a>(rows: &'a [Row<'_>], series: &Series) -> Vec<&'a [Option<f64>]> {
        rows.iter().filter(|row| row.series == series).map(|row| row.values.as_slice()).collect()
    }

    #[test]
    fn a_device_without_measured_gpus_says_so() {
        let sample = sample_at(Timestamp::UNIX_EPOCH);
        let rows = sample.rows();
        assert_eq!(values(&rows, &tables::GAUGE), [&[Some(12.5), Some(25.0), None, None]]);
        assert_eq!(values(&rows, &tables::GPUMEM), [&[None, None]]);
        assert_eq!(values(&rows, &tables::DISKIO), [&[Some(1.0), Some(2.0)]]);
        assert_eq!(values(&rows, &tables::NETIO), [&[Some(3.0), Some(4.0)]]);
        assert_eq!(rows.len(), 5);
        let gauge = serde_json::json!({"device": "d", "t": "1970-01-01T00:00:00.000000Z",
            "cpu": 12.5, "mem": 25.0, "gpu_load": null, "gpu_mem": null});
        assert_eq!(rows[0].to_json("d", sample.t), gauge);
    }

    #[test]
    fn gpus_count_together_and_each() {
        let gpus = vec![
            gpu(0, Some(100.0), Some((80_000, 60_000))),
            gpu(1, Some(50.0), Some((80_000, 20_000))),
            gpu(2, None, None),
        ];
        let container = |name: &str, gpus: &[&str]| ContainerUse {
            container: name.into(),
            cpu: Some(150.0),
            mem_mb: Some(64.0),
            gpus: gpus.iter().map(|gpu| (*gpu).to_owned()).collect(),
        };
        let containers = vec![
            container("with two", &["GPU-0", "GPU-1"]),
            container("with a silent one", &["GPU-2"]),
            container("with none", &[]),
        ];
        let start = Instant::now();
        let now = reading(start, 0);
        let sample = Sample::new(Timestamp::UNIX_EPOCH, &now, &now, gpus, containers);
        let rows = sample.rows();
        assert_eq!(values(&rows, &tables::GAUGE)[0][2..], [Some(75.0), Some(50.0)]);
        assert_eq!(values(&rows, &tables::GPUMEM), [&[Some(160_000.0), Some(80_000.0)]]);
        let each = values(&rows, &tables::GPU_SAMPLE);
        assert_eq!(each.len(), 3);
        assert_eq!(each[0], [Some(100.0), Some(60_000.0), Some(70.123), Some(40.0), Some(0.0)]);
        let each = values(&rows, &tables::CONTAINER_SAMPLE);
        assert_eq!(each[0], [Some(150.0), Some(64.0), Some(75.0), Some(80_000.0)]);
        assert_eq!(each[1..], [&[Some(150.0), Some(64.0), None, None]; 2]);
        assert!(values(&rows, &tables::DISKIO).is_empty(), "no time has passed, so there is no rate");
        assert_eq!(rows.last().expect("rows").to_json("d", sample.t)["container"], "with none");
    }
}
