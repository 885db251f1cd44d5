//! What is wrong with this device, for its heartbeats: then nothing should be started here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A trouble that is shorter concerns nobody: a restart of Docker, a driver that was busy.
const TOLD_AFTER: Duration = Duration::from_secs(20);

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Docker,
    Gpus,
}

/// How the parts are, as of their last looks.
#[derive(Debug, Default)]
pub struct Health {
    troubles: Mutex<[Option<Trouble>; 2]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    since: Instant,
    text: String,
}

impl Health {
    /// A look at this part: an error in words, or all was well.
    pub fn seen(&self, part: Part, result: Result<(), String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = &mut troubles[part as usize];
        *trouble = result.err().map(|text| {
            let since = trouble.as_ref().map_or_else(Instant::now, |before| before.since);
            Trouble { since, text }
        });
    }

    /// What is wrong for long enough, in words for people; none where all is well.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        told(&*troubles, Instant::now())
    }
}

fn told(troubles: &[Option<Trouble>], now: Instant) -> Option<String> {
    let long = troubles.iter().flatten().filter(|trouble| now - trouble.since >= TOLD_AFTER);
    let texts: Vec<_> = long.map(|trouble| trouble.text.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_and_what_is_over_is_not() {
        let health = Health::default();
        let away = || Err("Docker does not answer".to_owned());
        health.seen(Part::Docker, away());
        tokio::time::advance(TOLD_AFTER / 2).await;
        health.seen(Part::Docker, away());
        health.seen(Part::Gpus, Err("NVML failed".into()));
        assert_eq!(health.told(), None);
        tokio::time::advance(TOLD_AFTER / 2).await;
        assert_eq!(health.told().as_deref(), Some("Docker does not answer"));
        tokio::time::advance(TOLD_AFTER / 2).await;
        assert_eq!(health.told().as_deref(), Some("Docker does not answer; NVML failed"));
        health.seen(Part::Docker, Ok(()));
        assert_eq!(health.told().as_deref(), Some("NVML failed"));
        health.seen(Part::Docker, away());
        assert_eq!(health.told().as_deref(), Some("NVML failed"), "it begins anew");
    }
}
