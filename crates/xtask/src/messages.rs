//! `cargo xtask messages`: are our message definitions Kafka's?
//!
//! Owns: reading Kafka's own schemas (JSON with comments) and comparing field by field: order, name,
//! type, versions, nullable versions, default, tag, tagged and flexible versions; per message its
//! kind, key, valid and flexible versions and whether the newest is unstable.
//! Does not own: our definitions (`protocol::messages::definitions`), Kafka's files, which are not in
//! the repository.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use protocol::messages;
use protocol::schema::{Default, Field, Message, Role, Type, Versions};
use serde::Deserialize;

/// Compares with the folder `against`, which may have subfolders.
pub(crate) fn run(against: Option<&Path>) -> Result<()> {
    let definitions = messages::definitions();
    let messages: Vec<&Message> = definitions.iter().flat_map(|it| &it.messages).collect();
    let fields: usize = messages.iter().map(|it| count_fields(it)).sum();
    println!("{} messages with {fields} fields are well-formed", messages.len());
    let Some(against) = against else {
        println!("SKIPPED: no comparison with Kafka's definitions; give their folder by --against");
        return Ok(());
    };
    let files = schema_files(against)?;
    let mut differences = Vec::new();
    for message in messages {
        match files.get(&message.name) {
            Some(path) => {
                let schema = read(path)?;
                Comparison { differences: &mut differences, message, schema: &schema }.all();
            }
            None => differences.push(format!("{}: Kafka has no such message", message.name)),
        }
    }
    for difference in &differences {
        println!("{difference}");
    }
    ensure!(differences.is_empty(), "{} differences from Kafka's definitions", differences.len());
    println!("no difference from Kafka's definitions in {}", against.display());
    Ok(())
}

fn count_fields(message: &Message) -> usize {
    message.fields.len() + message.structs.iter().map(|it| it.fields.len()).sum::<usize>()
}

/// The `.json` files of a folder, by their stems, which are the messages' names.
fn schema_files(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "json")
                && let Some(stem) = path.file_stem().and_then(|it| it.to_str())
            {
                files.insert(stem.to_owned(), path.clone());
            }
        }
    }
    if files.is_empty() {
        bail!("{} holds no message definitions", folder.display());
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Schema> {
    let text = fs::read_to_string(path)?;
    serde_json::from_str(&without_comments(&text)).with_context(|| path.display().to_string())
}

/// Drops `// …` outside of strings.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let (mut quoted, mut escaped) = (false, false);
        let end = line.char_indices().find(|(place, letter)| {
            quoted ^= *letter == '"' && !escaped;
            escaped = *letter == '\\' && !escaped;
            !quoted && line[*place..].starts_with("//")
        });
        plain.push_str(end.map_or(line, |(end, _)| &line[..end]));
        plain.push('\n');
    }
    plain
}

/// One of Kafka's files. An attribute that we do not know is an error: it may matter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Schema {
    name: String,
    #[serde(rename = "type")]
    role: String,
    api_key: Option<i16>,
    valid_versions: String,
    flexible_versions: String,
    #[serde(default)]
    latest_version_unstable: bool,
    fields: Vec<SchemaField>,
    #[serde(default)]
    common_structs: Vec<CommonStruct>,
    /// On which listeners Kafka serves it: not a matter of bytes.
    #[serde(rename = "listeners")]
    _listeners: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommonStruct {
    name: String,
    fields: Vec<SchemaField>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SchemaField {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// A field that is only ever tagged may leave them out.
    versions: Option<String>,
    nullable_versions: Option<String>,
    tag: Option<u32>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    default: Option<serde_json::Value>,
    fields: Option<Vec<SchemaField>>,
    // What follows does not change the bytes.
    #[serde(rename = "about")]
    _about: Option<String>,
    #[serde(rename = "entityType")]
    _entity_type: Option<String>,
    #[serde(rename = "ignorable")]
    _ignorable: Option<bool>,
    #[serde(rename = "mapKey")]
    _map_key: Option<bool>,
    #[serde(rename = "zeroCopy")]
    _zero_copy: Option<bool>,
}

/// One message of ours beside Kafka's.
struct Comparison<'a> {
    differences: &'a mut Vec<String>,
    message: &'a Message,
    schema: &'a Schema,
}

