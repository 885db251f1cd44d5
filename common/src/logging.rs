//! How every program of Berth logs: to stderr, filtered by `BERTH_LOG`, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is `info`, `debug` or tracing's own syntax
/// (`info,berth_worker=debug`); a filter that cannot be read is told and `info` taken.
pub fn start(filter: &str, json: bool) {
    let (filter, mistake) = match EnvFilter::try_new(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    // lapin reports every failed attempt itself; our supervisor says it once, with what to do.
    let filter = filter.add_directive("lapin=off".parse().expect("a constant directive"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A terminal or a pipe that is gone would be told of by a write to it, which panics: whoever was about
    // to log and then to act would not act.
    let log = log.log_internal_errors(false);
    if json {
        log.json().init();
    } else {
        log.with_target(false).with_ansi(false).init();
    }
    if let Some(error) = mistake {
        tracing::warn!(%error, "BERTH_LOG cannot be read; logging at info");
    }
}
