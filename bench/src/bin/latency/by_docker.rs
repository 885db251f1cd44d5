//! The limit: `docker run --rm` of the same container, by Docker's own command.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use berth_bench::containers::Watch;
use berth_bench::times::ms;
use berth_common::time::now;
use bollard::models::ContainerInspectResponse;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::{COMMAND, CPUS, MEMORY_MB};

/// For the command to end after its container.
const END: Duration = Duration::from_secs(30);
/// As many as a worker gives a container of a job without any of its own.
const LABELS: usize = 6;
const VARIABLES: usize = 18;

pub struct ByDocker {
    image: String,
    data: PathBuf,
}

/// Milliseconds since the command was started.
pub struct Sample {
    /// Docker was asked for the container.
    pub created: f64,
    pub started: f64,
    pub inspected: ContainerInspectResponse,
}

impl ByDocker {
    /// `data` is mounted as a worker mounts a user's folder.
    pub fn new(image: &str, data: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        Ok(Self { image: image.into(), data })
    }

    pub async fn once(&self, watch: &mut Watch) -> anyhow::Result<Sample> {
        let name = format!("berth-bench-{}", Uuid::new_v4().simple());
        let arguments = arguments(&name, &self.image, &self.data);
        let mut left = Left(Some(name.clone()));
        let began = now();
        let mut command = Command::new("docker")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting docker")?;
        let container = follow(&name, &mut command, watch).await?;
        left.0 = None;
        Ok(Sample {
            created: ms(began, container.created),
            started: ms(began, container.started),
            inspected: container.inspected,
        })
    }
}

/// A container that nobody has ended yet, and that goes when the measurement is broken off.
struct Left(Option<String>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            // Failing to remove it is told by docker itself.
            let _ =
                std::process::Command::new("docker").args(["rm", "-fv", name]).stdout(Stdio::null()).status();
        }
    }
}

async fn follow(
    name: &str,
    command: &mut Child,
    watch: &mut Watch,
) -> anyhow::Result<berth_bench::containers::Running> {
    let container = tokio::select! {
        container = watch.running(name) => container?,
        ended = command.wait() => bail!("docker run ended early: {}", ended.context("waiting for docker")?),
    };
    watch.kill(name).await?;
    watch.gone(name).await?;
    let ended = tokio::time::timeout(END, command.wait()).await.context("docker run did not end")?;
    ended.context("waiting for docker")?;
    Ok(container)
}

fn arguments(name: &str, image: &str, data: &Path) -> Vec<String> {
    let memory = format!("{MEMORY_MB}m");
    let mut all: Vec<String> = [
        ["run", "--rm"],
        ["--name", name],
        ["--cpus", &CPUS.to_string()],
        ["--memory", &memory],
        ["--memory-swap", &memory],
        ["--pids-limit", "32768"],
        ["--log-driver", "json-file"],
        ["--log-opt", "max-size=64m"],
        ["--log-opt", "max-file=2"],
        ["--mount", &format!("type=bind,source={},target=/data", data.display())],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect();
    all.push("--init".into());
    for n in 0..LABELS {
        all.extend(["--label".into(), format!("berth.bench.{n}={name}")]);
    }
    for n in 0..VARIABLES {
        all.extend(["--env".into(), format!("BERTH_BENCH_{n}={name}")]);
    }
    all.push(image.into());
    all.extend(COMMAND.map(str::to_owned));
    all
}
