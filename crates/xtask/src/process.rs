//! Runs other programs with a time limit, and leaves none of them behind.
//!
//! Owns: starting a program in a process group of its own, waiting with a limit, ending the group by its id.
//! Does not own: what is run and what its output means.
//!
//! Invariants:
//! - P1 every program has a limit, or is held by a [`Running`], whose drop ends its whole group;
//! - P2 signals go to process groups started here, by id, never by name.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

const POLL: Duration = Duration::from_millis(20);
/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(20);

/// Where a program's output goes.
pub(crate) enum Output<'a> {
    /// To ours.
    Shown,
    /// Standard output and error to one file, appended.
    Log(&'a Path),
    /// Standard output to the first file, standard error to the second.
    Split(&'a Path, &'a Path),
}

/// A program in its own process group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    pub(crate) fn start(command: &mut Command, output: &Output<'_>) -> Result<Running> {
        match output {
            Output::Shown => {}
            Output::Log(path) => {
                let file = append(path)?;
                command.stderr(file.try_clone()?).stdout(file);
            }
            Output::Split(out, err) => {
                command.stdout(append(out)?).stderr(append(err)?);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        let group = Pid::from_child(&child);
        Ok(Running { child, group })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program itself has ended, without waiting.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it ends; `None` once `limit` has passed (it then still runs).
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if deadline <= Instant::now() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to stop (SIGTERM) and waits; ends it by force after a grace period, which is an error.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let _ = rustix::process::kill_process_group(self.group, Signal::TERM);
        if let Some(status) = self.wait(GRACE)? {
            return Ok(status);
        }
        self.kill()?;
        bail!("did not stop within {} s of SIGTERM", GRACE.as_secs())
    }

    /// Stops it where it stands (SIGSTOP to the whole group), as a machine does that sleeps.
    pub(crate) fn pause(&self) -> Result<()> {
        Ok(rustix::process::kill_process_group(self.group, Signal::STOP)?)
    }

    /// Lets it go on after [`Running::pause`].
    pub(crate) fn resume(&self) -> Result<()> {
        Ok(rustix::process::kill_process_group(self.group, Signal::CONT)?)
    }

    /// Ends it at once, as a power cut would (SIGKILL to the whole group).
    pub(crate) fn kill(&mut self) -> Result<()> {
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group outlives its leader when a tool left children behind, so it is ended in any case.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// How a bounded run ended.
pub(crate) struct Finished {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) elapsed: Duration,
}

impl Finished {
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// One line for a table.
    pub(crate) fn describe(&self) -> String {
        match self.status {
            None => format!("ended by its time limit after {:.0} s", self.elapsed.as_secs_f64()),
            Some(status) => status.to_string(),
        }
    }
}

/// Runs a program to its end, at most `limit`.
pub(crate) fn run(command: &mut Command, output: &Output<'_>, limit: Duration) -> Result<Finished> {
    let started = Instant::now();
    let mut running = Running::start(command, output)?;
    let status = running.wait(limit)?;
    Ok(Finished { status, elapsed: started.elapsed() })
}

/// Like [`run`], but anything but success is an error that carries the end of the log.
pub(crate) fn must(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let finished = run(command, &Output::Log(log), limit)?;
    if finished.succeeded() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    bail!("{program}: {}\n{}", finished.describe(), tail(log, 15))
}

/// Whether a program answers to `argument` (say `--version`) with success.
pub(crate) fn answers(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The last lines of a file; empty when it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|line| format!("    | {line}\n")).collect()
}

fn append(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// An empty folder at `path`, whatever was there before.
pub(crate) fn fresh_folder(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
