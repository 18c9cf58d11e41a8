//! The two documents that carry the work on must know every crate.

use std::path::Path;

use cargo_metadata::Metadata;

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// `README.md` must exist; `ARCHITECTURE.md` must exist and name every crate in backquotes.
pub(crate) fn mentions(root: &Path, metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for document in DOCUMENTS {
        let Ok(text) = std::fs::read_to_string(root.join(document)) else {
            problems.push(format!("{document} is missing"));
            continue;
        };
        if document == "README.md" {
            continue;
        }
        for package in metadata.workspace_packages() {
            let name = package.name.as_str();
            if !text.contains(&format!("`{name}`")) && !text.contains(&format!("`crates/{name}`")) {
                problems.push(format!("{document} does not name `{name}`"));
            }
        }
    }
    problems
}