impl Comparison<'_> {
    fn all(&mut self) {
        let (message, schema) = (self.message, self.schema);
        let place = message.name.as_str();
        self.same(place, "name", &message.name, &schema.name);
        self.same(place, "kind", &role_name(message.role), &schema.role.as_str());
        self.same(place, "key", &format!("{:?}", message.key), &format!("{:?}", schema.api_key));
        self.same_versions(place, "valid versions", message.versions, &schema.valid_versions);
        self.same_versions(place, "flexible", message.flexible, &schema.flexible_versions);
        let unstable = schema.latest_version_unstable;
        self.same(place, "latest unstable", &message.latest_unstable, &unstable);
        self.fields(place, &message.fields, &schema.fields);
    }

    fn fields(&mut self, place: &str, ours: &[Field], kafkas: &[SchemaField]) {
        let names = |names: Vec<String>| names.join(", ");
        let our_names = names(ours.iter().map(|it| it.name.clone()).collect());
        let kafkas_names = names(kafkas.iter().map(|it| snake_case(&it.name)).collect());
        self.same(place, "fields", &our_names, &kafkas_names);
        for field in ours {
            if let Some(other) = kafkas.iter().find(|it| snake_case(&it.name) == field.name) {
                self.field(&format!("{place}.{}", field.name), field, other);
            }
        }
    }

    fn field(&mut self, place: &str, field: &Field, kafkas: &SchemaField) {
        self.same(place, "type", &field.kind.kafka_name(), &kafkas.kind);
        let versions = kafkas.versions.as_ref().or(kafkas.tagged_versions.as_ref());
        let versions = versions.map_or("none", String::as_str);
        self.same_versions(place, "versions", field.versions, versions);
        let nullable = kafkas.nullable_versions.as_deref().unwrap_or("none");
        self.same_versions(place, "nullable versions", field.nullable, nullable);
        let tag = field.tag.map(|it| it.number);
        self.same(place, "tag", &format!("{tag:?}"), &format!("{:?}", kafkas.tag));
        let tagged = field.tag.map_or(Versions::Never, |it| it.versions);
        let other = kafkas.tagged_versions.as_deref().unwrap_or("none");
        self.same_versions(place, "tagged versions", tagged, other);
        let classic = match kafkas.flexible_versions.as_deref() {
            None => false,
            Some("none") => true,
            Some(other) => {
                self.differences.push(format!("{place}: flexible in {other} only"));
                return;
            }
        };
        self.same(place, "classic encoding", &field.classic, &classic);
        let default = kafka_default(&field.kind, kafkas.default.as_ref());
        let ours = plain_default(&field.default);
        self.same(place, "default", &format!("{ours:?}"), &format!("{default:?}"));
        if let Some(name) = field.kind.struct_name() {
            let common = self.schema.common_structs.iter().find(|it| it.name == name);
            match (self.message.find(name), &kafkas.fields, common) {
                (Some(ours), Some(kafkas), _) => self.fields(place, &ours.fields, kafkas),
                (Some(ours), None, Some(common)) => {
                    self.fields(place, &ours.fields, &common.fields);
                }
                _ => self.differences.push(format!("{place}: Kafka defines no {name}")),
            }
        }
    }

    fn same_versions(&mut self, place: &str, what: &str, ours: Versions, kafkas: &str) {
        let kafkas = Versions::read(kafkas).map_or(kafkas.to_owned(), |it| it.to_string());
        self.same(place, what, &ours.to_string(), &kafkas);
    }

    fn same<T: PartialEq + Display>(&mut self, place: &str, what: &str, ours: &T, kafkas: &T) {
        if ours != kafkas {
            self.differences.push(format!("{place}: {what} is {ours}, Kafka has {kafkas}"));
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Request => "request",
        Role::Response => "response",
        Role::Header => "header",
        Role::Data => "data",
        Role::CoordinatorKey => "coordinator-key",
        Role::CoordinatorValue => "coordinator-value",
    }
}

/// A default that is the type's own says nothing.
fn plain_default(default: &Default) -> Default {
    match default {
        Default::Bool(false) | Default::Integer(0) => Default::Plain,
        Default::Text(text) if text.is_empty() => Default::Plain,
        other => other.clone(),
    }
}

