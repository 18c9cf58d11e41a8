//! ListObjectsV2: which keys and common prefixes a page holds.
//!
//! Invariant: a page's continuation names the last entry it held, not a position, so keys that come and
//! go between two pages neither repeat nor hide others.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Object;

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ListQuery {
    pub(crate) prefix: String,
    /// Only keys after this one; a `token` wins over it.
    pub(crate) start_after: String,
    pub(crate) delimiter: String,
    /// As handed out by an earlier page.
    pub(crate) token: Option<Token>,
    pub(crate) max_keys: usize,
}

/// The last entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Key(Vec<u8>),
    Prefix(Vec<u8>),
}

impl Token {
    pub(crate) fn to_text(&self) -> String {
        let (kind, bytes) = match self {
            Token::Key(bytes) => ('k', bytes),
            Token::Prefix(bytes) => ('p', bytes),
        };
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        std::iter::once(kind.to_string()).chain(digits).collect()
    }

    pub(crate) fn parse(text: &str) -> Option<Token> {
        let (kind, digits) = text.split_at_checked(1)?;
        let pairs = digits.as_bytes().chunks(2);
        let bytes = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()
            .filter(|_| digits.len().is_multiple_of(2))?;
        match kind {
            "k" => Some(Token::Key(bytes)),
            "p" => Some(Token::Prefix(bytes)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Object { key: String, length: u64, etag: Arc<str>, modified_ms: i64 },
    CommonPrefix(String),
}

/// One page.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    /// Set when there is more.
    pub(crate) next: Option<Token>,
}

pub(super) fn list(objects: &BTreeMap<Box<[u8]>, Object>, query: &ListQuery) -> Listing {
    let mut page = Listing::default();
    if query.max_keys == 0 {
        return page;
    }
    let mut keys =
        objects.range::<[u8], _>((start(query).as_ref().map(Vec::as_slice), Bound::Unbounded));
    let mut last = None;
    while let Some((key, object)) = keys.next() {
        if !key.starts_with(query.prefix.as_bytes()) {
            break;
        }
        if page.entries.len() == query.max_keys {
            page.next = last;
            break;
        }
        match common_prefix(key, query) {
            None => {
                page.entries.push(Entry::Object {
                    key: String::from_utf8_lossy(key).into_owned(),
                    length: object.length(),
                    etag: Arc::clone(&object.etag),
                    modified_ms: object.modified_ms,
                });
                last = Some(Token::Key(key.to_vec()));
            }
            Some(common) => {
                let text = String::from_utf8_lossy(common).into_owned();
                page.entries.push(Entry::CommonPrefix(text));
                last = Some(Token::Prefix(common.to_vec()));
                let beyond = beyond(common);
                keys = objects
                    .range::<[u8], _>((beyond.as_ref().map(Vec::as_slice), Bound::Unbounded));
            }
        }
    }
    page
}

fn start(query: &ListQuery) -> Bound<Vec<u8>> {
    let prefix = query.prefix.as_bytes();
    let resumed = match &query.token {
        Some(Token::Key(key)) => Bound::Excluded(key.clone()),
        Some(Token::Prefix(common)) => beyond(common),
        None => Bound::Excluded(query.start_after.as_bytes().to_vec()),
    };
    match &resumed {
        Bound::Included(at) | Bound::Excluded(at) if prefix <= at.as_slice() => resumed,
        _ => Bound::Included(prefix.to_vec()),
    }
}

/// `key` up to and with the first delimiter after the prefix.
fn common_prefix<'a>(key: &'a [u8], query: &ListQuery) -> Option<&'a [u8]> {
    let (from, delimiter) = (query.prefix.len(), query.delimiter.as_bytes());
    if delimiter.is_empty() {
        return None;
    }
    let at = key[from..].windows(delimiter.len()).position(|it| it == delimiter)?;
    Some(&key[..from + at + delimiter.len()])
}

/// The first place after every key that starts with `prefix`. No byte of UTF-8 is 255.
fn beyond(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut at = prefix.to_vec();
    match at.last_mut() {
        Some(last) => {
            *last = last.saturating_add(1);
            Bound::Included(at)
        }
        None => Bound::Unbounded,
    }
}
