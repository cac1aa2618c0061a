//! The log: structured, to standard error.

use crate::config::General;
use tracing_subscriber::EnvFilter;

/// Starts logging as the configuration wants it. A filter that makes no sense is replaced by `info`, and said.
pub fn start(general: &General) {
    let filter = EnvFilter::try_new(&general.log);
    let mistaken = filter.as_ref().err().map(ToString::to_string);
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = if general.log_json { builder.json().try_init() } else { builder.try_init() };
    if let Err(error) = started {
        eprintln!("the log could not be started: {error}");
    }
    if let Some(error) = mistaken {
        tracing::warn!(filter = %general.log, error, "general.log is not understood");
    }
}