fn kafka_default(kind: &Type, default: Option<&serde_json::Value>) -> Default {
    let Some(value) = default else { return Default::Plain };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let unreadable = || Default::Text(format!("unreadable: {text}"));
    plain_default(&match (kind, text.as_str()) {
        (_, "null") => Default::Null,
        (Type::Bool, "true") => Default::Bool(true),
        (Type::Bool, "false") => Default::Bool(false),
        (Type::String, text) => Default::Text(text.to_owned()),
        (Type::Int8 | Type::Int16 | Type::Uint16 | Type::Int32 | Type::Int64, text) => {
            match text.strip_prefix("0x") {
                Some(digits) => i64::from_str_radix(digits, 16),
                None => text.parse(),
            }
            .map_or_else(|_| unreadable(), Default::Integer)
        }
        _ => unreadable(),
    })
}

/// `TopicIdsOfISRs` is `topic_ids_of_is_rs`: a word starts at a capital that follows a small letter
/// or a digit, or that a small letter follows.
fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (place, letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|it| letters[it]);
        let small_after = letters.get(place + 1).is_some_and(char::is_ascii_lowercase);
        let starts = before.is_some_and(|it| !it.is_ascii_uppercase() || small_after);
        if letter.is_ascii_uppercase() && starts {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (kafkas, ours) in [
            ("TopicData", "topic_data"),
            ("timeoutMs", "timeout_ms"),
            ("LastKnownElr", "last_known_elr"),
            ("Enable2Pc", "enable2_pc"),
            ("ISRNodes", "isr_nodes"),
        ] {
            assert_eq!(snake_case(kafkas), ours);
        }
    }

    #[test]
    fn comments_go_and_strings_stay() {
        let text = "// head\n{ \"a\": \"http://b \\\" // c\", // d\n \"e\": 1 }";
        assert_eq!(without_comments(text), "\n{ \"a\": \"http://b \\\" // c\", \n \"e\": 1 }\n");
    }

    /// Goal: nothing that matters can differ in silence. Method: one schema of our own, equal but for
    /// what each line plants.
    #[test]
    fn every_planted_difference_is_found() {
        let ours = "data Thing\nversions 0-2\nflexible 2+\nfields\n  some_name: string? 1+ @0:2+ = null\n  \
                    list: [Inner]\n    number: int32 = -1\n";
        let definition = protocol::schema::parse("thing", ours).expect("well-formed");
        let same = r#"{ "type": "data", "name": "Thing", "validVersions": "0-2", "flexibleVersions": "2+",
            "fields": [
              { "name": "SomeName", "type": "string", "versions": "1+", "nullableVersions": "1+",
                "tag": 0, "taggedVersions": "2+", "default": "null", "about": "text" },
              { "name": "List", "type": "[]Inner", "versions": "0+", "fields": [
                { "name": "Number", "type": "int32", "versions": "0+", "default": "-1" } ] } ] }"#;
        let differences = |text: &str| {
            let schema: Schema = serde_json::from_str(text).expect("well-formed");
            let mut differences = Vec::new();
            let message = &definition.messages[0];
            Comparison { differences: &mut differences, message, schema: &schema }.all();
            differences
        };
        assert_eq!(differences(same), Vec::<String>::new());
        for (was, is) in [
            (r#""data""#, r#""header""#),
            (r#""Thing""#, r#""Thong""#),
            (r#""0-2""#, r#""0-3""#),
            (r#""flexibleVersions": "2+""#, r#""flexibleVersions": "1+""#),
            (r#""SomeName""#, r#""OtherName""#),
            (r#""versions": "1+""#, r#""versions": "0+""#),
            (r#""nullableVersions": "1+","#, ""),
            (r#""tag": 0"#, r#""tag": 1"#),
            (r#""taggedVersions": "2+""#, r#""taggedVersions": "1+""#),
            (r#", "default": "null""#, ""),
            (r#""int32""#, r#""int16""#),
            (r#""-1""#, r#""-2""#),
            (r#""about": "text""#, r#""flexibleVersions": "none""#),
            (r#""validVersions""#, r#""latestVersionUnstable": true, "validVersions""#),
            (r#""validVersions""#, r#""apiKey": 7, "validVersions""#),
        ] {
            assert_eq!(differences(&same.replacen(was, is, 1)).len(), 1, "{was} -> {is}");
        }
    }
}
