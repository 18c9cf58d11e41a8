//! From an HTTP head to what is asked: the only place that knows S3's paths, queries and headers.
//!
//! Path style only: `/bucket/key`. What is not understood is refused by name, never ignored, unless
//! ignoring it cannot change what is stored or returned (checksums, signatures, tags, storage classes).

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use crate::objects::{Attributes, Condition, ListQuery, PART_NUMBER_MAX, Place, Token};
use crate::operation::Operation;
use crate::refusal::Refusal;

/// S3's own page size.
const MAX_KEYS: usize = 1000;
/// Queries that choose what is done, besides those of signatures, which are ignored.
const QUERIES: [&str; 15] = [
    "continuation-token",
    "delete",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "list-type",
    "max-keys",
    "max-parts",
    "part-number-marker",
    "partNumber",
    "prefix",
    "start-after",
    "uploadId",
    "uploads",
    "x-id",
];
const KEPT_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
];
const METADATA_PREFIX: &str = "x-amz-meta-";
const COPY_SOURCE: &str = "x-amz-copy-source";

/// One request, understood.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The key is empty when the bucket itself is meant.
    pub(crate) place: Place,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    CreateBucket,
    HeadBucket,
    Put { condition: Condition, attributes: Attributes },
    Copy { from: Place, source_condition: Condition, condition: Condition },
    Get { range: Option<RangeAsked>, condition: ReadCondition },
    Head { range: Option<RangeAsked>, condition: ReadCondition },
    Delete { condition: Condition },
    DeleteMany,
    List { query: ListQuery, url_encoded: bool },
    CreateUpload { attributes: Attributes },
    UploadPart { upload: String, number: u32 },
    CopyPart { upload: String, number: u32, from: Place, range: Option<(u64, u64)> },
    CompleteUpload { upload: String, condition: Condition },
    AbortUpload { upload: String },
    ListParts { upload: String },
}

/// What a reader asks of the object's tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ReadCondition {
    /// Tags without quotes, or `*`.
    pub(crate) matches: Option<String>,
    pub(crate) differs: Option<String>,
}

/// A `Range` header, before the object's length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeAsked {
    /// First and last byte, inclusive.
    Between(u64, u64),
    From(u64),
    /// The last so many bytes.
    Suffix(u64),
}

impl Asked {
    pub(crate) fn operation(&self) -> Operation {
        match self.action {
            Action::CreateBucket | Action::HeadBucket => Operation::Bucket,
            Action::Put { .. } => Operation::Put,
            Action::Copy { .. } => Operation::Copy,
            Action::Get { .. } => Operation::Get,
            Action::Head { .. } => Operation::Head,
            Action::Delete { .. } => Operation::Delete,
            Action::DeleteMany => Operation::DeleteMany,
            Action::List { .. } => Operation::List,
            Action::CreateUpload { .. } => Operation::CreateUpload,
            Action::UploadPart { .. } | Action::CopyPart { .. } => Operation::UploadPart,
            Action::CompleteUpload { .. } => Operation::CompleteUpload,
            Action::AbortUpload { .. } => Operation::AbortUpload,
            Action::ListParts { .. } => Operation::ListParts,
        }
    }

    pub(crate) fn is_conditional_write(&self) -> bool {
        match &self.action {
            Action::Put { condition, .. }
            | Action::Copy { condition, .. }
            | Action::CompleteUpload { condition, .. } => *condition != Condition::None,
            _ => false,
        }
    }
}

