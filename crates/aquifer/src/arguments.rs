//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A Kafka-compatible broker that owns no data: records live in a bucket.
#[derive(Debug, Parser)]
#[command(name = "aquifer", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker until it is told to stop (Ctrl-C, SIGTERM).
    Serve(ServeArguments),
    /// Print every config with its default and meaning, as Markdown.
    Configs,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArguments {
    /// A server.properties file with Kafka's names.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// One config, stronger than the file. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,

    /// What to log on standard error: a level, or levels by module, as in
    /// `info,partition_log=debug`. Stronger than the variable RUST_LOG. Without both: info.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let parsed = Arguments::try_parse_from([
            "aquifer", "serve", "--config", "a", "--set", "b=1", "--set", "c=2",
        ]);
        let Ok(Arguments { command: Command::Serve(serve) }) = parsed else {
            panic!("it parses: {parsed:?}")
        };
        assert_eq!(serve.set, ["b=1", "c=2"]);
        assert!(Arguments::try_parse_from(["aquifer"]).is_err());
    }
}
