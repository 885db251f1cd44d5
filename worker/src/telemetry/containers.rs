//! What each running container of this device uses, as Docker counts it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse, ContainerSummary};
use bollard::query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder};
use futures_util::StreamExt;

/// Docker answers in milliseconds; when it hangs, the rest of the sample does not wait for it.
const LIMIT: Duration = Duration::from_secs(5);
/// Docker reads a container's cgroup for each; more at once only make it slower.
const AT_ONCE: usize = 4;
const MB: f64 = (1 << 20) as f64;

/// One container's use. What is not measured is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerUse {
    /// Its name.
    pub container: String,
    /// Percent of one CPU since the sample before, so 200 is two CPUs.
    pub cpu: Option<f64>,
    /// MB without the page cache.
    pub mem_mb: Option<f64>,
    /// UUIDs of the GPUs that were handed to it. They are its alone, so their figures are its own.
    pub gpus: Vec<String>,
}

/// Where the use of containers is known from.
pub trait ContainerStats: Send + 'static {
    /// The running containers of this device. An error is told once, and the sample goes on without.
    fn list(&mut self) -> impl Future<Output = Result<Vec<ContainerUse>, String>> + Send;
}

/// Docker's own counters, of the containers with this device's label.
pub struct DockerStats {
    docker: Docker,
    device: String,
    /// What is remembered of each container, by id.
    known: HashMap<String, Known>,
}

struct Known {
    gpus: Vec<String>,
    /// Nanoseconds of CPU that it had used, and when that was.
    cpu: Option<(u64, Instant)>,
}

impl DockerStats {
    #[must_use]
    pub fn new(docker: Docker, device: &str) -> Self {
        Self { docker, device: device.to_owned(), known: HashMap::new() }
    }

    async fn read(&mut self) -> Result<Vec<ContainerUse>, bollard::errors::Error> {
        let label = format!("berth.device={}", self.device);
        let filters = HashMap::from([("label", vec![label]), ("status", vec!["running".to_owned()])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let running = self.docker.list_containers(Some(options)).await?;
        let ids: Vec<(String, String)> = running.into_iter().filter_map(id_and_name).collect();
        let docker = &self.docker;
        let read = futures_util::stream::iter(ids)
            .map(|(id, name)| async move { Some((stats(docker, &id).await?, id, name)) })
            .buffered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect::<Vec<_>>()
            .await;
        // Those that are gone are forgotten with the old map.
        let mut known = std::mem::take(&mut self.known);
        let mut used = Vec::with_capacity(read.len());
        for ((stats, at), id, name) in read {
            let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
            let cpu = cpu.map(|ns| (ns, at));
            let (gpus, before) = match known.remove(&id) {
                Some(known) => (known.gpus, known.cpu),
                None => (gpus(&self.docker, &id).await?, None),
            };
            used.push(ContainerUse {
                container: name,
                cpu: cpu.zip(before).and_then(|(now, before)| cpu_percent(before, now)),
                mem_mb: stats.memory_stats.as_ref().and_then(memory_mb),
                gpus: gpus.clone(),
            });
            self.known.insert(id, Known { gpus, cpu });
        }
        Ok(used)
    }
}

impl ContainerStats for DockerStats {
    async fn list(&mut self) -> Result<Vec<ContainerUse>, String> {
        match tokio::time::timeout(LIMIT, self.read()).await {
            Ok(Ok(used)) => Ok(used),
            Ok(Err(error)) => Err(format!("Docker: {error}")),
            Err(_) => Err(format!("Docker did not answer within {} s", LIMIT.as_secs())),
        }
    }
}

fn id_and_name(container: ContainerSummary) -> Option<(String, String)> {
    let id = container.id?;
    let name = container.names.and_then(|names| names.into_iter().next());
    let name = name.map_or_else(|| id.clone(), |name| name.trim_start_matches('/').to_owned());
    Some((id, name))
}

/// One reading without waiting for a second; `None` for a container that has ended meanwhile.
async fn stats(docker: &Docker, id: &str) -> Option<(ContainerStatsResponse, Instant)> {
    let once = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let answer = docker.stats(id, Some(once)).boxed().next().await?;
    Some((answer.ok()?, Instant::now()))
}

/// The GPUs of its device requests: UUIDs, plain or in CDI's form.
async fn gpus(docker: &Docker, id: &str) -> Result<Vec<String>, bollard::errors::Error> {
    let host = match docker.inspect_container(id, None).await {
        Ok(container) => container.host_config,
        // It has ended meanwhile.
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => None,
        Err(error) => return Err(error),
    };
    let requests = host.and_then(|host| host.device_requests).unwrap_or_default();
    let ids = requests.into_iter().flat_map(|request| request.device_ids.unwrap_or_default());
    Ok(ids.map(|id| id.trim_start_matches("nvidia.com/gpu=").to_owned()).collect())
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of CPU in one interval stay below 2^53")]
fn cpu_percent(before: (u64, Instant), now: (u64, Instant)) -> Option<f64> {
    let used_ns = now.0.checked_sub(before.0)? as f64;
    let elapsed_ns = now.1.checked_duration_since(before.1)?.as_secs_f64() * 1e9;
    (elapsed_ns > 0.0).then(|| 100.0 * used_ns / elapsed_ns)
}

/// As `docker stats` shows it: without file pages that the kernel can drop at any time. Their name
/// is `inactive_file` on cgroup v2, `total_inactive_file` on v1.
#[expect(clippy::cast_precision_loss, reason = "memory stays below 2^53 bytes")]
fn memory_mb(memory: &ContainerMemoryStats) -> Option<f64> {
    let usage = memory.usage?;
    let stats = memory.stats.as_ref();
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| stats?.get(*name));
    Some(usage.saturating_sub(cache.copied().unwrap_or(0)) as f64 / MB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_in_percent_of_one_cpu() {
        let start = Instant::now();
        let end = start + Duration::from_secs(10);
        assert_eq!(cpu_percent((5_000_000_000, start), (20_000_000_000, end)), Some(150.0));
        assert_eq!(cpu_percent((5, start), (4, end)), None, "a counter that went back");
        assert_eq!(cpu_percent((5, end), (6, end)), None, "no time has passed");
    }

    #[test]
    fn memory_is_without_the_page_cache() {
        let memory = |cache: &str| ContainerMemoryStats {
            usage: Some(100 << 20),
            stats: Some(HashMap::from([(cache.to_owned(), 36 << 20)])),
            ..Default::default()
        };
        assert_eq!(memory_mb(&memory("inactive_file")), Some(64.0));
        assert_eq!(memory_mb(&memory("total_inactive_file")), Some(64.0));
        assert_eq!(memory_mb(&memory("else")), Some(100.0));
    }
}
