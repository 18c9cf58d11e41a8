//! The process environment as an argument.
//!
//! The client crate would read it by itself; handed in, a test can choose it and the simulator is not
//! changed by the machine it runs on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Environment variables by name. Their values are secrets: `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process that are UTF-8 text.
    pub fn of_process() -> Variables {
        let pairs = std::env::vars_os();
        Variables(
            pairs
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|it| !it.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sorted by name, empty ones left out.
    pub(crate) fn starting_with(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
    }

    /// The file that `name` names, else `below_home` in the home directory.
    pub(crate) fn file(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.get(name).map(PathBuf::from);
        named.or_else(|| self.get("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Variables {
        Variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
