//! Whether the daemon itself saw a container end.

use std::collections::HashMap;

use bollard::query_parameters::EventsOptions;
use futures_util::TryStreamExt;
use jiff::Timestamp;

use super::{Docker, DockerError};

impl Docker {
    /// Whether this daemon saw the container die between two moments. One that was started later did not: it
    /// keeps its last events in memory only.
    ///
    /// # Errors
    /// When the daemon does not answer or fails.
    pub async fn saw_it_die(&self, name: &str, from: Timestamp, to: Timestamp) -> Result<bool, DockerError> {
        let filters = HashMap::from([
            ("container".to_owned(), vec![name.to_owned()]),
            ("event".to_owned(), vec!["die".to_owned()]),
        ]);
        let options = EventsOptions {
            since: Some(from.as_second().to_string()),
            until: Some(to.as_second().to_string()),
            filters: Some(filters),
        };
        let mut events = std::pin::pin!(self.api.events(Some(options)));
        Ok(events.try_next().await?.is_some())
    }
}
