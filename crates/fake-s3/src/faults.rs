//! What goes wrong, how often, and the one place that decides it.
//!
//! Owns: the kinds of faults, their text form, the decision per request. Does not own: carrying a
//! decision out (`http::exchange`).
//!
//! Invariant: request `n` of a server draws the same numbers whatever was decided before and whatever
//! the faults are, so a seed and the order of requests fix every decision, and changing the faults in
//! the middle of a run does not shift the delays of what follows.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use environment::{Entropy, SeededEntropy};

use crate::delays::Delays;
use crate::operation::Operation;

/// How often what goes wrong, each as a share of the requests from 0 to 1.
///
/// The shares of one request's fates add up; above 1 the later ones in this list lose. A share applies
/// only where it makes sense: half answers to GET, conflicts to conditional writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// A burst of 503 SlowDown starts with this request.
    pub slow_down: f64,
    /// How many requests a burst takes, the first included; zero counts as one.
    pub slow_down_requests: u32,
    /// 500 InternalError, nothing done.
    pub internal_error: f64,
    /// 500 InternalError, and yet it was done.
    pub internal_error_applied: f64,
    /// The connection is reset before the body is read. Not done.
    pub reset_before_body: f64,
    /// The connection is reset once the body was read. Not done.
    pub reset_after_body: f64,
    /// Done, and then the connection is reset before a byte of the answer.
    pub lost_answer: f64,
    /// The connection ends in the middle of a GET's body.
    pub half_answer: f64,
    /// 409 ConditionalRequestConflict to a conditional write. Not done.
    pub conflict: f64,
    /// The request is held for `stall_for` and then done, even if its client has long gone.
    pub stall: f64,
    pub stall_for: Duration,
    /// Only these operations are touched; empty: all of them.
    pub operations: BTreeSet<Operation>,
    /// Only keys that contain this are touched; empty: all of them.
    pub key_part: String,
}

impl Faults {
    pub const NONE: Faults = Faults {
        slow_down: 0.0,
        slow_down_requests: 1,
        internal_error: 0.0,
        internal_error_applied: 0.0,
        reset_before_body: 0.0,
        reset_after_body: 0.0,
        lost_answer: 0.0,
        half_answer: 0.0,
        conflict: 0.0,
        stall: 0.0,
        stall_for: Duration::ZERO,
        operations: BTreeSet::new(),
        key_part: String::new(),
    };

    /// A bad day: about one request in ten goes wrong in some way.
    pub fn bad_day() -> Faults {
        Faults {
            slow_down: 0.005,
            slow_down_requests: 5,
            internal_error: 0.01,
            internal_error_applied: 0.01,
            reset_before_body: 0.01,
            reset_after_body: 0.01,
            lost_answer: 0.02,
            half_answer: 0.01,
            conflict: 0.01,
            stall: 0.002,
            stall_for: Duration::from_secs(45),
            ..Faults::NONE
        }
    }

    /// These faults on `operations` only.
    pub fn only(self, operations: &[Operation]) -> Faults {
        Faults { operations: operations.iter().copied().collect(), ..self }
    }

    fn touch(&self, operation: Operation, key: &str) -> bool {
        let operation = self.operations.is_empty() || self.operations.contains(&operation);
        operation && key.contains(&self.key_part)
    }

    fn share(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "slow-down" => &mut self.slow_down,
            "internal-error" => &mut self.internal_error,
            "internal-error-applied" => &mut self.internal_error_applied,
            "reset-before-body" => &mut self.reset_before_body,
            "reset-after-body" => &mut self.reset_after_body,
            "lost-answer" => &mut self.lost_answer,
            "half-answer" => &mut self.half_answer,
            "conflict" => &mut self.conflict,
            "stall" => &mut self.stall,
            _ => return None,
        })
    }
}

