//! `aquifer doctor`: checks the invariants of a bucket, whether a broker is running on it or not.
//!
//! Exit codes: 0 healthy, 3 something is wrong, 1 it could not be checked.

use std::io::{self, Write};

use cluster::StoreError;
use doctor::{DoctorError, DoctorOptions, Report, RowSink, RowWriter};

use crate::arguments::DoctorArguments;
use crate::failure::Failure;
use crate::place::{self, Opened};

/// Something is wrong with what was looked at.
pub(crate) const FOUND: u8 = 3;

/// Examinations that are begun anew because a file of the metadata was replaced meanwhile. Beyond it, it is lost.
const EXAMINATIONS_MAX: u32 = 3;

/// Returns the exit code.
pub(crate) fn run(arguments: &DoctorArguments) -> Result<u8, Failure> {
    let report = place::block_on(async {
        let mut tries = 1;
        let examined = loop {
            let opened = Opened::open(&arguments.place).await?;
            let options = DoctorOptions { is_deep: arguments.deep, ..DoctorOptions::default() };
            // Boxed: it holds pages of everything that it compares.
            let examined = Box::pin(doctor::examine(&opened.place(), &options)).await;
            opened.close().await;
            match examined {
                Err(DoctorError::Metadata(StoreError::Gone(_))) if tries < EXAMINATIONS_MAX => {
                    tries += 1
                }
                examined => break examined,
            }
        };
        examined.map_err(|error| match error {
            DoctorError::Metadata(error) => place::unreadable(&error),
            DoctorError::Bucket(_) | DoctorError::Volume { .. } => {
                Failure::open(format!("the examination is not complete: {error}"))
                    .advise("Run it again; beside a running broker, objects may go meanwhile.")
            }
        })
    })?;
    printed(show(&report, arguments.json))?;
    Ok(if report.is_healthy() { 0 } else { FOUND })
}

fn show(report: &Report, is_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut writer = RowWriter::new(&mut out, is_json);
    for row in report.rows() {
        // For people, a finding is a paragraph, not a line of a table.
        if is_json || row.kind != "finding" {
            writer.row(row)?;
        }
    }
    writer.finish()?;
    if !is_json {
        for finding in report.findings() {
            writeln!(out, "\n{finding}")?;
        }
    }
    out.flush()
}

/// A reader that leaves, as in `aquifer doctor | head`, is not a failure.
pub(crate) fn printed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::start(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
