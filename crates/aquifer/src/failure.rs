//! Why the process ends, for whoever has to do something about it: what happened, what is safe, what
//! to do.

use std::fmt;

/// Could not start, or was cut short.
const GENERAL: u8 = 1;

/// `EX_SOFTWARE` of `sysexits.h`: supervisors may treat it apart.
pub(crate) const INTERNAL: u8 = 70;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit_code: u8,
    what: String,
    safe: &'static str,
    /// Empty when there is nothing to advise beyond the message itself.
    advice: String,
}

impl Failure {
    /// Before anything was changed.
    pub(crate) fn start(what: impl Into<String>) -> Failure {
        let safe = "Nothing was changed.";
        Failure { exit_code: GENERAL, what: what.into(), safe, advice: String::new() }
    }

    /// While opening what is there: reading and recovering harm nothing.
    pub(crate) fn open(what: impl Into<String>) -> Failure {
        Failure { safe: "Stored data is as it was.", ..Failure::start(what) }
    }

    /// A critical task panicked.
    pub(crate) fn internal(what: impl Into<String>) -> Failure {
        Failure {
            exit_code: INTERNAL,
            what: what.into(),
            safe: "Every acknowledged record is durable in the WAL or the bucket.",
            advice:
                "Start the broker again: it recovers by itself. Please report this with the log \
                     above; it is a bug."
                    .to_owned(),
        }
    }

    /// A stop that took too long, or was asked for twice.
    pub(crate) fn cut_short(what: impl Into<String>) -> Failure {
        Failure {
            exit_code: GENERAL,
            what: what.into(),
            safe: "Every acknowledged record is durable in the WAL or the bucket.",
            advice: "The next start recovers what is in the WAL.".to_owned(),
        }
    }

    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Failure {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "aquifer: {}\n{}", self.what, self.safe)?;
        if !self.advice.is_empty() {
            write!(f, "\n{}", self.advice)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_what_is_safe_and_what_to_do() {
        let failure = Failure::start("port 9092 is taken").advise("Choose another.");
        assert_eq!(
            failure.to_string(),
            "aquifer: port 9092 is taken\nNothing was changed.\nChoose another."
        );
        assert_eq!(failure.exit_code, 1);
        assert_eq!(Failure::internal("x").exit_code, 70);
    }
}