impl RangeAsked {
    /// The bytes asked for of an object of `length`, end exclusive; `None` when there are none.
    pub(crate) fn within(self, length: u64) -> Option<std::ops::Range<u64>> {
        let range = match self {
            RangeAsked::Between(first, last) => first..length.min(last.saturating_add(1)),
            RangeAsked::From(first) => first..length,
            RangeAsked::Suffix(bytes) => length.saturating_sub(bytes)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Understands the head of a request.
pub(crate) fn parse(head: &Parts) -> Result<Asked, Refusal> {
    let place = place(head.uri.path())?;
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let headers = &head.headers;
    if let Some(sha) = text(headers, "x-amz-content-sha256")?
        && sha.starts_with("STREAMING-")
    {
        return Err(Refusal::not_implemented(format!("chunked signatures ({sha})")));
    }
    let action = if place.key.is_empty() {
        bucket_action(&head.method, &query)?
    } else {
        object_action(&head.method, &query, headers)?
    };
    Ok(Asked { place, action })
}

fn bucket_action(method: &Method, query: &Query) -> Result<Action, Refusal> {
    match *method {
        Method::PUT => Ok(Action::CreateBucket),
        Method::HEAD => Ok(Action::HeadBucket),
        Method::POST if query.has("delete") => Ok(Action::DeleteMany),
        Method::GET if query.value("list-type") == Some("2") => {
            let max_keys = query.number("max-keys")?.unwrap_or(MAX_KEYS as u64);
            let token = match query.value("continuation-token") {
                None => None,
                Some(text) => Some(Token::parse(text).ok_or_else(|| {
                    Refusal::invalid_argument("The continuation token is not one of ours.")
                })?),
            };
            let plain = |name| query.value(name).unwrap_or_default().to_owned();
            let list = ListQuery {
                prefix: plain("prefix"),
                start_after: plain("start-after"),
                delimiter: plain("delimiter"),
                token,
                max_keys: MAX_KEYS.min(max_keys as usize),
            };
            let url_encoded = query.value("encoding-type") == Some("url");
            Ok(Action::List { query: list, url_encoded })
        }
        _ => Err(Refusal::not_implemented(format!("{method} of a bucket with these parameters"))),
    }
}

fn object_action(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Action, Refusal> {
    let upload = query.value("uploadId").map(str::to_owned);
    match (method, upload) {
        (&Method::PUT, Some(upload)) => {
            let number = query.number("partNumber")?.and_then(|it| u32::try_from(it).ok());
            let number =
                number.filter(|it| (1..=PART_NUMBER_MAX).contains(it)).ok_or_else(|| {
                    Refusal::invalid_argument(format!(
                        "Part numbers run from 1 to {PART_NUMBER_MAX}."
                    ))
                })?;
            match copy_source(headers)? {
                None => Ok(Action::UploadPart { upload, number }),
                Some(from) => {
                    let range = copy_range(headers)?;
                    Ok(Action::CopyPart { upload, number, from, range })
                }
            }
        }
        (&Method::PUT, None) => match copy_source(headers)? {
            None => {
                let condition = write_condition(headers)?;
                Ok(Action::Put { condition, attributes: attributes(headers) })
            }
            Some(from) => {
                let source_tag = text(headers, "x-amz-copy-source-if-match")?;
                let source_condition = source_tag.map_or(Condition::None, |it| matches(&it));
                Ok(Action::Copy { from, source_condition, condition: write_condition(headers)? })
            }
        },
        (&Method::GET, Some(upload)) => Ok(Action::ListParts { upload }),
        (&Method::GET, None) => {
            Ok(Action::Get { range: range(headers)?, condition: read_condition(headers)? })
        }
        (&Method::HEAD, None) => {
            Ok(Action::Head { range: range(headers)?, condition: read_condition(headers)? })
        }
        (&Method::DELETE, Some(upload)) => Ok(Action::AbortUpload { upload }),
        (&Method::DELETE, None) => Ok(Action::Delete { condition: write_condition(headers)? }),
        (&Method::POST, Some(upload)) => {
            Ok(Action::CompleteUpload { upload, condition: write_condition(headers)? })
        }
        (&Method::POST, None) if query.has("uploads") => {
            Ok(Action::CreateUpload { attributes: attributes(headers) })
        }
        (method, _) => {
            Err(Refusal::not_implemented(format!("{method} of an object with these parameters")))
        }
    }
}

/// Splits `/bucket/key` and decodes both.
fn place(path: &str) -> Result<Place, Refusal> {
    let (bucket, key) =
        path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let place = Place { bucket: decoded(bucket, false)?, key: decoded(key, false)? };
    if place.bucket.is_empty() {
        return Err(Refusal::not_implemented("listing all buckets"));
    }
    Ok(place)
}

/// Undoes percent-encoding; in queries a plus sign is a space.
pub(crate) fn decoded(text: &str, plus_is_space: bool) -> Result<String, Refusal> {
    let wrong = || Refusal::invalid_argument(format!("{text} is not percent-encoded UTF-8"));
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = text.get(at + 1..at + 3).ok_or_else(wrong)?;
                plain.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
                at += 2;
            }
            b'+' if plus_is_space => plain.push(b' '),
            byte => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8(plain).map_err(|_| wrong())
}

/// Percent-encodes all but unreserved characters and slashes.
pub(crate) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[derive(Debug)]
struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn parse(text: &str) -> Result<Query, Refusal> {
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name, true)?, decoded(value, true)?);
            if !QUERIES.contains(&name.as_str()) && !name.to_lowercase().starts_with("x-amz-") {
                return Err(Refusal::not_implemented(format!("the parameter {name}")));
            }
            pairs.push((name, value));
        }
        Ok(Query { pairs })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let wrong = |_| Refusal::invalid_argument(format!("{name} is not a number"));
        self.value(name).map(str::parse).transpose().map_err(wrong)
    }
}

