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
    /// Check that what a cluster has stored is all there and intact. Changes nothing; a broker may be
    /// running.
    Doctor(DoctorArguments),
    /// Print what is in the bucket, the write-ahead log or the metadata. Records are never printed.
    Inspect(InspectArguments),
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

/// Where the bucket is: the same configuration as the broker's.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlaceArguments {
    /// The broker's server.properties file.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// One config, stronger than the file. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", global = true)]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,

    /// Read every committed byte and compare its checksum.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Print a JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,

    /// Print a JSON object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) what: InspectWhat,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum InspectWhat {
    /// The cluster's marker, its brokers and their logs.
    Cluster,
    /// Every partition: leader, offsets, runs.
    Topics,
    /// A partition's history and committed runs.
    Partition {
        /// As in orders-0.
        #[arg(value_name = "TOPIC-INDEX")]
        partition: String,
    },
    /// What a segment or a fence says, and whether its bytes are intact.
    Segment {
        /// A key of the bucket, the id of a data segment, or a file of a write-ahead log.
        #[arg(value_name = "KEY-OR-PATH")]
        segment: String,

        /// The header of every batch, too.
        #[arg(long)]
        batches: bool,
    },
    /// The write-ahead logs: their records, objects and files.
    Wal,
    /// Entries of the metadata, decoded.
    Metadata {
        /// Only keys that start so: a kind's letter, or a letter, a slash and hexadecimal digits.
        prefix: Option<String>,
    },
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
