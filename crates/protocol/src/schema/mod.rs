//! The message definitions as data: what `messages/*.msg` say, parsed and checked.
//!
//! Owns: the text form (grammar below), its model, the checks that make generated code safe.
//! Does not own: Rust code (the build script generates it), bytes (`wire`).
//!
//! One file is one module of generated code; the comment at its head is that module's documentation.
//! A file holds one API (request and response) or some stand-alone messages:
//!
//! ```text
//! # What it does, and its traps.
//! api Produce 0                     # name and API key
//! versions 3-13                     # what Kafka calls validVersions
//! advertised 0-13                   # only where it differs from the stable versions
//! flexible 9+
//! latest unstable                   # only where Kafka hides its newest version
//!
//! request
//!   transactional_id: string? 3+ = null
//!   topic_data: [TopicProduceData]
//!     name: string 0-12
//!     records: records?
//! response
//!   node_endpoints: [NodeEndpoint] 10+ @0
//! ```
//!
//! A stand-alone message starts with `header`, `data`, `coordinator-key` or `coordinator-value` and its
//! name (and key), and lists its fields under `fields`. A field is
//! `name: TYPE[?[NULLABLE]] [VERSIONS] [@TAG[:TAGGED]] [classic] [= DEFAULT]`:
//! - TYPE is a scalar, `string`, `bytes`, `records`, a struct's name, or any of them in brackets;
//! - `?` makes it nullable in all of its versions, `?7+` in those;
//! - VERSIONS default to `0+`; a tagged field is tagged in all of its versions unless told;
//! - `classic` keeps the old length encoding in flexible versions (`client_id` only);
//! - a struct's fields are indented below its first use; later uses only name it.
//!
//! Invariants, checked while parsing:
//! - S1 a struct is used only after it is defined, so no message is recursive and depth is fixed;
//! - S2 tags of a struct are 0, 1, 2 … as Kafka demands, and tagged fields live in flexible versions;
//! - S3 `records` are nullable in some version (the code takes null in all), never tagged, never below a
//!   tagged field and never in an array;
//! - S4 the elements of an array take at least one byte in every version, so that the bytes
//!   present bound the count;
//! - S5 a struct is nullable in all of its versions or in none: the byte in front of it is there or not.

mod check;
mod parse;

use std::fmt;

pub use parse::parse;

/// A range of versions, as Kafka's schemas write it: `none`, `4`, `2-7`, `9+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    Never,
    /// First and last, both inclusive; no last means "and all later ones".
    Range(i16, Option<i16>),
}

impl Versions {
    pub const ALL: Versions = Versions::Range(0, None);

    pub fn contains(self, version: i16) -> bool {
        match self {
            Versions::Never => false,
            Versions::Range(first, last) => {
                first <= version && last.is_none_or(|last| version <= last)
            }
        }
    }

    /// `none`, `4`, `2-7` or `9+`; nothing else, in particular no empty range.
    pub fn read(text: &str) -> Option<Versions> {
        if text == "none" {
            return Some(Versions::Never);
        }
        let number = |text: &str| text.parse::<i16>().ok().filter(|it| 0 <= *it);
        if let Some(first) = text.strip_suffix('+') {
            return Some(Versions::Range(number(first)?, None));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(Versions::Range(first, Some(last)))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Versions::Never => f.write_str("none"),
            Versions::Range(first, None) => write!(f, "{first}+"),
            Versions::Range(first, Some(last)) if first == last => write!(f, "{first}"),
            Versions::Range(first, Some(last)) => write!(f, "{first}-{last}"),
        }
    }
}

/// The type of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Uuid,
    String,
    Bytes,
    /// A record set: sliced out of requests, gathered into responses.
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    /// The type as Kafka's schemas write it: `int32`, `[]string`, `TopicProduceData`.
    pub fn kafka_name(&self) -> String {
        let name = match self {
            Type::Bool => "bool",
            Type::Int8 => "int8",
            Type::Int16 => "int16",
            Type::Uint16 => "uint16",
            Type::Int32 => "int32",
            Type::Int64 => "int64",
            Type::Uuid => "uuid",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Records => "records",
            Type::Struct(name) => name,
            Type::Array(element) => return format!("[]{}", element.kafka_name()),
        };
        name.to_owned()
    }

    /// The struct this type mentions, if any.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

/// What a field holds when nobody set it, and when a version does not carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Default {
    /// Zero, false, empty, all-default: whatever the type's own is. Not null.
    Plain,
    Null,
    Bool(bool),
    Integer(i64),
    Text(String),
}

/// One field of a message or of a struct in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Kafka's name in snake case.
    pub name: String,
    /// The comment lines directly above it.
    pub about: Vec<String>,
    pub kind: Type,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<Tag>,
    /// Old-style lengths even in flexible versions.
    pub classic: bool,
    pub default: Default,
}

/// How a tagged field (KIP-482) is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub number: u32,
    pub versions: Versions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struct {
    /// Kafka's name of the nested type.
    pub name: String,
    pub fields: Vec<Field>,
}

/// What a message is to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
}

/// One message: a request, a response, a header, a record's key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Kafka's name: `ProduceRequest`.
    pub name: String,
    pub role: Role,
    /// The API key, or the record type of a coordinator's record.
    pub key: Option<i16>,
    pub versions: Versions,
    pub flexible: Versions,
    pub latest_unstable: bool,
    pub fields: Vec<Field>,
    /// In the order of first use; a struct comes after the structs it is used by.
    pub structs: Vec<Struct>,
}

impl Message {
    /// First and last version.
    pub fn range(&self) -> (i16, i16) {
        match self.versions {
            Versions::Range(first, last) => (first, last.unwrap_or(first)),
            Versions::Never => (0, -1),
        }
    }

    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|it| it.name == name)
    }
}

/// The API of a definition file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    pub name: String,
    pub key: i16,
    /// What ApiVersions answers.
    pub advertised: (i16, i16),
}

/// One `.msg` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The file's stem, which is the module's name.
    pub module: String,
    /// The comment at the head of the file.
    pub about: Vec<String>,
    pub api: Option<Api>,
    pub messages: Vec<Message>,
}

/// What is wrong in a definition, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    pub module: String,
    /// Counted from 1; 0 when it is about the whole file.
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.msg:{}: {}", self.module, self.line, self.problem)
    }
}

impl std::error::Error for SchemaError {}

#[cfg(test)]
mod tests;
