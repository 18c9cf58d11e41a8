//! Known bugs, planted one at a time in a copy of the sources.
//!
//! Owns: the copy, reading a list, planting, the table. Does not own: the bugs (a `planted.toml` each), what hunts them
//! (`sim::planted`, `anomalies::planted`).
//!
//! A bug is a piece of text that occurs once in a file, and what is put in its place. Text that is not found
//! any more is an error: the code has changed, and whether the bug would still be caught is not known.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::workspace::Workspace;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "By: DeserializeOwned")]
struct List<By> {
    bug: Vec<Bug<By>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, bound = "By: DeserializeOwned")]
pub(crate) struct Bug<By> {
    pub(crate) name: String,
    /// What the broker does wrong.
    what: String,
    pub(crate) file: PathBuf,
    find: String,
    replace: String,
    /// What may catch it.
    pub(crate) by: Vec<By>,
}

/// What became of one bug.
pub(crate) struct Hunted {
    /// Of the table, behind what the bug is.
    pub(crate) columns: Vec<String>,
    /// By something that is listed for it.
    pub(crate) is_caught: bool,
}

/// Plants every bug of the list whose name contains `only`; `hunt` is called with each, and with the sources that have
/// it. `head` is the table's, behind what the bug is.
pub(crate) fn run<By: DeserializeOwned>(
    workspace: &Workspace,
    list: &str,
    only: &str,
    head: &[&str],
    mut hunt: impl FnMut(&Bug<By>, &Path) -> Result<Hunted>,
) -> Result<()> {
    let bugs = read::<By>(&workspace.root, list)?;
    let tree = workspace.root.join("target/planted/tree");
    copy(workspace, &tree)?;
    println!("| planted | {} |", head.join(" | "));
    println!("|{}", " --- |".repeat(head.len() + 1));
    let mut missed = Vec::new();
    for bug in bugs.iter().filter(|it| it.name.contains(only)) {
        let started = Instant::now();
        let hunted = bug.within(&tree, || hunt(bug, &tree)).with_context(|| bug.name.clone())?;
        println!("| {} | {} |", bug.what, hunted.columns.join(" | "));
        eprintln!("{}: {:.0} s", bug.name, started.elapsed().as_secs_f64());
        if !hunted.is_caught {
            missed.push(bug.name.as_str());
        }
    }
    if !missed.is_empty() {
        bail!("not caught by what is listed for it: {}", missed.join(", "));
    }
    Ok(())
}

fn read<By: DeserializeOwned>(root: &Path, list: &str) -> Result<Vec<Bug<By>>> {
    let text = std::fs::read_to_string(root.join(list)).with_context(|| list.to_owned())?;
    let bugs = toml::from_str::<List<By>>(&text).with_context(|| list.to_owned())?.bug;
    let names: BTreeSet<&str> = bugs.iter().map(|it| &*it.name).collect();
    ensure!(names.len() == bugs.len(), "two bugs of {list} have one name");
    Ok(bugs)
}

impl<By> Bug<By> {
    /// The file has the bug while `body` runs.
    fn within<T>(&self, tree: &Path, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let file = tree.join(&self.file);
        let whole = std::fs::read_to_string(&file)?;
        let places = whole.matches(&self.find).count();
        ensure!(places == 1, "its text is found {places} times in {file:?}");
        std::fs::write(&file, whole.replace(&self.find, &self.replace))?;
        let outcome = body();
        std::fs::write(&file, whole)?;
        outcome
    }
}

/// What git knows, as it is now. Unchanged files keep their times, so that nothing is built again for them.
fn copy(workspace: &Workspace, tree: &Path) -> Result<()> {
    let listed = Command::new("git")
        .current_dir(&workspace.root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files failed");
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let (from, to) = (workspace.root.join(name), tree.join(name));
        let Ok(bytes) = std::fs::read(&from) else { continue }; // Deleted, or a link to a folder.
        if std::fs::read(&to).is_ok_and(|it| it == bytes) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        std::fs::copy(&from, &to).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Fails if a bug of the list cannot be planted: that costs nothing to know.
#[cfg(test)]
pub(crate) fn check_list<By: DeserializeOwned>(list: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for bug in read::<By>(&root, list).expect("it is there and well-formed") {
        let file = std::fs::read_to_string(root.join(&bug.file)).expect("the file is there");
        assert_eq!(file.matches(&bug.find).count(), 1, "{}: {:?}", bug.name, bug.file);
        assert!(!bug.by.is_empty() && bug.find != bug.replace, "{}", bug.name);
    }
}
