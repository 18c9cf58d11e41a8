//! The bench's client: one JVM for the whole run, so that every system meets it equally warm.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::scenarios;
use crate::workspace::Workspace;

/// Takes a command a line on its standard input and answers with a line of JSON. Ended when dropped.
pub(super) struct Driver {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Driver {
    pub(super) fn start(workspace: &Workspace) -> Result<Driver> {
        let log = workspace.logs().join("bench-client.err");
        std::fs::create_dir_all(workspace.logs())?;
        let mut command = scenarios::java_command(workspace, &["-Xmx1g"], "Bench");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(log)?);
        let mut child = command.spawn().context("starting java")?;
        let commands = child.stdin.take().context("its input is piped")?;
        let answers = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Driver { child, commands, answers })
    }

    /// One command; each is bounded in time by the client itself (Kafka's own time limits, and consume's).
    pub(super) fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.commands, "{command}")?;
        self.commands.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim() {
            "" => bail!("the client ended during: {command}"),
            error if error.starts_with("error ") => bail!("{command}: {error}"),
            json => serde_json::from_str(json).with_context(|| format!("{command}: {json}")),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
