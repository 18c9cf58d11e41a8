//! Rules about the shape of Rust files: lengths, headers, names.
//!
//! Invariant: test code, inline or in files of its own, counts neither for a file's length nor for its functions'.

use super::SourceFile;
use super::exceptions::{Exceptions, Long};
use super::modules::Modules;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// rustfmt holds code to 100; this bounds what it leaves alone: comments and texts.
const LINE_CHARACTERS_MAX: usize = 120;
const NOT_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];
const CODE: [&str; 5] = [".rs", ".sh", ".py", ".mjs", ".java"];

/// Files and functions that are too long and have no exception, or a stale one.
pub(crate) fn lengths(
    files: &[SourceFile],
    modules: &Modules,
    allowed: &Exceptions,
) -> (Vec<String>, Vec<String>) {
    let (mut long_files, mut long_functions) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|it| it.is_rust() && !modules.is_test(&it.path)) {
        let lines = product_lines(&file.text);
        if FILE_LINES_MAX < lines.len() {
            let (path, name) = (file.path.clone(), String::new());
            long_files.push(Long { path, name, lines: lines.len() });
        }
        for (name, lines) in functions(&lines) {
            if FUNCTION_LINES_MAX < lines {
                long_functions.push(Long { path: file.path.clone(), name, lines });
            }
        }
    }
    (allowed.files(&long_files), allowed.functions(&long_functions))
}

/// The lines of a file without its inline test modules.
fn product_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let opens_tests = lines[at].trim() == "#[cfg(test)]"
            && lines[at + 1..]
                .iter()
                .find(|line| !line.trim().starts_with("#["))
                .is_some_and(|line| line.trim().starts_with("mod ") && line.ends_with('{'));
        if opens_tests {
            at = end_of_block(&lines, at);
        } else {
            kept.push(lines[at]);
        }
        at += 1;
    }
    kept
}

/// The line that closes the block which starts at or after line `start`: a brace at the same indentation.
fn end_of_block(lines: &[&str], start: usize) -> usize {
    let indentation = indentation(lines[start]);
    let is_end = |line: &str| {
        indentation == self::indentation(line) && matches!(line.trim(), "}" | "};" | "},")
    };
    (start..lines.len()).find(|at| is_end(lines[*at])).unwrap_or(lines.len() - 1)
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Each function's name and length in lines.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        // One line, or a declaration without a body.
        let head_end =
            (at..lines.len()).find(|it| lines[*it].trim_end().ends_with(['{', ';', '}']));
        if head_end.is_some_and(|end| lines[end].trim_end().ends_with('{')) {
            found.push((name, end_of_block(lines, at) + 1 - at));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(['(', '<'])?;
    Some(name[..end].to_owned())
}

pub(crate) fn long_lines(files: &[SourceFile]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|it| CODE.iter().any(|end| it.path.ends_with(end))) {
        for (number, line) in file.text.lines().enumerate() {
            let length = line.chars().count();
            if LINE_CHARACTERS_MAX < length {
                problems.push(format!("{}:{}: {length} characters", file.path, number + 1));
            }
        }
    }
    problems
}

/// A `tests.rs` is its parent's tests and may leave the header to it.
pub(crate) fn headers(files: &[SourceFile]) -> Vec<String> {
    let lacks_header = |file: &&SourceFile| !file.text.trim_start().starts_with("//!");
    let rust = files.iter().filter(|file| file.is_rust() && file.name() != "tests.rs");
    rust.filter(lacks_header).map(|file| format!("{}: no //! header", file.path)).collect()
}

pub(crate) fn module_names(files: &[SourceFile]) -> Vec<String> {
    let is_bad =
        |path: &str| path.split('/').any(|part| NOT_NAMES.contains(&part.trim_end_matches(".rs")));
    let in_crates = |file: &&SourceFile| file.is_rust() && file.path.starts_with("crates/");
    files
        .iter()
        .filter(in_crates)
        .filter(|file| is_bad(&file.path))
        .map(|file| format!("{}: {} says nothing", file.path, file.name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{functions, product_lines};

    #[test]
    fn functions_are_measured_by_their_braces() {
        let text = "impl A {\n    pub(crate) async fn long<T>(\n        a: T,\n    ) -> B {\n\
            \x20       if a {\n        }\n    }\n\
            \n    fn declared(&self);\n    fn short() {}\n}\nfn last() {\n    1\n}\n";
        let lines: Vec<&str> = text.lines().collect();
        let expected = [("long".to_owned(), 6), ("last".to_owned(), 3)];
        assert_eq!(functions(&lines), expected);
    }

    #[test]
    fn inline_tests_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        assert_eq!(product_lines(text), ["fn a() {}", "", "fn c() {}"]);
    }
}
