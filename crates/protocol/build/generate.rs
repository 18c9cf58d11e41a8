//! Writes the Rust code of the messages.
//!
//! Owns: names and shapes of generated types, which code runs in which version.
//! Does not own: how a value looks on the wire (`wire`), the definitions (`schema`).
//!
//! The code is straight-line: one `if` per field that not all versions carry, a call into `wire`
//! for the value. No macros and few generics, so that it compiles fast.

use std::fmt::Write;

use crate::schema::{Default, Definition, Field, Message, Role, Type, Versions};

const RUST_KEYWORDS: &[&str] = &["type", "match", "ref", "move", "loop", "use", "where", "static"];

/// All messages, the API keys and the definitions' texts.
pub(crate) fn messages(definitions: &[Definition]) -> String {
    let mut out = String::new();
    for definition in definitions {
        module(&mut out, definition);
    }
    api_keys(&mut out, definitions);
    sources(&mut out, definitions);
    out
}

/// A list of all messages, for tests that go through all of them.
pub(crate) fn probes(definitions: &[Definition]) -> String {
    let mut out = "&[\n".to_owned();
    for definition in definitions {
        for message in &definition.messages {
            let module = &definition.module;
            put(
                &mut out,
                &format!("Probe::of::<{module}::{}>({:?}),", root_name(message), message.name),
            );
        }
    }
    out.push(']');
    out
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn docs(out: &mut String, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(out, "#[doc = {:?}]", lines.join("\n")); // Writing to a string cannot fail.
    }
}

fn root_name(message: &Message) -> &str {
    match message.role {
        Role::Request => "Request",
        Role::Response => "Response",
        Role::Header | Role::Data | Role::CoordinatorKey | Role::CoordinatorValue => &message.name,
    }
}

const IMPORTS: &str = "use bytes::{Bytes, BytesMut};\n\
    use vocabulary::TopicId;\n\
    use crate::wire::{DecodeError, Decoder, Encoder, Message, RecordChunks};";

fn module(out: &mut String, definition: &Definition) {
    docs(out, &definition.about);
    put(out, &format!("pub mod {} {{", definition.module));
    put(out, IMPORTS);
    if let Some(api) = &definition.api {
        let name = &api.name;
        put(
            out,
            &format!("/// The API {name}.\n#[derive(Debug, Clone, Copy)]\npub struct {name};"),
        );
        put(out, &format!("impl crate::messages::Api for {name} {{"));
        put(out, &format!("const KEY: crate::messages::ApiKey = crate::messages::ApiKey::{name};"));
        put(out, "type Request = Request;\ntype Response = Response;\n}");
    }
    for message in &definition.messages {
        let writer = Writer { message };
        let inner = match message.role {
            Role::Request => Some("request"),
            Role::Response => Some("response"),
            Role::Header | Role::Data | Role::CoordinatorKey | Role::CoordinatorValue => None,
        };
        if let Some(inner) = inner.filter(|_| !message.structs.is_empty()) {
            put(
                out,
                &format!("pub use self::{inner}::{};\npub mod {inner} {{", root_name(message)),
            );
            put(out, IMPORTS);
        }
        writer.structure(out, root_name(message), &message.fields);
        for nested in &message.structs {
            writer.structure(out, &nested.name, &nested.fields);
        }
        if inner.is_some() && !message.structs.is_empty() {
            put(out, "}");
        }
    }
    put(out, "}");
}

/// Writes the structs of one message.
struct Writer<'a> {
    message: &'a Message,
}

