//! `layers.toml`: which room may know which, which outside crates it may call, which licences are taken.
//!
//! Invariant: a line missing from `layers.toml` is a problem, so that each new arrow is a visible decision.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, Package};
use serde::Deserialize;

use super::SourceFile;
use crate::workspace::Workspace;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layers {
    licences: BTreeSet<String>,
    rooms: BTreeMap<String, Room>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Room {
    /// Rooms that the product code may call.
    rooms: BTreeSet<String>,
    /// Outside crates that the product code may call.
    crates: BTreeSet<String>,
    /// What tests may call besides.
    #[serde(default)]
    test_rooms: BTreeSet<String>,
    #[serde(default)]
    test_crates: BTreeSet<String>,
    /// What the build script may call.
    #[serde(default)]
    build_crates: BTreeSet<String>,
}

impl Layers {
    pub(crate) fn read(root: &Path) -> Result<Layers> {
        let text = std::fs::read_to_string(root.join("layers.toml")).context("layers.toml")?;
        toml::from_str(&text).context("layers.toml")
    }

    /// Arrows between rooms that are not allowed, and rooms without a line.
    pub(crate) fn arrows(&self, metadata: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        let names: BTreeSet<String> =
            metadata.workspace_packages().iter().map(|it| it.name.to_string()).collect();
        for name in self.rooms.keys().filter(|name| !names.contains(*name)) {
            problems.push(format!("[rooms.{name}] names no crate"));
        }
        self.each_dependency(metadata, &mut problems, |package, room, name, kind| {
            if !names.contains(name) {
                return None;
            }
            let allowed = match kind {
                DependencyKind::Normal => room.rooms.contains(name),
                _ => room.rooms.contains(name) || room.test_rooms.contains(name),
            };
            (!allowed).then(|| format!("{package} -> {name} ({kind})"))
        });
        problems
    }

    /// Outside crates called directly by a room that may not.
    pub(crate) fn outside_crates(&self, metadata: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        let names: BTreeSet<String> =
            metadata.workspace_packages().iter().map(|it| it.name.to_string()).collect();
        self.each_dependency(metadata, &mut problems, |package, room, name, kind| {
            if names.contains(name) {
                return None;
            }
            let allowed = match kind {
                DependencyKind::Normal => room.crates.contains(name),
                DependencyKind::Build => room.build_crates.contains(name),
                _ => room.crates.contains(name) || room.test_crates.contains(name),
            };
            (!allowed).then(|| format!("{package} -> {name} ({kind})"))
        });
        problems
    }

    fn each_dependency(
        &self,
        metadata: &Metadata,
        problems: &mut Vec<String>,
        judge: impl Fn(&str, &Room, &str, DependencyKind) -> Option<String>,
    ) {
        for package in metadata.workspace_packages() {
            let Some(room) = self.rooms.get(package.name.as_str()) else {
                problems.push(format!("{} has no line in layers.toml", package.name));
                continue;
            };
            for dependency in &package.dependencies {
                problems.extend(judge(&package.name, room, &dependency.name, dependency.kind));
            }
        }
    }

    /// Packages from elsewhere than the registry, or without a licence that we take.
    pub(crate) fn licences(&self, metadata: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        for package in &metadata.packages {
            let Some(source) = &package.source else { continue };
            if !source.repr.starts_with("registry+") {
                problems.push(format!("{} {} comes from {source}", package.name, package.version));
            }
            let licence = package.license.as_deref().unwrap_or("none");
            if !is_allowed(licence, &self.licences) {
                problems.push(format!("{} {}: licence {licence}", package.name, package.version));
            }
        }
        problems
    }
}

/// Evaluates an SPDX expression: `OR` (also written `/`), `AND`, parentheses.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed)
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all_of(words, at, allowed);
    }
    result
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, allowed);
    }
    result
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let result = any_of(words, at, allowed);
        *at += 1; // The closing parenthesis.
        return result;
    }
    // An exception only adds permissions to the licence before it.
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
    }
    allowed.contains(*word)
}

/// Dependencies of product code that its sources never name.
pub(crate) fn unused(
    metadata: &Metadata,
    files: &[SourceFile],
    workspace: &Workspace,
) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let folder = folder_of(package, workspace);
        let sources = || files.iter().filter(|it| it.is_rust() && it.path.starts_with(&folder));
        for dependency in &package.dependencies {
            let renamed = dependency.rename.as_ref().unwrap_or(&dependency.name);
            let identifier = renamed.replace('-', "_");
            if !sources().any(|file| names_crate(&file.text, &identifier)) {
                let (name, kind) = (&dependency.name, dependency.kind);
                problems
                    .push(format!("{} declares {name} ({kind}) and never uses it", package.name));
            }
        }
    }
    problems
}

fn folder_of(package: &Package, workspace: &Workspace) -> String {
    let folder = package.manifest_path.parent().map(|it| it.as_std_path()).unwrap_or(Path::new(""));
    format!("{}/", workspace.relative(folder).display())
}

fn names_crate(text: &str, identifier: &str) -> bool {
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    text.match_indices(identifier).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = &text[at + identifier.len()..];
        !before.is_some_and(is_word) && (rest.starts_with("::") || rest.starts_with([';', ' ']))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{is_allowed, names_crate};

    #[test]
    fn licence_expressions_are_evaluated() {
        let allowed: BTreeSet<String> = ["MIT", "Apache-2.0"].map(str::to_owned).into();
        let check = |expression| is_allowed(expression, &allowed);
        assert!(check("MIT OR GPL-3.0"));
        assert!(check("GPL-3.0/MIT"));
        assert!(check("(MIT OR BSL-1.0) AND Apache-2.0"));
        assert!(check("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!check("MIT AND GPL-3.0"));
        assert!(!check("none"));
    }

    #[test]
    fn a_crate_is_named_by_its_whole_identifier() {
        assert!(names_crate("use bytes::Bytes;", "bytes"));
        assert!(names_crate("#[global_allocator] static A: jem::J = jem::J;", "jem"));
        assert!(!names_crate("let some_bytes = 1; as_bytes()", "bytes"));
    }
}
