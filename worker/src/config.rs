//! What the worker is told: flags, each with its environment variable; no file is needed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use berth_common::id::is_device_name;
use berth_common::inventory::GpuSource;
use berth_common::validate::check_labels;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::guard::Program;

/// Where a worker that runs as root keeps its state.
const SYSTEM_STATE_DIR: &str = "/var/lib/berth";

/// Runs the containers that Berth's scheduler places on this machine.
#[derive(Debug, Parser)]
#[command(name = "berth-worker", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub settings: Settings,
    /// What to log: error, warn, info, debug, or tracing's filter syntax.
    #[arg(long, env = "BERTH_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How to log.
    #[arg(long, env = "BERTH_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the worker (the default).
    Run,
    /// Obey the next scheduler that answers, whichever installation it belongs to. Without this a
    /// worker stays with its first one, so that a scheduler on an empty database stops nobody's training.
    Adopt,
    /// Watch the worker's lease, and kill the containers of jobs that may run elsewhere when it is too old:
    /// the worker is dead, frozen or cut off then. A worker starts one itself, unless --guard external.
    Guard {
        /// Leave when the worker is gone and there is nothing left to kill.
        #[arg(long, hide = true)]
        with_worker: bool,
    },
}

/// Who starts the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Guarded {
    /// The worker does.
    Own,
    /// Somebody else runs `berth-worker guard`.
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Cli {
    /// For the guard that this worker starts: it logs as the worker does.
    #[must_use]
    pub fn for_guard(&self) -> Program {
        match self.settings.guard {
            Guarded::Own => {
                let format = if self.log_format.is_json() { "json" } else { "text" };
                Program::Own(["--log", &self.log, "--log-format", format].map(OsString::from).to_vec())
            }
            Guarded::External => Program::External,
        }
    }
}

impl LogFormat {
    #[must_use]
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Name of this device at the scheduler; the host's name if absent.
    #[arg(long, env = "BERTH_DEVICE", global = true, value_parser = device_name)]
    pub device: Option<String>,
    /// GPUs: auto (ask NVML), none, or declared ones like 2xA100-80GB,4xT4.
    #[arg(long, env = "BERTH_GPUS", default_value = "auto", global = true)]
    pub gpus: GpuSource,
    /// CPUs to offer, e.g. 7.5; what the host has if absent.
    #[arg(long, env = "BERTH_CPUS", global = true, value_parser = cpu_milli, value_name = "CPUS")]
    pub cpus: Option<i64>,
    /// Megabytes of memory to offer; what the host has if absent.
    #[arg(long, env = "BERTH_MEMORY_MB", global = true, value_parser = clap::value_parser!(i64).range(1..))]
    pub memory_mb: Option<i64>,
    /// A label KEY=VALUE of this device, which jobs may ask for, e.g. rack=b2; repeatable, or several
    /// with commas between them.
    #[arg(long = "label", env = "BERTH_LABELS", global = true, value_name = "KEY=VALUE", value_delimiter = ',',
          value_parser = label)]
    pub labels: Vec<Option<(String, String)>>,
    /// RabbitMQ, e.g. <amqp://user:password@host:5672/%2f>.
    #[arg(long, env = "BERTH_AMQP_URL", global = true, hide_env_values = true)]
    pub amqp_url: Option<String>,
    /// Root of the users' data folders, mounted at /data; the folder `data` in the state folder if absent.
    #[arg(long, env = "BERTH_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Public data, mounted read-only at `/pub_data`.
    #[arg(long, env = "BERTH_PUB_DIR", global = true)]
    pub pub_dir: Option<PathBuf>,
    /// Where telemetry is kept: sqlite:PATH or postgres://…; a file in the state folder if absent.
    #[arg(long, env = "BERTH_TELEMETRY_URL", global = true, hide_env_values = true)]
    pub telemetry_url: Option<String>,
    /// Seconds between two samples of telemetry.
    #[arg(long, env = "BERTH_TELEMETRY_INTERVAL", default_value = "10", global = true, value_parser = seconds)]
    pub telemetry_interval: Duration,
    /// What the worker must not forget: its inbox, its identity, the containers' logs.
    /// `/var/lib/berth` for root, else `~/.local/state/berth`.
    #[arg(long, env = "BERTH_STATE_DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Megabytes kept of one container's log; beyond it the oldest half is dropped.
    #[arg(long, env = "BERTH_LOG_LIMIT_MB", default_value = "64", global = true,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub log_limit_mb: u64,
    /// Megabytes kept of all containers' logs together; beyond it the logs of what ended first go.
    #[arg(long, env = "BERTH_LOGS_TOTAL_MB", default_value = "10240", global = true,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub logs_total_mb: u64,
    /// Docker's network for the containers of jobs with several replicas. The ranks must reach each other
    /// across devices, on any port, and replica 0 at its device's address: so `host` (each container has its
    /// host's own network), or the name of a network that spans all devices, e.g. an overlay.
    #[arg(long, env = "BERTH_GANG_NETWORK", default_value = "host", global = true)]
    pub gang_network: String,
    /// Who starts the guard, which kills containers in the worker's stead when it cannot: own (the worker
    /// does), or external (`berth-worker guard` runs as a unit or a container of its own).
    #[arg(long, env = "BERTH_GUARD", default_value = "own", global = true)]
    pub guard: Guarded,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("--amqp-url (BERTH_AMQP_URL) is required, e.g. amqp://user:password@host:5672/%2f")]
    NoBroker,
    #[error(
        "the host's name {0:?} cannot name a device; give --device (BERTH_DEVICE) like gpu1.lab: {NAME_FORM}"
    )]
    HostName(String),
    #[error("--label (BERTH_LABELS): {0}")]
    Label(String),
    #[error("cannot tell where to keep the worker's state: give --state-dir (BERTH_STATE_DIR)")]
    NoStateDir,
}

