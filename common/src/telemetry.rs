//! The records of telemetry: the five tables of the platform, kept on each device.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::words;

words! {
    /// A table that can be asked for.
    Table {
        /// `cpu, mem, gpu_load, gpu_mem` in percent.
        Gauge = "gauge",
        /// `total, used` in MB.
        Memory = "memory",
        /// `total, used` in MB, all GPUs together.
        GpuMem = "gpumem",
        /// `read_rate, write_rate` in MB/s.
        DiskIo = "diskio",
        /// `send_rate, recv_rate` in MB/s.
        NetIo = "netio",
    }
}

impl Table {
    /// Its columns besides the time `t`.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Gauge => &["cpu", "mem", "gpu_load", "gpu_mem"],
            Self::Memory | Self::GpuMem => &["total", "used"],
            Self::DiskIo => &["read_rate", "write_rate"],
            Self::NetIo => &["send_rate", "recv_rate"],
        }
    }
}

/// A range of one table. Answered with `{"items": [{"t", …columns}]}`, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub table: Table,
    /// An hour before `to` where absent.
    #[serde(default, with = "crate::time::option")]
    pub from: Option<Timestamp>,
    /// Now where absent.
    #[serde(default, with = "crate::time::option")]
    pub to: Option<Timestamp>,
    /// Means over so many seconds instead of single samples.
    #[serde(default)]
    pub step: Option<u64>,
}
