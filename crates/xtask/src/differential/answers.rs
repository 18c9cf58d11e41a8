//! Answers as lines `STEP: PATH = VALUE`, one a field, so that two brokers' can be compared and read.

use std::collections::BTreeMap;
use std::fmt::Debug;

use protocol::ErrorCode;

/// Fields that may differ between two runs of one broker: ids, addresses, times; and texts, of which only counts
/// whether there is one.
const UNCOMPARED: [&str; 19] = [
    "throttle_time_ms",
    "topic_id",
    "host",
    "port",
    "cluster_id",
    "session_id",
    "producer_id",
    "documentation",
    "records",
    "log_append_time_ms",
    "client_host",
    "node_endpoints",
    "brokers",
    "controller_id",
    "batch_index_error_message",
    "replica_nodes",
    "isr_nodes",
    "transaction_start_time_ms",
    "last_timestamp",
];
const TEXTS: [&str; 3] = ["error_message", "member_id", "leader"];

/// Lists of rows that have a name.
const NAMED: [&str; 3] = ["topics", "configs", "results_by_topic_v3_and_below"];

/// By step and path.
#[derive(Debug, Default)]
pub(crate) struct Answers(pub(crate) BTreeMap<String, String>);

impl Answers {
    pub(crate) fn parse(text: &str) -> Answers {
        let lines = text.lines().filter_map(|line| line.split_once(" = "));
        Answers(lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
    }

    pub(crate) fn note(&mut self, step: &str, what: &str, value: impl ToString) {
        let before = self.0.insert(format!("{step}: {what}"), value.to_string());
        assert!(before.is_none(), "two answers to {step}: {what}");
    }

    /// Every field of an answer, by its debug output, which names them all.
    pub(crate) fn all(&mut self, step: &str, answer: &impl Debug) {
        for (path, value) in by_name(flatten(&format!("{answer:#?}"))) {
            let fields = || path.split('.').map(|part| part.split('[').next().unwrap_or(part));
            let name = fields().next_back().unwrap_or_default();
            if fields().any(|field| UNCOMPARED.contains(&field)) {
                continue;
            }
            let value = match value.parse::<i16>().ok().and_then(ErrorCode::from_code) {
                Some(code) if name.ends_with("error_code") => code.name().to_owned(),
                _ if TEXTS.contains(&name) && value.starts_with('"') => match value.as_str() {
                    "\"\"" => "empty".to_owned(),
                    _ => "a text".to_owned(),
                },
                _ => value,
            };
            self.note(step, &path, value);
        }
    }
}

/// Rows that have a name stand under it instead of their number: brokers order topics and configs as they like.
fn by_name(fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (path, value) in &fields {
        let Some(row) = path.strip_suffix(".name").filter(|row| row.ends_with(']')) else {
            continue;
        };
        let Some((list, _)) =
            row.rsplit_once('[').filter(|(list, _)| NAMED.iter().any(|it| list.ends_with(it)))
        else {
            continue;
        };
        let count = taken.entry(format!("{list}[{value}")).and_modify(|it| *it += 1).or_insert(1);
        let again = if *count == 1 { String::new() } else { format!(" {count}") };
        names.insert(row.to_owned(), format!("{list}[{}{again}]", value.trim_matches('"')));
    }
    let mut rows: Vec<(&String, &String)> = names.iter().collect();
    // Inner rows first: their paths still have the numbers of the outer ones.
    rows.sort_by_key(|(row, _)| std::cmp::Reverse(row.len()));
    let renamed = |path: String| {
        rows.iter().fold(path, |path, (row, name)| match path.strip_prefix(row.as_str()) {
            Some(rest) if rest.starts_with('.') => format!("{name}{rest}"),
            _ => path,
        })
    };
    fields.into_iter().map(|(path, value)| (renamed(path), value)).collect()
}

/// What a line of pretty debug output stands in.
enum Frame {
    /// `Name {`: lines `field: value`. Whether a part of the path ends with it.
    Fields(bool),
    /// `[`: values; how many so far.
    List(bool, usize),
    /// `Some(` and the like: one value that has no name of its own.
    Wrapper(bool),
}

/// Pretty debug output as paths and values: `topics[0].name`, `"x"`.
fn flatten(text: &str) -> Vec<(String, String)> {
    let (mut found, mut frames, mut path): (_, Vec<Frame>, Vec<String>) =
        (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let line = line.trim().trim_end_matches(',');
        if matches!(line, "}" | "]" | ")") {
            let named = match frames.pop() {
                Some(Frame::Fields(named) | Frame::List(named, _) | Frame::Wrapper(named)) => named,
                None => false,
            };
            if named {
                path.pop();
            }
            continue;
        }
        let (name, rest) = match frames.last_mut() {
            Some(Frame::Fields(_)) => match line.split_once(": ") {
                Some((field, rest)) => (Some(field.to_owned()), rest),
                None => (None, line),
            },
            Some(Frame::List(_, count)) => {
                *count += 1;
                (Some(format!("[{}]", *count - 1)), line)
            }
            Some(Frame::Wrapper(_)) | None => (None, line),
        };
        let named = name.is_some();
        path.extend(name);
        match rest.chars().last() {
            Some('{') => frames.push(Frame::Fields(named)),
            Some('[') => frames.push(Frame::List(named, 0)),
            Some('(') => frames.push(Frame::Wrapper(named)),
            _ => {
                found.push((path.join(".").replace(".[", "["), rest.to_owned()));
                if named {
                    path.pop();
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Answers, by_name, flatten};

    #[derive(Debug)]
    #[expect(dead_code, reason = "read through Debug")]
    struct Row {
        error_code: i16,
        name: Option<String>,
        error_message: Option<String>,
        rows: Vec<Row>,
    }

    #[test]
    fn every_field_has_a_path() {
        let inner =
            Row { error_code: 0, name: None, error_message: Some("x: y".into()), rows: vec![] };
        let outer =
            Row { error_code: 3, name: Some("a".into()), error_message: None, rows: vec![inner] };
        let found = flatten(&format!("{outer:#?}"));
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        let expected =
            ["error_code", "name", "error_message", "rows[0].error_code", "rows[0].name"];
        assert_eq!(paths[..5], expected);
        let mut answers = Answers::default();
        answers.all("s", &outer);
        assert_eq!(answers.0["s: error_code"], "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(answers.0["s: rows[0].error_message"], "a text");
        assert_eq!(answers.0["s: rows[0].rows"], "[]");
        assert_eq!(Answers::parse(&answers.text()).0, answers.0);
    }

    #[test]
    fn rows_stand_under_their_names() {
        let field = |path: &str, value: &str| (path.to_owned(), value.to_owned());
        let fields = vec![
            field("topics[0].name", "\"b\""),
            field("topics[0].error_code", "1"),
            field("topics[1].name", "\"b\""),
            field("rows[0].error_code", "2"),
        ];
        let paths: Vec<String> = by_name(fields).into_iter().map(|(path, _)| path).collect();
        let expected =
            ["topics[b].name", "topics[b].error_code", "topics[b 2].name", "rows[0].error_code"];
        assert_eq!(paths, expected);
    }
}