impl Writer<'_> {
    fn structure(&self, out: &mut String, name: &str, fields: &[Field]) {
        let plain = fields.iter().all(|field| self.default_is_rusts(field));
        let derived = if plain { ", Default" } else { "" };
        put(out, &format!("#[derive(Debug, Clone, PartialEq{derived})]\npub struct {name} {{"));
        for field in fields {
            docs(out, &field.about);
            put(out, &format!("pub {}: {},", rust_name(field), self.rust_type(field)));
        }
        put(out, "}");
        if !plain {
            put(out, &format!("impl Default for {name} {{\nfn default() -> {name} {{\n{name} {{"));
            for field in fields {
                put(out, &format!("{}: {},", rust_name(field), self.default(field)));
            }
            put(out, "}\n}\n}");
        }
        put(out, &format!("impl Message for {name} {{"));
        self.decode(out, name, fields);
        self.encode(out, fields);
        put(out, "}");
    }

    fn decode(&self, out: &mut String, name: &str, fields: &[Field]) {
        put(
            out,
            &format!(
                "fn decode(source: &mut Decoder, version: i16) -> Result<{name}, DecodeError> {{"
            ),
        );
        put(out, &self.flexible_line());
        put(out, &format!("let mut message = {name}::default();"));
        for field in fields {
            let line = format!("message.{} = {};", rust_name(field), self.decoded(field));
            if let Some(line) = guarded(self.untagged(field), &line) {
                put(out, &line);
            }
        }
        if self.flexible() != "false" {
            let mut tags = String::new();
            let tagged = fields.iter().filter_map(|it| it.tag.map(|tag| (it, tag)));
            for (field, tag) in tagged {
                let guard = match self.when(tag.versions) {
                    When::Never => continue,
                    When::Always => String::new(),
                    When::If(condition) => format!(" if {condition}"),
                };
                let place = rust_name(field);
                let line =
                    format!("{}{guard} => message.{place} = {},", tag.number, self.decoded(field));
                put(&mut tags, &line);
            }
            let lines = if tags.is_empty() {
                "source.skip_tags()?;".to_owned()
            } else {
                format!(
                    "let mut tags = source.tags()?;\n\
                     while let Some(tag) = source.next_tag(&mut tags)? {{\nmatch tag {{\n{tags}\
                     _ => source.skip_tag(),\n}}\n}}"
                )
            };
            put(out, &guarded(self.when(self.message.flexible), &lines).unwrap_or_default());
        }
        put(out, "Ok(message)\n}");
    }

    fn encode(&self, out: &mut String, fields: &[Field]) {
        put(out, "fn encode(&self, sink: &mut Encoder, version: i16) {");
        put(out, &self.flexible_line());
        for field in fields {
            if let Some(line) = guarded(self.untagged(field), &self.encoded(field)) {
                put(out, &line);
            }
        }
        if self.flexible() != "false" {
            let (mut decide, mut count, mut write) = (String::new(), Vec::new(), String::new());
            let mut tagged: Vec<_> =
                fields.iter().filter_map(|it| it.tag.map(|tag| (it, tag))).collect();
            tagged.sort_by_key(|(_, tag)| tag.number);
            for (field, tag) in tagged {
                let condition = match self.when(tag.versions) {
                    When::Never => continue,
                    When::Always => String::new(),
                    When::If(condition) => format!("{condition} && "),
                };
                let (number, encoded) = (tag.number, self.encoded(field));
                let differs = self.differs(field);
                put(&mut decide, &format!("let tag_{number} = {condition}{differs};"));
                count.push(format!("u32::from(tag_{number})"));
                put(
                    &mut write,
                    &format!("if tag_{number} {{\nsink.tag({number}, |sink| {{ {encoded} }});\n}}"),
                );
            }
            let count = if count.is_empty() { "0".to_owned() } else { count.join(" + ") };
            let lines = format!("{decide}sink.uvarint({count});\n{write}");
            put(out, &guarded(self.when(self.message.flexible), &lines).unwrap_or_default());
        }
        put(out, "}");
    }

    /// Where `versions` hold, of those the message has.
    fn when(&self, versions: Versions) -> When {
        let (first, last) = self.message.range();
        let inside = |version: &i16| versions.contains(*version);
        let (Some(from), Some(to)) =
            ((first..=last).find(inside), (first..=last).rev().find(inside))
        else {
            return When::Never;
        };
        match (first < from, to < last) {
            (false, false) => When::Always,
            (true, false) => When::If(format!("{from} <= version")),
            (false, true) => When::If(format!("version <= {to}")),
            (true, true) => When::If(format!("({from}..={to}).contains(&version)")),
        }
    }

    /// Where the field is on the wire in its place, not as a tagged field.
    fn untagged(&self, field: &Field) -> When {
        match (self.when(field.versions), field.tag) {
            (when, None) => when,
            (_, Some(tag)) if tag.versions == field.versions => When::Never,
            (_, Some(tag)) => {
                // Carried in place first, tagged later: no message does it the other way around.
                let (first, last) = self.message.range();
                let place = |it: &i16| field.versions.contains(*it) && !tag.versions.contains(*it);
                match ((first..=last).find(place), (first..=last).rev().find(place)) {
                    (Some(from), Some(to)) => self.when(Versions::Range(from, Some(to))),
                    _ => When::Never,
                }
            }
        }
    }

    fn flexible(&self) -> &'static str {
        match self.when(self.message.flexible) {
            When::Always => "true",
            When::Never => "false",
            When::If(_) => "flexible",
        }
    }

    fn flexible_line(&self) -> String {
        match self.when(self.message.flexible) {
            When::If(condition) => format!("let flexible = {condition};"),
            When::Always | When::Never => String::new(),
        }
    }

    fn field_flexible(&self, field: &Field) -> &'static str {
        if field.classic { "false" } else { self.flexible() }
    }

    /// Whether null is legal, as an expression of the version.
    fn nullable(&self, field: &Field) -> String {
        let (first, last) = self.message.range();
        let carried = |it: &i16| field.versions.contains(*it);
        if (first..=last).filter(carried).all(|it| field.nullable.contains(it)) {
            return "true".to_owned();
        }
        match self.when(field.nullable) {
            When::Always => "true".to_owned(),
            When::Never => "false".to_owned(),
            When::If(condition) => condition,
        }
    }

    fn is_option(&self, field: &Field) -> bool {
        field.nullable != Versions::Never
    }

    fn rust_type(&self, field: &Field) -> String {
        let inner = match (&field.kind, self.message.role) {
            (Type::Records, Role::Response) => "RecordChunks".to_owned(),
            (kind, _) => value_type(kind),
        };
        if self.is_option(field) { format!("Option<{inner}>") } else { inner }
    }

    fn default_is_rusts(&self, field: &Field) -> bool {
        match &field.default {
            Default::Plain if field.kind == Type::Records => true,
            Default::Plain => !self.is_option(field),
            Default::Null => true,
            Default::Bool(value) => !value,
            Default::Integer(value) => *value == 0,
            Default::Text(text) => text.is_empty() && !self.is_option(field),
        }
    }

    fn default(&self, field: &Field) -> String {
        let value = match &field.default {
            Default::Null => return "None".to_owned(),
            // As in Kafka, where records default to null without saying so.
            Default::Plain if field.kind == Type::Records => return "None".to_owned(),
            Default::Bool(value) => value.to_string(),
            Default::Integer(value) => value.to_string(),
            Default::Text(text) if !text.is_empty() => format!("{text:?}.to_owned()"),
            Default::Text(_) => "String::new()".to_owned(),
            Default::Plain => match &field.kind {
                Type::Bool => "false".to_owned(),
                Type::Uuid => "TopicId::ZERO".to_owned(),
                Type::String => "String::new()".to_owned(),
                Type::Bytes => "Bytes::new()".to_owned(),
                Type::Array(_) => "Vec::new()".to_owned(),
                Type::Struct(name) => format!("{name}::default()"),
                _ => "0".to_owned(),
            },
        };
        if self.is_option(field) { format!("Some({value})") } else { value }
    }

    /// Whether a tagged field has to be written.
    fn differs(&self, field: &Field) -> String {
        let place = format!("self.{}", rust_name(field));
        match (&field.kind, &field.default) {
            (_, Default::Null) => format!("{place}.is_some()"),
            (Type::Bool, Default::Bool(true)) => format!("!{place}"),
            (Type::Bool, _) => place,
            (Type::String | Type::Bytes | Type::Array(_), Default::Plain)
                if !self.is_option(field) =>
            {
                format!("!{place}.is_empty()")
            }
            _ => format!("{place} != {}", self.default(field)),
        }
    }

    fn decoded(&self, field: &Field) -> String {
        let flexible = self.field_flexible(field);
        let null = self.is_option(field).then(|| self.nullable(field));
        match (&field.kind, null) {
            (Type::String, None) => format!("source.string({flexible})?"),
            (Type::String, Some(null)) => format!("source.nullable_string({flexible}, {null})?"),
            (Type::Bytes, None) => format!("source.bytes({flexible})?"),
            (Type::Bytes, Some(null)) => format!("source.nullable_bytes({flexible}, {null})?"),
            (Type::Records, _) if self.message.role == Role::Response => {
                format!("source.records({flexible})?.map(RecordChunks::from)")
            }
            (Type::Records, _) => format!("source.records({flexible})?"),
            (Type::Struct(name), None) => format!("{name}::decode(source, version)?"),
            (Type::Struct(name), Some(_)) => format!(
                "if source.present()? {{ Some({name}::decode(source, version)?) }} else {{ None }}"
            ),
            (Type::Array(element), null) => {
                let element = match &**element {
                    Type::Struct(name) => format!("|source| {name}::decode(source, version)"),
                    Type::String => format!("|source| source.string({flexible})"),
                    Type::Bytes => format!("|source| source.bytes({flexible})"),
                    scalar => format!("Decoder::{}", scalar.kafka_name()),
                };
                match null {
                    None => format!("source.array({flexible}, {element})?"),
                    Some(null) => {
                        format!("source.nullable_array({flexible}, {null}, {element})?")
                    }
                }
            }
            (scalar, _) => format!("source.{}()?", scalar.kafka_name()),
        }
    }

    fn encoded(&self, field: &Field) -> String {
        let flexible = self.field_flexible(field);
        let place = format!("self.{}", rust_name(field));
        let null = self.is_option(field).then(|| self.nullable(field));
        match (&field.kind, null) {
            (Type::String, None) => format!("sink.string({flexible}, &{place});"),
            (Type::String, Some(null)) => {
                format!("sink.nullable_string({flexible}, {null}, {place}.as_deref());")
            }
            (Type::Bytes, None) => format!("sink.bytes({flexible}, &{place});"),
            (Type::Bytes, Some(null)) => {
                format!("sink.nullable_bytes({flexible}, {null}, {place}.as_deref());")
            }
            (Type::Records, _) if self.message.role == Role::Response => {
                format!("sink.record_chunks({flexible}, {place}.as_ref());")
            }
            (Type::Records, _) => {
                format!("sink.nullable_bytes({flexible}, true, {place}.as_deref());")
            }
            (Type::Struct(_), None) => format!("{place}.encode(sink, version);"),
            (Type::Struct(_), Some(_)) => format!(
                "sink.int8(if {place}.is_some() {{ 1 }} else {{ -1 }});\n\
                 if let Some(it) = &{place} {{ it.encode(sink, version); }}"
            ),
            (Type::Array(element), null) => {
                let element = match &**element {
                    Type::Struct(_) => "|sink, it| it.encode(sink, version)".to_owned(),
                    Type::String => format!("|sink, it| sink.string({flexible}, it)"),
                    Type::Bytes => format!("|sink, it| sink.bytes({flexible}, it)"),
                    scalar => format!("|sink, it| sink.{}(*it)", scalar.kafka_name()),
                };
                match null {
                    None => format!("sink.array({flexible}, &{place}, {element});"),
                    Some(null) => format!(
                        "sink.nullable_array({flexible}, {null}, {place}.as_deref(), {element});"
                    ),
                }
            }
            (scalar, _) => format!("sink.{}({place});", scalar.kafka_name()),
        }
    }
}