fn text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let wrong = |_| Refusal::invalid_argument(format!("the header {name} is not text"));
    headers.get(name).map(|it| it.to_str().map(str::to_owned)).transpose().map_err(wrong)
}

fn bare(tag: &str) -> String {
    tag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

fn matches(tag: &str) -> Condition {
    Condition::Matches(bare(tag))
}

fn write_condition(headers: &HeaderMap) -> Result<Condition, Refusal> {
    // The second name is what Cloudflare calls it on copies, and what clients can be told to send.
    let mut absent = None;
    for name in ["if-none-match", "cf-copy-destination-if-none-match"] {
        absent = absent.or(text(headers, name)?);
    }
    match (absent.as_deref().map(str::trim), text(headers, "if-match")?) {
        (None, None) => Ok(Condition::None),
        (None, Some(tag)) => Ok(matches(&tag)),
        (Some("*"), None) => Ok(Condition::Absent),
        (Some(other), None) => {
            Err(Refusal::not_implemented(format!("If-None-Match: {other} on a write")))
        }
        (Some(_), Some(_)) => {
            Err(Refusal::not_implemented("If-Match together with If-None-Match on a write"))
        }
    }
}

fn read_condition(headers: &HeaderMap) -> Result<ReadCondition, Refusal> {
    for name in ["if-modified-since", "if-unmodified-since"] {
        if headers.contains_key(name) {
            return Err(Refusal::not_implemented(name));
        }
    }
    let tag = |name| Ok(text(headers, name)?.map(|it| bare(&it)));
    Ok(ReadCondition { matches: tag("if-match")?, differs: tag("if-none-match")? })
}

/// What is not one plain range of bytes is ignored, as HTTP allows.
fn range(headers: &HeaderMap) -> Result<Option<RangeAsked>, Refusal> {
    let Some(text) = text(headers, "range")? else { return Ok(None) };
    let parsed = text.strip_prefix("bytes=").and_then(|it| it.split_once('-'));
    Ok(parsed.and_then(|(first, last)| match (first.trim(), last.trim()) {
        ("", last) => last.parse().ok().map(RangeAsked::Suffix),
        (first, "") => first.parse().ok().map(RangeAsked::From),
        (first, last) => {
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some(RangeAsked::Between(first, last))
        }
    }))
}

fn copy_source(headers: &HeaderMap) -> Result<Option<Place>, Refusal> {
    let Some(source) = text(headers, COPY_SOURCE)? else { return Ok(None) };
    let source = place(&source)?;
    if source.key.is_empty() {
        return Err(Refusal::invalid_argument("The copy source names no key."));
    }
    Ok(Some(source))
}

fn copy_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(text) = text(headers, "x-amz-copy-source-range")? else { return Ok(None) };
    let pair = text.strip_prefix("bytes=").and_then(|it| it.split_once('-'));
    let pair = pair.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    pair.map(Some).ok_or_else(|| Refusal::invalid_argument("The copy source range is wrong."))
}

/// Copies what is kept: a header's own bytes would hold the connection's buffer.
fn attributes(headers: &HeaderMap) -> Attributes {
    let kept = headers.iter().filter(|(name, _)| {
        KEPT_HEADERS.contains(name) || name.as_str().starts_with(METADATA_PREFIX)
    });
    let copied = kept.filter_map(|(name, value)| {
        Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    copied.collect()
}

#[cfg(test)]
mod tests;
