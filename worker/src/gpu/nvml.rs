//! The one thread that owns NVML. The library's calls block, for ever when the driver hangs, so
//! nothing else waits in them: questions go over a channel, answers are awaited for a limited time.

mod topology;

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use berth_common::inventory::Gpu;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use tokio::sync::oneshot;

use super::{GpuSample, ProbeError, links, type_of};

/// NVML answers in milliseconds; with eight GPUs that wake up first, in about two seconds.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// More questions than that wait only behind a driver that hangs: then each is told at once.
const QUESTIONS: usize = 4;

const MB: u64 = 1 << 20;

/// A handle on the thread; it ends with the last one.
#[derive(Clone)]
pub struct NvmlThread {
    questions: mpsc::SyncSender<Question>,
}

enum Question {
    Gpus(oneshot::Sender<Result<Vec<Gpu>, ProbeError>>),
    /// The links of the GPUs with these UUIDs.
    Links(Vec<String>, oneshot::Sender<Result<Vec<Vec<u8>>, ProbeError>>),
    Samples(oneshot::Sender<Result<Vec<GpuSample>, ProbeError>>),
}

impl NvmlThread {
    pub(super) fn start() -> Self {
        let (questions, inbox) = mpsc::sync_channel(QUESTIONS);
        let thread = std::thread::Builder::new().name("nvml".into());
        if let Err(error) = thread.spawn(move || answer(&inbox)) {
            tracing::warn!(%error, "no thread for NVML: GPUs cannot be read");
        }
        Self { questions }
    }

    pub(super) async fn gpus(&self) -> Result<Vec<Gpu>, ProbeError> {
        self.ask(Question::Gpus).await
    }

    pub(super) async fn links(&self, uuids: Vec<String>) -> Result<Vec<Vec<u8>>, ProbeError> {
        self.ask(|to| Question::Links(uuids, to)).await
    }

    pub(super) async fn samples(&self) -> Result<Vec<GpuSample>, ProbeError> {
        self.ask(Question::Samples).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, ProbeError>>) -> Question,
    ) -> Result<T, ProbeError> {
        let (to, answer) = oneshot::channel();
        self.questions.try_send(question(to)).map_err(|_| ProbeError::Silent)?;
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(ProbeError::Silent),
        }
    }
}

fn answer(inbox: &mpsc::Receiver<Question>) {
    let mut driver = Driver::default();
    while let Ok(question) = inbox.recv() {
        // Who asked may have given up meanwhile.
        match question {
            Question::Gpus(to) => {
                let _ = to.send(driver.read(inventory));
            }
            Question::Links(uuids, to) => {
                let _ = to.send(Ok(driver.links(&uuids)));
            }
            Question::Samples(to) => {
                let _ = to.send(driver.read(sample));
            }
        }
    }
}

/// NVML as far as it could be opened. It is tried anew with each question: a failure costs 0.1 ms,
/// and a driver may be loaded after the worker has started.
#[derive(Default)]
struct Driver {
    nvml: Option<Nvml>,
    /// There were GPUs: a driver that is gone now is updated or has failed.
    had_gpus: bool,
    /// Whether the log has it that there is no driver.
    told_absent: bool,
    /// GPUs that the log has as fallen off the bus.
    told_lost: BTreeSet<u32>,
}

impl Driver {
    fn read<T>(
        &mut self,
        read: impl Fn(&Device<'_>, u32) -> Result<T, NvmlError>,
    ) -> Result<Vec<T>, ProbeError> {
        if self.nvml.is_none() {
            match Nvml::init() {
                Ok(nvml) => self.nvml = Some(nvml),
                Err(error) => return self.not_opened(&error),
            }
        }
        let nvml = self.nvml.as_ref().expect("it was just opened");
        let all = each_gpu(nvml, read, &mut self.told_lost);
        if all.as_ref().is_err_and(needs_new_start) {
            self.nvml = None;
        }
        self.had_gpus |= all.as_ref().is_ok_and(|all| !all.is_empty());
        all.map_err(|error| ProbeError::Nvml(error.to_string()))
    }

    /// Of GPUs that were just read; nothing is known of them once the driver is gone again.
    fn links(&self, uuids: &[String]) -> Vec<Vec<u8>> {
        self.nvml.as_ref().map_or_else(Vec::new, |nvml| links::scores(&topology::read(nvml, uuids)))
    }

    /// Without a driver there are no GPUs; one that was there and is gone is an error.
    fn not_opened<T>(&mut self, error: &NvmlError) -> Result<Vec<T>, ProbeError> {
        if self.had_gpus || !is_absent(error) {
            return Err(ProbeError::Nvml(error.to_string()));
        }
        if !std::mem::replace(&mut self.told_absent, true) {
            tracing::info!(%error, "no NVIDIA driver: this device has no GPUs");
        }
        Ok(Vec::new())
    }
}

fn each_gpu<T>(
    nvml: &Nvml,
    read: impl Fn(&Device<'_>, u32) -> Result<T, NvmlError>,
    told_lost: &mut BTreeSet<u32>,
) -> Result<Vec<T>, NvmlError> {
    let mut all = Vec::new();
    for idx in 0..nvml.device_count()? {
        match nvml.device_by_index(idx).and_then(|device| read(&device, idx)) {
            Ok(one) => all.push(one),
            // It is not there any more, and the others are.
            Err(NvmlError::GpuLost) => {
                if told_lost.insert(idx) {
                    tracing::error!(gpu = idx, "a GPU has fallen off the bus: the host needs a restart");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn inventory(device: &Device<'_>, idx: u32) -> Result<Gpu, NvmlError> {
    let memory = known(device.memory_info())?;
    Ok(Gpu {
        idx,
        uuid: device.uuid()?,
        kind: type_of(&device.name()?),
        memory_mb: memory.map_or(0, |memory| whole_mb(memory.total)),
    })
}

fn sample(device: &Device<'_>, idx: u32) -> Result<GpuSample, NvmlError> {
    let memory = known(device.memory_info())?;
    let milliwatts = known(device.power_usage())?;
    let ecc = known(device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile))?;
    Ok(GpuSample {
        idx,
        uuid: device.uuid()?,
        load: known(device.utilization_rates())?.map(|rates| f64::from(rates.gpu)),
        mem_used_mb: memory.as_ref().map(|memory| whole_mb(memory.used)),
        mem_total_mb: memory.map(|memory| whole_mb(memory.total)),
        power_w: milliwatts.map(|mw| f64::from(mw) / 1000.0),
        temp_c: known(device.temperature(TemperatureSensor::Gpu))?.map(f64::from),
        ecc: ecc.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
    })
}

/// What this kind of GPU, its mode or its driver does not tell is not known, and no failure.
fn known<T>(value: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::NoData
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &NvmlError) -> bool {
    matches!(error, NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded)
}

/// After an update of the driver under a running process, NVML answers again once it is reopened.
fn needs_new_start(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::LibRmVersionMismatch | NvmlError::Unknown)
}

fn whole_mb(bytes: u64) -> i64 {
    i64::try_from(bytes / MB).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_goes_away_does_not_take_the_gpus_with_it() {
        let mut driver = Driver::default();
        assert_eq!(driver.not_opened::<Gpu>(&NvmlError::DriverNotLoaded), Ok(Vec::new()));
        assert!(driver.not_opened::<Gpu>(&NvmlError::Unknown).is_err());
        driver.had_gpus = true;
        assert!(driver.not_opened::<Gpu>(&NvmlError::DriverNotLoaded).is_err());
    }
}
