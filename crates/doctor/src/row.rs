//! Rows of named fields, and the two ways they are printed: a table for people, a JSON object a line.
//!
//! Owns: both forms, escaping. Does not own: what rows there are.
//!
//! Rows are written as they come: an inspection of a large bucket is never in memory as a whole. A table
//! is laid out in stretches of [`STRETCH_ROWS`] rows of one kind.

use std::io::{self, Write};

/// Rows of one kind that are laid out together.
const STRETCH_ROWS: usize = 200;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Nothing,
    Text(String),
    Number(i128),
    Flag(bool),
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field::Text(text.to_owned())
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::Text(text)
    }
}

impl From<u64> for Field {
    fn from(number: u64) -> Field {
        Field::Number(i128::from(number))
    }
}

impl From<i64> for Field {
    fn from(number: i64) -> Field {
        Field::Number(i128::from(number))
    }
}

impl From<bool> for Field {
    fn from(flag: bool) -> Field {
        Field::Flag(flag)
    }
}

impl<T: Into<Field>> From<Option<T>> for Field {
    fn from(value: Option<T>) -> Field {
        value.map_or(Field::Nothing, Into::into)
    }
}

impl Field {
    fn for_people(&self) -> String {
        match self {
            Field::Nothing => "-".to_owned(),
            // A line of a table is a line.
            Field::Text(text) => text.replace(['\n', '\r', '\t'], " "),
            Field::Number(number) => number.to_string(),
            Field::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        }
    }

    fn json(&self) -> String {
        match self {
            Field::Nothing => "null".to_owned(),
            Field::Text(text) => quoted(text),
            Field::Number(number) => number.to_string(),
            Field::Flag(flag) => flag.to_string(),
        }
    }
}

/// One thing of a kind; rows of a kind have the same fields in the same order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub kind: &'static str,
    pub fields: Vec<(&'static str, Field)>,
}

impl Row {
    pub(crate) fn new(kind: &'static str) -> Row {
        Row { kind, fields: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Field>) -> Row {
        self.fields.push((name, value.into()));
        self
    }

    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|it| it.0 == name).map(|it| &it.1)
    }

    /// One object in one line; `kind` comes first.
    pub fn json(&self) -> String {
        let mut text = format!("{{\"kind\":{}", quoted(self.kind));
        for (name, value) in &self.fields {
            text.push_str(&format!(",{}:{}", quoted(name), value.json()));
        }
        text.push('}');
        text
    }
}

/// Takes rows as they are found.
pub trait RowSink {
    /// # Errors
    /// Nobody takes them any more.
    fn row(&mut self, row: Row) -> io::Result<()>;
}

impl RowSink for Vec<Row> {
    fn row(&mut self, row: Row) -> io::Result<()> {
        self.push(row);
        Ok(())
    }
}

/// Prints rows.
pub struct RowWriter<'a> {
    out: &'a mut dyn Write,
    is_json: bool,
    /// Of one kind, not printed yet.
    stretch: Vec<Row>,
    /// The kind whose heading was printed last.
    kind: &'static str,
}

impl<'a> RowWriter<'a> {
    pub fn new(out: &'a mut dyn Write, is_json: bool) -> RowWriter<'a> {
        RowWriter { out, is_json, stretch: Vec::new(), kind: "" }
    }

    /// Prints what is left.
    ///
    /// # Errors
    /// Nobody reads.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let stretch = std::mem::take(&mut self.stretch);
        let Some(first) = stretch.first() else { return Ok(()) };
        let names: Vec<String> = first.fields.iter().map(|it| it.0.replace('_', " ")).collect();
        let lines: Vec<Vec<String>> = stretch
            .iter()
            .map(|row| row.fields.iter().map(|it| it.1.for_people()).collect())
            .collect();
        let width = |column: usize| {
            let of = |line: &Vec<String>| line.get(column).map_or(0, |it| it.chars().count());
            lines.iter().map(of).max().unwrap_or(0).max(of(&names))
        };
        let widths: Vec<usize> = (0..names.len()).map(width).collect();
        if self.kind != first.kind {
            let gap = if self.kind.is_empty() { "" } else { "\n" };
            writeln!(self.out, "{gap}{}", aligned(&names, &widths))?;
            self.kind = first.kind;
        }
        for line in &lines {
            writeln!(self.out, "{}", aligned(line, &widths))?;
        }
        Ok(())
    }
}

impl RowSink for RowWriter<'_> {
    fn row(&mut self, row: Row) -> io::Result<()> {
        if self.is_json {
            return writeln!(self.out, "{}", row.json());
        }
        let is_next = self.stretch.last().is_none_or(|it| it.kind == row.kind);
        if !is_next || STRETCH_ROWS <= self.stretch.len() {
            self.flush()?;
        }
        self.stretch.push(row);
        Ok(())
    }
}

impl std::fmt::Debug for RowWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowWriter").field("is_json", &self.is_json).finish_non_exhaustive()
    }
}

fn aligned(line: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in line.iter().zip(widths) {
        text.push_str(&format!("{cell:width$}  "));
    }
    text.truncate(text.trim_end().len());
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            it if (it as u32) < 0x20 => quoted.push_str(&format!("\\u{:04x}", it as u32)),
            it => quoted.push(it),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[Row], is_json: bool) -> String {
        let mut out = Vec::new();
        let mut writer = RowWriter::new(&mut out, is_json);
        for row in rows {
            writer.row(row.clone()).expect("a vector takes all");
        }
        writer.finish().expect("a vector takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn people_get_a_table_a_kind() {
        let rows = [
            Row::new("a").with("name", "x").with("bytes", 5u64),
            Row::new("a").with("name", "longer").with("bytes", None::<u64>),
            Row::new("b").with("is_it", true),
        ];
        assert_eq!(printed(&rows, false), "name    bytes\nx       5\nlonger  -\n\nis it\nyes\n");
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let rows = [Row::new("a").with("t", "q\"\\\n\u{1}é").with("n", -7i64).with("f", false)];
        let expected = "{\"kind\":\"a\",\"t\":\"q\\\"\\\\\\n\\u0001é\",\"n\":-7,\"f\":false}\n";
        assert_eq!(printed(&rows, true), expected);
    }
}
