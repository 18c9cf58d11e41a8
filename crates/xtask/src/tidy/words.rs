//! Words that no file may hold: unfinished work, switched-off tests, paths of a machine, hosts of registries.
//!
//! The words stand here in two halves, so that this file does not hold them itself.

use super::SourceFile;
use super::modules::Modules;

struct Banned {
    word: &'static str,
    reason: &'static str,
}

const BANNED: [Banned; 9] = [
    Banned { word: concat!("todo", "!("), reason: "finish it" },
    Banned { word: concat!("unimplemented", "!("), reason: "finish it" },
    Banned { word: concat!("FIX", "ME"), reason: "fix it" },
    Banned { word: concat!("TO", "DO"), reason: "finish it" },
    Banned { word: concat!("XX", "X "), reason: "say what is wrong" },
    Banned { word: concat!("dbg", "!("), reason: "use tracing" },
    Banned { word: concat!("#[ign", "ore]"), reason: "give the reason: #[ignore = \"…\"]" },
    Banned { word: concat!("should_panic", "]"), reason: "name what is expected" },
    Banned { word: concat!("::*", ";\n"), reason: "no glob imports outside tests" },
];

/// Parts of paths that exist on one machine only.
const PLACES: [&str; 11] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("crates", ".io/"),
    concat!("static.crates", ".io"),
    concat!("registry.npm", "js"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted"),
    concat!("repo.maven", ".apache"),
    concat!("proxy.go", "lang"),
];

pub(crate) fn banned(files: &[SourceFile], modules: &Modules) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for banned in &BANNED {
            for (at, _) in file.text.match_indices(banned.word) {
                let is_glob = banned.word.starts_with("::*");
                if is_glob && (modules.is_test(&file.path) || is_test_prelude(&file.text, at)) {
                    continue;
                }
                let word = banned.word.trim_end();
                let line = file.text[..at].matches('\n').count() + 1;
                problems.push(format!("{}:{line}: {word} ({})", file.path, banned.reason));
            }
        }
    }
    problems
}

/// `use super::*;` in a test module, and preludes made to be taken whole.
fn is_test_prelude(text: &str, at: usize) -> bool {
    let start = text[..at].rfind('\n').map_or(0, |it| it + 1);
    let import = text[start..at].trim_start();
    import == "use super" || import.ends_with("prelude")
}

pub(crate) fn places(files: &[SourceFile]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| !file.path.ends_with("Cargo.lock")) {
        for (number, line) in file.text.lines().enumerate() {
            for place in PLACES.iter().filter(|place| line.contains(**place)) {
                problems.push(format!("{}:{}: {place}", file.path, number + 1));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{Modules, SourceFile, banned, places};

    #[test]
    fn words_are_found_with_their_lines() {
        let file = |text: &str| SourceFile { path: "a.rs".to_owned(), text: text.to_owned() };
        let unfinished = format!("//! x\nfn a() {{ {}) }}\n", concat!("todo", "!("));
        assert_eq!(
            banned(&[file(&unfinished)], &Modules::default()),
            [concat!("a.rs:2: todo", "!( (finish it)")]
        );
        assert!(
            banned(&[file("use super::*;\nuse proptest::prelude::*;\n")], &Modules::default())
                .is_empty()
        );
        assert_eq!(banned(&[file("pub use a::*;\n")], &Modules::default()).len(), 1);
        assert_eq!(places(&[file(concat!("x\n\"/wo", "rk/main\""))]).len(), 1);
    }
}
