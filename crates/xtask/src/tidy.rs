//! `cargo xtask tidy`: layers and tidiness as tests.
//!
//! Owns: the list of rules, which files they read, how problems are shown.
//! Does not own: the rules, one module each: `layers` (arrows between rooms, outside crates, licences), `modules`
//! (dead files), `sources` (lengths, headers, names), `words` (what no file may hold), `documents`, `exceptions`.
//!
//! Rules read text, not syntax trees: rustfmt has already laid the text out, so indentation tells where things end.

mod documents;
mod exceptions;
mod layers;
mod modules;
mod sources;
mod words;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Workspace};

/// A text file under version control, or about to be.
pub(crate) struct SourceFile {
    /// Path from the workspace root, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

type Findings = Vec<(&'static str, Vec<String>)>;

/// Runs all rules: each with its problems, none if it holds.
pub(crate) fn examine(workspace: &Workspace) -> Result<Findings> {
    let metadata = workspace::metadata(true)?;
    let files = read_files(workspace)?;
    let modules = modules::Modules::walk(workspace, &metadata, &files);
    let allowed = exceptions::Exceptions::read(&workspace.root)?;
    let layers = layers::Layers::read(&workspace.root)?;
    let (lengths, functions) = sources::lengths(&files, &modules, &allowed);
    Ok(vec![
        ("arrows between rooms are in layers.toml", layers.arrows(&metadata)),
        ("outside crates are in layers.toml", layers.outside_crates(&metadata)),
        ("declared dependencies are used", layers::unused(&metadata, &files, workspace)),
        ("dependencies come from the registry with an allowed licence", layers.licences(&metadata)),
        ("no dead files", modules.dead_files(&files)),
        ("files are at most 600 lines without tests", lengths),
        ("functions are at most 70 lines", functions),
        ("lines are at most 120 characters", sources::long_lines(&files)),
        ("every Rust file starts with a header", sources::headers(&files)),
        ("module names are nouns of the domain", sources::module_names(&files)),
        ("no banned words", words::banned(&files, &modules)),
        ("no paths of a machine, no registry hosts", words::places(&files)),
        ("documents name every crate", documents::mentions(&workspace.root, &metadata)),
    ])
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut count = 0;
    for (rule, problems) in examine(workspace)? {
        println!("{:<6} {rule}", if problems.is_empty() { "ok" } else { "FAILED" });
        for problem in &problems {
            println!("       {problem}");
        }
        count += problems.len();
    }
    if count > 0 {
        bail!("{count} problems");
    }
    Ok(())
}

fn read_files(workspace: &Workspace) -> Result<Vec<SourceFile>> {
    let mut command = Command::new("git");
    command.current_dir(&workspace.root);
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = command.output().context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", output.status);
    }
    let listed = String::from_utf8(output.stdout)?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let on_disk: PathBuf = workspace.root.join(path);
        // A deleted file may still be listed, and what is not text has no words.
        if let Ok(text) = std::fs::read_to_string(on_disk) {
            files.push(SourceFile { path: path.to_owned(), text });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
