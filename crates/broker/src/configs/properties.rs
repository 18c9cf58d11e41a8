//! Java's `.properties` text format, as Kafka's `server.properties` uses it: pure text in, pairs out.
//!
//! Owns: comments, line continuation, separators, escapes.
//! Does not own: what a name means (`catalogue`), reading files (the binary).
//!
//! Follows the documented format of `java.util.Properties`: a key ends at the first unescaped `=`,
//! `:` or white space; later pairs of the same key win; a backslash before an ordinary letter is
//! dropped. Text is UTF-8 (Kafka reads Latin-1; both agree on ASCII).

use std::iter::Peekable;
use std::str::Chars;

/// One pair, with the line it started on so that a problem can name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: String,
    /// Counted from 1.
    pub line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    #[error("line {line}: \\u must be followed by four hexadecimal digits")]
    UnicodeEscape { line: usize },
}

/// All pairs, in file order; a repeated name appears twice and the later one is meant to win.
pub fn parse_properties(text: &str) -> Result<Vec<Property>, PropertiesError> {
    let mut properties = Vec::new();
    for (line, logical) in logical_lines(text) {
        let mut letters = logical.chars().peekable();
        let name = take_name(&mut letters, line)?;
        skip_separator(&mut letters);
        let value = take_value(&mut letters, line)?;
        properties.push(Property { name, value, line });
    }
    Ok(properties)
}

/// Joins continued lines, drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        let content = natural.trim_start_matches([' ', '\t', '\x0c']);
        if open.is_none() && (content.is_empty() || content.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = content.chars().rev().take_while(|letter| *letter == '\\').count();
        let continues = backslashes % 2 == 1;
        let body = if continues { &content[..content.len() - 1] } else { content };
        let (_, joined) = open.get_or_insert_with(|| (index + 1, String::new()));
        joined.push_str(body);
        if !continues {
            lines.extend(open.take());
        }
    }
    // A backslash on the last line continues into nothing.
    lines.extend(open.take().filter(|(_, joined)| !joined.is_empty()));
    lines
}

fn take_name(letters: &mut Peekable<Chars<'_>>, line: usize) -> Result<String, PropertiesError> {
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|it| !matches!(it, '=' | ':' | ' ' | '\t' | '\x0c')) {
        push_letter(letter, letters, line, &mut name)?;
    }
    Ok(name)
}

fn skip_separator(letters: &mut Peekable<Chars<'_>>) {
    let is_space = |it: &char| matches!(it, ' ' | '\t' | '\x0c');
    while letters.next_if(is_space).is_some() {}
    if letters.next_if(|it| matches!(it, '=' | ':')).is_some() {
        while letters.next_if(is_space).is_some() {}
    }
}

fn take_value(letters: &mut Peekable<Chars<'_>>, line: usize) -> Result<String, PropertiesError> {
    let mut value = String::new();
    while let Some(letter) = letters.next() {
        push_letter(letter, letters, line, &mut value)?;
    }
    Ok(value)
}

fn push_letter(
    letter: char,
    rest: &mut Peekable<Chars<'_>>,
    line: usize,
    into: &mut String,
) -> Result<(), PropertiesError> {
    if letter != '\\' {
        into.push(letter);
        return Ok(());
    }
    match rest.next() {
        None => (),
        Some('t') => into.push('\t'),
        Some('n') => into.push('\n'),
        Some('r') => into.push('\r'),
        Some('f') => into.push('\x0c'),
        Some('u') => into.push(unicode_escape(rest, line)?),
        Some(other) => into.push(other),
    }
    Ok(())
}

/// `\uXXXX`, where letters beyond the basic plane are two such escapes (UTF-16), as Java writes them.
fn unicode_escape(rest: &mut Peekable<Chars<'_>>, line: usize) -> Result<char, PropertiesError> {
    let bad = PropertiesError::UnicodeEscape { line };
    let high = four_digits(rest).ok_or(bad.clone())?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).ok_or(bad);
    }
    if rest.next() != Some('\\') || rest.next() != Some('u') {
        return Err(bad);
    }
    let low = four_digits(rest).filter(|it| (0xdc00..0xe000).contains(it)).ok_or(bad.clone())?;
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or(bad)
}

fn four_digits(rest: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let mut code = 0;
    for _ in 0..4 {
        code = code << 4 | rest.next()?.to_digit(16)?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let pairs = parse_properties(text).expect("it parses");
        let pairs: Vec<_> = pairs.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
        assert_eq!(pairs, expected, "{text:?}");
    }

    #[test]
    fn separators_are_equals_colon_or_space() {
        check(
            "a=1\nb:2\nc 3\nd\t=\t4\ne = = 5",
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "= 5")],
        );
        check("lonely\nempty=\n=value", &[("lonely", ""), ("empty", ""), ("", "value")]);
        check("url=PLAINTEXT://:9092", &[("url", "PLAINTEXT://:9092")]);
    }

    #[test]
    fn comments_and_blank_lines_are_dropped() {
        check("# one\n  ! two\n\n \t \na=b # kept", &[("a", "b # kept")]);
        check("", &[]);
    }

    #[test]
    fn a_backslash_continues_a_line_unless_doubled() {
        check("a=1,\\\n   2,\\\r\n\t3\nb=x", &[("a", "1,2,3"), ("b", "x")]);
        check("a=c:\\\\dir\\\\\nb=1", &[("a", "c:\\dir\\"), ("b", "1")]);
        check("a=1\\", &[("a", "1")]);
        check("a=1\\\n# not a comment", &[("a", "1# not a comment")]);
    }

    #[test]
    fn escapes_are_decoded() {
        check("a\\=b\\:c\\ d=e", &[("a=b:c d", "e")]);
        check("a=\\t\\n\\r\\f\\q", &[("a", "\t\n\r\x0cq")]);
        check("a=\\u00e9\\uD83D\\uDE00", &[("a", "é😀")]);
        for bad in ["a=\\u12", "a=\\uD83D", "a=\\uzzzz", "a=\\uDE00"] {
            let text = format!("x=1\n{bad}");
            assert_eq!(parse_properties(&text), Err(PropertiesError::UnicodeEscape { line: 2 }));
        }
    }

    #[test]
    fn lines_and_endings_are_counted_from_one() {
        let lines: Vec<usize> = parse_properties("# c\r\na=1\\\n  2\r\nb=3\nc=4")
            .expect("it parses")
            .iter()
            .map(|it| it.line)
            .collect();
        assert_eq!(lines, [2, 4, 5]);
    }

    #[test]
    fn trailing_space_belongs_to_the_value() {
        check("a=1  ", &[("a", "1  ")]);
    }
}
