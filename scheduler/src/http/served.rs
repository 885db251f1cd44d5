//! What every handler is given.

use tokio_util::sync::CancellationToken;

use super::auth::Tokens;
use super::metrics::HttpMetrics;
use crate::ask::Asker;
use crate::health::Health;
use crate::store::read::Reads;

/// What the shim needs of the process that it runs in.
pub struct Shim {
    pub database: Reads,
    pub asker: Asker,
    pub health: Health,
    /// Of the whole process: the shim adds its metrics, `/metrics` shows all of them.
    pub registry: prometheus::Registry,
    /// Ends the streams that would otherwise never end, so that the server can.
    pub stop: CancellationToken,
}

/// The shim at work.
pub struct Served {
    pub(super) shim: Shim,
    pub(super) tokens: Tokens,
    pub(super) metrics: HttpMetrics,
}

impl Served {
    /// # Panics
    /// When the registry has a metric of one of the shim's names already.
    pub fn new(shim: Shim) -> Self {
        let metrics = HttpMetrics::register(&shim.registry, &shim.asker);
        Self { shim, tokens: Tokens::default(), metrics }
    }

    pub fn reads(&self) -> &Reads {
        &self.shim.database
    }

    pub fn asker(&self) -> &Asker {
        &self.shim.asker
    }
}