/// `none`, `bad-day`, or `name=value,…` with the field names written with hyphens: shares from 0 to 1,
/// `slow-down-requests`, `stall-for-ms`, `operations` (joined by `+`) and `key-part`. An entry after a
/// preset changes it: `bad-day,stall=0`.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::NONE;
        for entry in text.split(',').filter(|it| !it.is_empty()) {
            let Some((name, value)) = entry.split_once('=') else {
                faults = match entry {
                    "none" => Faults::NONE,
                    "bad-day" => Faults::bad_day(),
                    _ => return Err(format!("{entry} is no fault: write name=value")),
                };
                continue;
            };
            let wrong = || format!("{name}={value}: no such value");
            if let Some(share) = faults.share(name) {
                let parsed: f64 = value.parse().map_err(|_| wrong())?;
                if !(0.0..=1.0).contains(&parsed) {
                    return Err(format!("{name}={value}: a share lies between 0 and 1"));
                }
                *share = parsed;
                continue;
            }
            match name {
                "slow-down-requests" => {
                    faults.slow_down_requests = value.parse().map_err(|_| wrong())?;
                }
                "stall-for-ms" => {
                    faults.stall_for = Duration::from_millis(value.parse().map_err(|_| wrong())?);
                }
                "key-part" => value.clone_into(&mut faults.key_part),
                "operations" => {
                    let named = value.split('+').map(|it| Operation::named(it).ok_or_else(wrong));
                    faults.operations = named.collect::<Result<_, _>>()?;
                }
                _ => return Err(format!("{name} is no fault")),
            }
        }
        Ok(faults)
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Served,
    SlowDown,
    InternalError,
    InternalErrorApplied,
    ResetBeforeBody,
    ResetAfterBody,
    LostAnswer,
    HalfAnswer,
    Conflict,
    Stalled(Duration),
}

/// Everything that is decided about a request when it arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) fate: Fate,
    pub(crate) delay: Duration,
    /// At which part of the delay the request takes effect, from 0 to 1.
    pub(crate) effect_at: f64,
}

/// What the decision needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) operation: Operation,
    pub(crate) key: &'a str,
    /// It carries `If-Match` or `If-None-Match` and writes.
    pub(crate) is_conditional_write: bool,
}

/// Decides by seed. The same seed, faults and sequence of requests give the same plans.
#[derive(Debug)]
pub(crate) struct Planner {
    random: SeededEntropy,
    burst_left: u32,
}

impl Planner {
    pub(crate) fn new(seed: u64) -> Planner {
        Planner { random: SeededEntropy::new(seed), burst_left: 0 }
    }

    pub(crate) fn plan(&mut self, faults: &Faults, delays: &Delays, subject: Subject<'_>) -> Plan {
        // All numbers are drawn for every request: see the invariant above.
        let [fate, effect_at] = [self.uniform(), self.uniform()];
        let (radius, angle) = (self.uniform(), self.uniform());
        // Box and Muller; `1 - radius` lies in (0, 1].
        let z = (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let fate = if faults.touch(subject.operation, subject.key) {
            self.fate(faults, subject, fate)
        } else {
            Fate::Served
        };
        Plan { fate, delay: delays.of(subject.operation, z), effect_at }
    }

    fn fate(&mut self, faults: &Faults, subject: Subject<'_>, draw: f64) -> Fate {
        if 0 < self.burst_left {
            self.burst_left -= 1;
            return Fate::SlowDown;
        }
        let table = [
            (faults.slow_down, Fate::SlowDown),
            (faults.internal_error, Fate::InternalError),
            (faults.internal_error_applied, Fate::InternalErrorApplied),
            (faults.reset_before_body, Fate::ResetBeforeBody),
            (faults.reset_after_body, Fate::ResetAfterBody),
            (faults.lost_answer, Fate::LostAnswer),
            (faults.half_answer, Fate::HalfAnswer),
            (faults.conflict, Fate::Conflict),
            (faults.stall, Fate::Stalled(faults.stall_for)),
        ];
        let mut passed = 0.0;
        let drawn = table.into_iter().find(|(share, _)| {
            passed += share;
            draw < passed
        });
        match drawn.map_or(Fate::Served, |(_, fate)| fate) {
            Fate::SlowDown => {
                self.burst_left = faults.slow_down_requests.saturating_sub(1);
                Fate::SlowDown
            }
            Fate::HalfAnswer if subject.operation != Operation::Get => Fate::Served,
            Fate::Conflict if !subject.is_conditional_write => Fate::Served,
            fate => fate,
        }
    }

    /// From 0 inclusive to 1 exclusive, in steps that a double holds exactly.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