const NAME_FORM: &str =
    "lower-case letters, digits, dots and dashes, at most 63, the first a letter or digit";

impl Settings {
    /// The device's name: as given, else the host's.
    ///
    /// # Errors
    /// When the host's name cannot name a device.
    pub fn device(&self) -> Result<String, ConfigError> {
        if let Some(device) = &self.device {
            return Ok(device.clone());
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = host.trim().to_ascii_lowercase();
        if is_device_name(&name) { Ok(name) } else { Err(ConfigError::HostName(host.trim().to_owned())) }
    }

    /// What the device is known by besides its name.
    ///
    /// # Errors
    /// When a key has two values, or is longer than a label may be.
    pub fn labels(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut labels = BTreeMap::new();
        for (key, value) in self.labels.iter().flatten() {
            let before = labels.insert(key.clone(), value.clone());
            if let Some(before) = before.filter(|before| before != value) {
                return Err(ConfigError::Label(format!(
                    "{key} is {before} and {value}; a label has one value"
                )));
            }
        }
        match check_labels("", &labels).first() {
            Some(error) => Err(ConfigError::Label(format!("{}: {}", error.pointer, error.message))),
            None => Ok(labels),
        }
    }

    /// # Errors
    /// When there is none.
    pub fn amqp_url(&self) -> Result<&str, ConfigError> {
        self.amqp_url.as_deref().filter(|url| !url.is_empty()).ok_or(ConfigError::NoBroker)
    }

    /// # Errors
    /// When neither it nor a home folder is known.
    pub fn state_dir(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        if std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0) {
            return Ok(PathBuf::from(SYSTEM_STATE_DIR));
        }
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).ok_or(ConfigError::NoStateDir)?;
        Ok(PathBuf::from(home).join(".local/state/berth"))
    }
}

fn device_name(text: &str) -> Result<String, String> {
    if is_device_name(text) { Ok(text.to_owned()) } else { Err(NAME_FORM.to_owned()) }
}

/// None for an empty text: a variable that is set and empty names no label.
fn label(text: &str) -> Result<Option<(String, String)>, String> {
    match text.trim() {
        "" => Ok(None),
        text => match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Ok(Some((key.into(), value.into())))
            }
            Some(_) | None => Err("KEY=VALUE, like rack=b2".into()),
        },
    }
}

#[allow(clippy::cast_possible_truncation)] // the range is checked on the line before
fn cpu_milli(text: &str) -> Result<i64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=4096.0).contains(&cpus) => Ok((cpus * 1000.0).round() as i64),
        Ok(_) | Err(_) => Err("a number of CPUs between 0.01 and 4096, like 7.5".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.1..=3600.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        Ok(_) | Err(_) => Err("seconds between 0.1 and 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Cli, String> {
        let words = std::iter::once("berth-worker").chain(arguments.iter().copied());
        Cli::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_read_with_and_without_a_subcommand() {
        let cli = read(&["--device", "dev-1", "--gpus", "2xA100-80GB", "--cpus", "7.5"]).expect("reads");
        assert_eq!(cli.settings.device().expect("given"), "dev-1");
        assert_eq!(cli.settings.cpus, Some(7500));
        assert_eq!(cli.settings.gpus, GpuSource::Declared(vec![(2, "A100-80GB".into())]));
        let cli = read(&["adopt", "--state-dir", "/x"]).expect("reads");
        assert_eq!(cli.command, Some(Command::Adopt));
        assert_eq!(cli.settings.state_dir().expect("given"), PathBuf::from("/x"));
    }

    #[test]
    fn a_device_has_the_labels_that_it_is_told() {
        let labels = |arguments: &[&str]| read(arguments).expect("reads").settings.labels();
        assert!(labels(&[]).expect("none").is_empty());
        assert!(labels(&["--label", ""]).expect("none").is_empty(), "as BERTH_LABELS, set and empty");
        let told = labels(&["--label", "rack=b2,disk=a=b", "--label", "rack=b2"]).expect("good ones");
        assert_eq!(told, [("disk", "a=b"), ("rack", "b2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert!(labels(&["--label", "rack=b2", "--label", "rack=b3"]).is_err());
        assert!(labels(&["--label", &format!("{}=1", "x".repeat(64))]).is_err());
    }

    #[test]
    fn mistakes_are_refused_with_the_form() {
        for wrong in [
            ["--device", "GPU_1"],
            ["--gpus", "many"],
            ["--cpus", "0"],
            ["--label", "rack"],
            ["--label", "rack="],
            ["--telemetry-interval", "0"],
            ["--log-limit-mb", "0"],
            ["--logs-total-mb", "0"],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }
}
