//! Regular expressions over names, as members of consumer groups subscribe by them and operators list
//! transactional ids by them.
//!
//! Kafka's broker takes RE2J, we take the crate `regex`: both run in time linear in the text, and
//! for what topic names are made of they mean the same. ADR 2026-11-28-topic-patterns says where
//! they differ.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

/// Memory of one compiled expression, in bytes. A larger one is refused as invalid.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Nested groups of one expression. More are refused as invalid.
const NESTED_GROUPS_MAX: u32 = 100;

/// An expression that matches a topic if it matches the whole name.
#[derive(Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// # Errors
    /// Says in words what is wrong with the expression.
    pub fn new(expression: &str) -> Result<Pattern, String> {
        let expression = unquoted(expression);
        let compile = |text: &str| {
            RegexBuilder::new(text)
                .size_limit(PATTERN_BYTES_MAX)
                .dfa_size_limit(PATTERN_BYTES_MAX)
                .nest_limit(NESTED_GROUPS_MAX)
                .build()
                .map_err(|error| error.to_string())
        };
        compile(&expression)?; // Alone first: `a)(b` must not become valid by what surrounds it.
        compile(&format!(r"\A(?:{expression})\z")).map(Pattern)
    }

    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

/// Spells out `\Q…\E`, which RE2J knows and `regex` does not.
fn unquoted(expression: &str) -> String {
    let mut plain = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let mut letters = from.chars();
        let escape = (letters.next(), letters.next());
        match escape {
            (Some(_), Some('Q')) => {
                let quoted = &from[2..];
                let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                plain.push_str(&regex::escape(quoted));
                rest = after;
            }
            (Some(_), Some(letter)) => {
                let _ = write!(plain, "\\{letter}"); // Writing to a string cannot fail.
                rest = letters.as_str();
            }
            _ => {
                plain.push('\\');
                rest = "";
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_the_whole_name() {
        for (expression, topic, expected) in [
            ("orders", "orders", true),
            ("order", "orders", false),
            ("order.*", "orders", true),
            ("a|b", "ab", false),
            ("a|b", "b", true),
            ("", "", true),
            ("", "a", false),
            (r"\Qa.b\E.*", "a.b-1", true),
            (r"\Qa.b\E.*", "aXb-1", false),
            (r"a\\Qb", r"a\Qb", true),
            (r"\d+", "12", true),
            ("(?i)ORDERS", "orders", true),
            ("[a-c]{2,3}", "abca", false),
            ("orders\n", "orders", false),
        ] {
            let pattern = Pattern::new(expression).unwrap();
            assert_eq!(pattern.matches(topic), expected, "{expression:?} on {topic:?}");
        }
    }

    #[test]
    fn what_cannot_be_run_in_linear_time_or_is_nonsense_is_refused() {
        for expression in ["(", "a)(b", "[", r"(a)\1", "(?=a)", r"\", "a{100000}{100000}"] {
            assert!(Pattern::new(expression).is_err(), "{expression:?}");
        }
    }
}
