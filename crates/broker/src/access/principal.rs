//! Who a connection belongs to.

/// Kind and name, as ACLs write it: `User:alice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal(String);

impl Principal {
    /// Whoever connects to a listener that authenticates nobody.
    pub(crate) fn anonymous() -> Principal {
        Principal("User:ANONYMOUS".to_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
