//! Logs: on standard error, so that standard output stays for people and pipes.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// Libraries that narrate more than they report, one step quieter than we are.
const DEFAULT_FILTER: &str = "info,slatedb=warn,object_store=warn,hyper=warn";

/// `filter` is `--log`; RUST_LOG comes next, then the default.
pub(crate) fn start(filter: Option<&str>) -> Result<(), Failure> {
    let text = match filter {
        Some(text) => text.to_owned(),
        None => std::env::var("RUST_LOG").unwrap_or_default(),
    };
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { &text };
    let filter = EnvFilter::try_new(text)
        .map_err(|error| Failure::start(format!("the log filter {text:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| Failure::start(format!("logs cannot be started: {error}")))
}