/// In which of a message's versions some code runs.
enum When {
    Always,
    Never,
    /// An expression of `version`.
    If(String),
}

fn guarded(when: When, line: &str) -> Option<String> {
    match when {
        When::Always => Some(line.to_owned()),
        When::Never => None,
        When::If(condition) => Some(format!("if {condition} {{\n{line}\n}}")),
    }
}

fn value_type(kind: &Type) -> String {
    match kind {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Uuid => "TopicId".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Records => "BytesMut".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", value_type(element)),
    }
}

fn rust_name(field: &Field) -> String {
    let raw = if RUST_KEYWORDS.contains(&field.name.as_str()) { "r#" } else { "" };
    format!("{raw}{}", field.name)
}

fn api_keys(out: &mut String, definitions: &[Definition]) {
    let mut apis: Vec<_> =
        definitions.iter().filter_map(|it| it.api.as_ref().map(|api| (api, it))).collect();
    apis.sort_by_key(|(api, _)| api.key);
    let list = |row: &dyn Fn(&crate::schema::Api, &Message) -> String| -> String {
        apis.iter().map(|(api, definition)| row(api, &definition.messages[0]) + "\n").collect()
    };
    put(
        out,
        "/// The APIs defined here, by their number on the wire.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\npub enum ApiKey {",
    );
    out.push_str(&list(&|api, _| format!("{} = {},", api.name, api.key)));
    put(out, "}\nimpl ApiKey {\n/// All of them, by number.\npub const ALL: &[ApiKey] = &[");
    out.push_str(&list(&|api, _| format!("ApiKey::{},", api.name)));
    put(
        out,
        "];\n/// `None` when there is no such API, or not here.\n\
         pub fn from_i16(key: i16) -> Option<ApiKey> {\nmatch key {",
    );
    out.push_str(&list(&|api, _| format!("{} => Some(ApiKey::{}),", api.key, api.name)));
    put(
        out,
        "_ => None,\n}\n}\n/// Kafka's name: `Produce`.\n\
         pub fn name(self) -> &'static str {\nmatch self {",
    );
    out.push_str(&list(&|api, _| format!("ApiKey::{} => {:?},", api.name, api.name)));
    put(
        out,
        "}\n}\n/// The versions to serve. A version Kafka marks unstable is not among them.\n\
         pub fn valid_versions(self) -> RangeInclusive<i16> {\nmatch self {",
    );
    out.push_str(&list(&|api, request| {
        let (first, last) = request.range();
        let last = last - i16::from(request.latest_unstable);
        format!("ApiKey::{} => {first}..={last},", api.name)
    }));
    put(
        out,
        "}\n}\n/// The versions ApiVersions tells; wider than the valid ones for Produce \
         (KAFKA-18659).\n\
         pub fn advertised_versions(self) -> RangeInclusive<i16> {\nmatch self {",
    );
    out.push_str(&list(&|api, _| {
        format!("ApiKey::{} => {}..={},", api.name, api.advertised.0, api.advertised.1)
    }));
    put(out, "}\n}\n/// The first flexible version (KIP-482), if any is.");
    put(out, "fn first_flexible(self) -> Option<i16> {\nmatch self {");
    out.push_str(&list(&|api, request| {
        let first = match request.flexible {
            Versions::Never => "None".to_owned(),
            Versions::Range(first, _) => format!("Some({first})"),
        };
        format!("ApiKey::{} => {first},", api.name)
    }));
    put(out, "}\n}\n}");
}

fn sources(out: &mut String, definitions: &[Definition]) {
    put(out, "const SOURCES: &[(&str, &str)] = &[");
    for definition in definitions {
        let module = &definition.module;
        let file = format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/messages/{module}.msg\")");
        put(out, &format!("({module:?}, include_str!({file})),"));
    }
    put(out, "];");
}
