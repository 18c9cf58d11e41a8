//! `tidy.toml`: what is longer than it should be. The list may only shrink.
//!
//! Invariant: an exception that is no longer needed, or allows much more than is there, is a problem itself.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// An exception may exceed what is there by this much, so that small edits do not touch `tidy.toml`.
const SLACK_LINES: usize = 25;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Exceptions {
    long_file: Vec<Exception>,
    long_function: Vec<Exception>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    path: String,
    /// The function; empty for a file.
    #[serde(default)]
    name: String,
    lines: usize,
}

/// Something longer than it should be.
pub(crate) struct Long {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) lines: usize,
}

impl Exceptions {
    pub(crate) fn read(root: &Path) -> Result<Exceptions> {
        let path = root.join("tidy.toml");
        if !path.exists() {
            return Ok(Exceptions::default());
        }
        toml::from_str(&std::fs::read_to_string(path)?).context("tidy.toml")
    }

    pub(crate) fn files(&self, found: &[Long]) -> Vec<String> {
        judge(&self.long_file, found)
    }

    pub(crate) fn functions(&self, found: &[Long]) -> Vec<String> {
        judge(&self.long_function, found)
    }
}

fn judge(allowed: &[Exception], found: &[Long]) -> Vec<String> {
    let mut problems = Vec::new();
    for long in found {
        let place = format!("{} {}", long.path, long.name).trim_end().to_owned();
        let exception = allowed.iter().find(|it| it.path == long.path && it.name == long.name);
        match exception.map(|it| it.lines) {
            None => problems.push(format!("{place}: {} lines", long.lines)),
            Some(lines) if lines < long.lines => {
                problems.push(format!(
                    "{place}: grew to {} lines, tidy.toml allows {lines}",
                    long.lines
                ));
            }
            Some(lines) if long.lines + SLACK_LINES < lines => {
                problems.push(format!("{place}: shrank to {}; lower it in tidy.toml", long.lines));
            }
            Some(_) => {}
        }
    }
    for exception in allowed {
        if !found.iter().any(|it| it.path == exception.path && it.name == exception.name) {
            let place = format!("{} {}", exception.path, exception.name);
            problems.push(format!("{}: stale, remove it from tidy.toml", place.trim_end()));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Exception, Long, judge};

    #[test]
    fn exceptions_may_only_shrink() {
        let check = |allowed: Option<usize>, found: Option<usize>| {
            let exception = |lines| Exception { path: "a.rs".into(), name: String::new(), lines };
            let long = |lines| Long { path: "a.rs".into(), name: String::new(), lines };
            let allowed: Vec<Exception> = allowed.map(exception).into_iter().collect();
            let found: Vec<Long> = found.map(long).into_iter().collect();
            judge(&allowed, &found).join("")
        };
        assert_eq!(check(Some(700), Some(700)), "");
        assert_eq!(check(Some(700), Some(680)), "");
        assert!(check(None, Some(700)).ends_with("700 lines"));
        assert!(check(Some(700), Some(701)).contains("grew"));
        assert!(check(Some(700), Some(610)).contains("shrank"));
        assert!(check(Some(700), None).contains("stale"));
    }
}
