//! Follows `mod` declarations from every target's root: which files are compiled, and which only for tests.
//!
//! Invariant: a file is test code if it is reached only below `#[cfg(test)]`, or is an integration test.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Metadata, TargetKind};

use super::SourceFile;
use crate::workspace::Workspace;

/// Reached files: path to whether it is test code.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    reached: BTreeMap<String, bool>,
    folders: BTreeSet<String>,
}

impl Modules {
    pub(crate) fn walk(
        workspace: &Workspace,
        metadata: &Metadata,
        files: &[SourceFile],
    ) -> Modules {
        let texts: BTreeMap<&str, &str> =
            files.iter().map(|it| (it.path.as_str(), it.text.as_str())).collect();
        let mut modules = Modules::default();
        for package in metadata.workspace_packages() {
            if let Some(folder) = package.manifest_path.parent() {
                let folder = workspace.relative(folder.as_std_path()).display().to_string();
                modules.folders.insert(format!("{folder}/"));
            }
            for target in &package.targets {
                let root = workspace.relative(target.src_path.as_std_path()).display().to_string();
                let test = target.kind.contains(&TargetKind::Test);
                modules.follow(&root, true, test, &texts);
            }
        }
        modules
    }

    pub(crate) fn is_test(&self, path: &str) -> bool {
        self.reached.get(path).copied().unwrap_or(false)
    }

    pub(crate) fn dead_files(&self, files: &[SourceFile]) -> Vec<String> {
        let in_package = |path: &str| self.folders.iter().any(|it| path.starts_with(it.as_str()));
        files
            .iter()
            .filter(|it| {
                it.is_rust() && in_package(&it.path) && !self.reached.contains_key(&it.path)
            })
            .map(|it| format!("{}: no `mod` leads here", it.path))
            .collect()
    }

    fn follow(&mut self, path: &str, is_root: bool, test: bool, texts: &BTreeMap<&str, &str>) {
        let Some(text) = texts.get(path) else { return };
        match self.reached.get(path) {
            // Product code once is product code always.
            Some(false) => return,
            Some(true) if test => return,
            _ => {}
        }
        self.reached.insert(path.to_owned(), test);
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let children = if is_root || file == "mod.rs" {
            folder.to_owned()
        } else {
            format!("{folder}/{}", file.trim_end_matches(".rs"))
        };
        for found in declarations(text) {
            let test = test || found.test;
            let candidates = match &found.path {
                Some(path) => vec![normal(&format!("{folder}/{path}"))],
                None => vec![
                    format!("{children}/{}.rs", found.name),
                    format!("{children}/{}/mod.rs", found.name),
                ],
            };
            for candidate in candidates {
                self.follow(&candidate, found.path.is_some(), test, texts);
            }
        }
    }
}

struct Declaration {
    name: String,
    path: Option<String>,
    test: bool,
}

/// The lines `mod name;` with the attributes right above them. Nested ones count as if they were not nested.
fn declarations(text: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    let (mut path, mut test) = (None, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            test |= line.contains("cfg(test)") || line.contains("cfg(all(test");
            if let Some(rest) = line.strip_prefix("#[path = \"") {
                path = rest.split('"').next().map(str::to_owned);
            }
            continue;
        }
        if line.starts_with("//") {
            continue;
        }
        if let Some(name) = module_name(line) {
            found.push(Declaration { name, path: path.take(), test });
        }
        (path, test) = (None, false);
    }
    found
}

fn module_name(line: &str) -> Option<String> {
    let line = line.strip_suffix(';')?;
    let line = match line.strip_prefix("pub") {
        None => line,
        Some(rest) => rest.split_once(' ').map_or(rest, |(_, rest)| rest),
    };
    let name = line.trim_start().strip_prefix("mod ")?.trim();
    name.chars().all(|it| it.is_alphanumeric() || it == '_').then(|| name.to_owned())
}

/// Resolves `.` and `..` in a path.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Modules, declarations};

    #[test]
    fn declarations_are_found_with_their_attributes() {
        let text = "mod a;\npub mod b;\npub(crate) mod c;\n#[cfg(test)]\nmod tests;\n\
            #[path = \"../x/y.rs\"]\nmod d;\nmod inline {\n}\nmodest;\n";
        let found = declarations(text);
        let names: Vec<&str> = found.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "tests", "d"]);
        assert!(found[3].test && !found[4].test);
        assert_eq!(found[4].path.as_deref(), Some("../x/y.rs"));
    }

    #[test]
    fn files_are_followed_through_folders() {
        let texts: BTreeMap<&str, &str> = [
            ("r/src/lib.rs", "mod a;\n#[cfg(test)]\nmod tests;\n"),
            ("r/src/a.rs", "mod b;\n"),
            ("r/src/a/b.rs", ""),
            ("r/src/tests.rs", "mod deep;\n"),
            ("r/src/tests/deep.rs", ""),
            ("r/src/dead.rs", ""),
        ]
        .into();
        let mut modules = Modules::default();
        modules.follow("r/src/lib.rs", true, false, &texts);
        assert_eq!(modules.reached.len(), 5);
        assert!(modules.is_test("r/src/tests/deep.rs") && !modules.is_test("r/src/a/b.rs"));
    }
}
