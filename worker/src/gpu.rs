//! The device's GPUs: which there are, and how busy they are.
//!
//! Measured by NVML, or declared by configuration for development. What must always hold: a
//! declared GPU is never pretended to be measured, so it has no samples at all; and a driver that
//! was there and stopped answering is an error, not a device without GPUs, since an empty inventory
//! would cost every job on the device its life.

mod links;
mod name;
mod nvml;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use berth_common::inventory::{Gpu, GpuSource, MAX_LINKED_GPUS, declared_gpus};
use serde::Serialize;

pub use name::type_of;
use nvml::NvmlThread;

/// Where the device's GPUs are known from. Clones share one NVML.
#[derive(Clone)]
pub enum Probe {
    /// The device offers none.
    None,
    Declared(Arc<[Gpu]>),
    Nvml(NvmlThread),
    /// What tests answer.
    Scripted(Script),
}

/// How busy one GPU is. What its kind does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuSample {
    pub idx: u32,
    pub uuid: String,
    /// Percent of the time in which a kernel ran.
    pub load: Option<f64>,
    pub mem_used_mb: Option<i64>,
    pub mem_total_mb: Option<i64>,
    pub power_w: Option<f64>,
    pub temp_c: Option<f64>,
    /// Memory errors that were not corrected since the driver was loaded.
    pub ecc: Option<i64>,
}

/// NVML did not do it. What was known before still counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("NVML: {0}")]
    Nvml(String),
    /// A driver that hangs; only a restart of the host is known to help.
    #[error("the NVIDIA driver did not answer within {} s", nvml::ANSWER_TIMEOUT.as_secs())]
    Silent,
}

impl Probe {
    #[must_use]
    pub fn new(source: &GpuSource, device: &str) -> Self {
        match source {
            GpuSource::Auto => Self::Nvml(NvmlThread::start()),
            GpuSource::None => Self::None,
            GpuSource::Declared(declared) => Self::Declared(declared_gpus(device, declared).into()),
        }
    }

    /// Whether the GPUs are declared by configuration instead of measured.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        matches!(self, Self::Declared(_))
    }

    /// The GPUs that are there, in NVML's order; none where there is no driver.
    pub async fn gpus(&self) -> Result<Vec<Gpu>, ProbeError> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Declared(gpus) => Ok(gpus.to_vec()),
            Self::Nvml(thread) => thread.gpus().await,
            Self::Scripted(script) => script.gpus.clone(),
        }
    }

    /// How well each two of these GPUs are linked, as the inventory tells it; empty where it is not known.
    /// It never fails: jobs run without it, only not always on the GPUs that are linked best.
    pub async fn links(&self, gpus: &[Gpu]) -> Vec<Vec<u8>> {
        if !(2..=MAX_LINKED_GPUS).contains(&gpus.len()) {
            return Vec::new();
        }
        match self {
            Self::None | Self::Declared(_) => Vec::new(),
            Self::Nvml(thread) => {
                let uuids = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
                thread.links(uuids).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "how the GPUs are linked is not known");
                    Vec::new()
                })
            }
            Self::Scripted(script) => script.links.clone(),
        }
    }

    /// A sample of each GPU that is measured.
    pub async fn samples(&self) -> Result<Vec<GpuSample>, ProbeError> {
        match self {
            Self::None | Self::Declared(_) => Ok(Vec::new()),
            Self::Nvml(thread) => thread.samples().await,
            Self::Scripted(script) => script.next_samples(),
        }
    }
}

type Samples = Result<Vec<GpuSample>, ProbeError>;

/// Answers for tests: always the same inventory and links, and one entry of `samples` after the other.
#[derive(Clone)]
pub struct Script {
    gpus: Result<Vec<Gpu>, ProbeError>,
    links: Vec<Vec<u8>>,
    samples: Arc<Mutex<VecDeque<Samples>>>,
}

impl Script {
    #[must_use]
    pub fn new(gpus: Result<Vec<Gpu>, ProbeError>, samples: Vec<Samples>) -> Self {
        Self { gpus, links: Vec::new(), samples: Arc::new(Mutex::new(samples.into())) }
    }

    #[must_use]
    pub fn with_links(self, links: Vec<Vec<u8>>) -> Self {
        Self { links, ..self }
    }

    /// The next entry; nothing measured when they are used up.
    fn next_samples(&self) -> Samples {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.pop_front().unwrap_or_else(|| Ok(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn declared_gpus_are_in_the_inventory_and_never_sampled() {
        let source = "2xA100-80GB".parse().expect("a declaration");
        let probe = Probe::new(&source, "dev-1");
        assert!(probe.is_declared());
        let gpus = probe.gpus().await.expect("known");
        assert!(probe.links(&gpus).await.is_empty(), "they are all alike");
        let uuids: Vec<_> = gpus.into_iter().map(|gpu| gpu.uuid).collect();
        assert_eq!(uuids, ["declared-dev-1-0", "declared-dev-1-1"]);
        assert_eq!(probe.samples().await, Ok(Vec::new()));
    }

    /// On a machine with a driver this reads its GPUs; on one without, there are none, and that is
    /// no failure.
    #[tokio::test]
    async fn auto_answers_with_and_without_a_driver() {
        let probe = Probe::new(&GpuSource::Auto, "dev-1");
        let gpus = probe.gpus().await.expect("with or without a driver");
        let samples = probe.samples().await.expect("with or without a driver");
        assert_eq!(gpus.len(), samples.len());
        let links = probe.links(&gpus).await;
        assert!(links.is_empty() || links.len() == gpus.len(), "{links:?}");
    }
}
