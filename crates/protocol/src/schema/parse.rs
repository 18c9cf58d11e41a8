//! Reads one definition file.
//!
//! Owns: the grammar in the head of `schema`. Does not own: what must hold across fields (`check`).

use super::{
    Api, Default, Definition, Field, Message, Role, SchemaError, Struct, Tag, Type, Versions, check,
};

/// Parses the text of `module`.msg.
///
/// # Errors
/// The first line that does not fit the grammar or breaks S1 to S5.
pub fn parse(module: &str, text: &str) -> Result<Definition, SchemaError> {
    let mut parser = Parser { module, lines: lines(text), next: 0 };
    let definition = parser.file()?;
    for message in &definition.messages {
        check::check(message).map_err(|problem| SchemaError {
            module: module.to_owned(),
            line: 0,
            problem: format!("{}: {problem}", message.name),
        })?;
    }
    Ok(definition)
}

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
    /// The comment lines directly above.
    about: Vec<String>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut about = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            about.push(comment.strip_prefix(' ').unwrap_or(comment).to_owned());
        } else if trimmed.is_empty() {
            if !lines.is_empty() {
                about.clear(); // Only the head of the file may stand apart from what it is about.
            }
        } else {
            let indent = line.len() - line.trim_start().len();
            let about = std::mem::take(&mut about);
            lines.push(Line { number: index + 1, indent, text: trimmed, about });
        }
    }
    lines
}

struct Parser<'a> {
    module: &'a str,
    lines: Vec<Line<'a>>,
    next: usize,
}

/// What the lines above the fields say.
struct Head {
    versions: Versions,
    flexible: Versions,
    advertised: Option<Versions>,
    latest_unstable: bool,
}

impl<'a> Parser<'a> {
    fn file(&mut self) -> Result<Definition, SchemaError> {
        let about = self.lines.first().map(|line| line.about.clone()).unwrap_or_default();
        let mut definition =
            Definition { module: self.module.to_owned(), about, api: None, messages: Vec::new() };
        while let Some(line) = self.take(0) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let role = match words[0] {
                "api" => {
                    self.api(&words, &mut definition)?;
                    continue;
                }
                "header" => Role::Header,
                "data" => Role::Data,
                "coordinator-key" => Role::CoordinatorKey,
                "coordinator-value" => Role::CoordinatorValue,
                other => return Err(self.wrong(format!("`{other}` does not start a message"))),
            };
            let name = words.get(1).ok_or_else(|| self.wrong("a message has a name"))?;
            let key = match words.get(2) {
                Some(key) => Some(self.number(key)?),
                None => None,
            };
            let head = self.head()?;
            self.expect("fields")?;
            definition.messages.push(self.message((*name).to_owned(), role, key, &head)?);
        }
        if self.next < self.lines.len() {
            self.next += 1;
            return Err(self.wrong("indented like nothing above it"));
        }
        if definition.messages.is_empty() {
            return Err(self.wrong("the file defines nothing"));
        }
        Ok(definition)
    }

    fn api(&mut self, words: &[&str], definition: &mut Definition) -> Result<(), SchemaError> {
        let [_, name, key] = words else { return Err(self.wrong("expected `api Name Key`")) };
        let key = self.number(key)?;
        let head = self.head()?;
        self.expect("request")?;
        let request = self.message(format!("{name}Request"), Role::Request, Some(key), &head)?;
        self.expect("response")?;
        let mut response =
            self.message(format!("{name}Response"), Role::Response, Some(key), &head)?;
        response.latest_unstable = false; // Kafka marks requests only.
        let (first, last) = request.range();
        let stable = (first, last - i16::from(head.latest_unstable));
        let advertised = match head.advertised {
            Some(Versions::Range(first, Some(last))) => (first, last),
            Some(_) => return Err(self.wrong("advertised versions are a closed range")),
            None => stable,
        };
        definition.api = Some(Api { name: (*name).to_owned(), key, advertised });
        definition.messages.extend([request, response]);
        Ok(())
    }

    fn head(&mut self) -> Result<Head, SchemaError> {
        let (mut versions, mut flexible, mut advertised) = (None, None, None);
        let mut latest_unstable = false;
        while let Some(line) = self.lines.get(self.next) {
            let Some((word, rest)) = line.text.split_once(' ') else { break };
            self.next += 1;
            match word {
                "versions" => versions = Some(self.versions(rest)?),
                "flexible" => flexible = Some(self.versions(rest)?),
                "advertised" => advertised = Some(self.versions(rest)?),
                "latest" if rest == "unstable" => latest_unstable = true,
                _ => return Err(self.wrong(format!("`{word}` does not belong here"))),
            }
        }
        let (Some(versions), Some(flexible)) = (versions, flexible) else {
            return Err(self.wrong("a message has `versions` and `flexible`"));
        };
        if !matches!(versions, Versions::Range(_, Some(_))) {
            return Err(self.wrong("a message's versions are a closed range"));
        }
        Ok(Head { versions, flexible, advertised, latest_unstable })
    }

    fn message(
        &mut self,
        name: String,
        role: Role,
        key: Option<i16>,
        head: &Head,
    ) -> Result<Message, SchemaError> {
        let mut structs = Vec::new();
        let fields = self.fields(0, &mut structs)?;
        let (versions, flexible) = (head.versions, head.flexible);
        let latest_unstable = head.latest_unstable;
        Ok(Message { name, role, key, versions, flexible, latest_unstable, fields, structs })
    }

    /// The fields indented deeper than `outer`, all by the same amount.
    fn fields(
        &mut self,
        outer: usize,
        structs: &mut Vec<Struct>,
    ) -> Result<Vec<Field>, SchemaError> {
        let mut fields: Vec<Field> = Vec::new();
        let inner = self.lines.get(self.next).map_or(0, |line| line.indent);
        if inner <= outer {
            return Ok(fields);
        }
        while let Some(text) = self.take(inner) {
            let mut field = self.field(text)?;
            field.about = std::mem::take(&mut self.lines[self.next - 1].about);
            if fields.iter().any(|other| other.name == field.name) {
                return Err(self.wrong(format!("`{}` appears twice", field.name)));
            }
            let below = self.lines.get(self.next).is_some_and(|line| inner < line.indent);
            match (field.kind.struct_name().map(str::to_owned), below) {
                (Some(name), true) => self.nested(name, inner, structs)?,
                (Some(name), false) if structs.iter().any(|it| it.name == name) => (),
                (Some(name), false) => {
                    return Err(self.wrong(format!("`{name}` is not defined yet")));
                }
                (None, true) => return Err(self.wrong("only a struct has fields")),
                (None, false) => (),
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn nested(
        &mut self,
        name: String,
        indent: usize,
        structs: &mut Vec<Struct>,
    ) -> Result<(), SchemaError> {
        if structs.iter().any(|it| it.name == name) {
            return Err(self.wrong(format!("`{name}` is defined twice")));
        }
        let place = structs.len();
        let mut below = Vec::new();
        let fields = self.fields(indent, &mut below)?;
        for inner in &below {
            if inner.name == name || structs.iter().any(|it| it.name == inner.name) {
                return Err(self.wrong(format!("`{}` is defined twice", inner.name)));
            }
        }
        structs.insert(place, Struct { name, fields });
        structs.append(&mut below);
        Ok(())
    }

    fn field(&self, text: &str) -> Result<Field, SchemaError> {
        let (name, rest) =
            text.split_once(':').ok_or_else(|| self.wrong("a field is `name: type`"))?;
        let (rest, default) = match rest.split_once('=') {
            Some((rest, default)) => (rest, self.default(default.trim())?),
            None => (rest, Default::Plain),
        };
        let mut words = rest.split_whitespace();
        let kind = words.next().ok_or_else(|| self.wrong("a field has a type"))?;
        let (kind, nullable) = match kind.split_once('?') {
            Some((kind, "")) => (kind, None),
            Some((kind, versions)) => (kind, Some(self.versions(versions)?)),
            None => (kind, Some(Versions::Never)),
        };
        let (mut versions, mut tag, mut classic) = (Versions::ALL, None, false);
        for word in words {
            if word == "classic" {
                classic = true;
            } else if let Some(word) = word.strip_prefix('@') {
                tag = Some(word);
            } else {
                versions = self.versions(word)?;
            }
        }
        let tag = match tag.map(|tag| tag.split_once(':').unwrap_or((tag, ""))) {
            Some((number, "")) => Some(Tag { number: self.number(number)?, versions }),
            Some((number, tagged)) => {
                Some(Tag { number: self.number(number)?, versions: self.versions(tagged)? })
            }
            None => None,
        };
        Ok(Field {
            name: name.trim().to_owned(),
            about: Vec::new(),
            kind: self.kind(kind)?,
            versions,
            nullable: nullable.unwrap_or(versions),
            tag,
            classic,
            default,
        })
    }

    fn kind(&self, text: &str) -> Result<Type, SchemaError> {
        Ok(match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "uuid" => Type::Uuid,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "records" => Type::Records,
            _ => match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
                Some(element) => match self.kind(element)? {
                    Type::Array(_) => return Err(self.wrong("no arrays of arrays")),
                    element => Type::Array(Box::new(element)),
                },
                None if text.starts_with(|it: char| it.is_ascii_uppercase()) => {
                    Type::Struct(text.to_owned())
                }
                None => return Err(self.wrong(format!("`{text}` is not a type"))),
            },
        })
    }

    fn default(&self, text: &str) -> Result<Default, SchemaError> {
        Ok(match text {
            "null" => Default::Null,
            "true" => Default::Bool(true),
            "false" => Default::Bool(false),
            _ => match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(text) => Default::Text(text.to_owned()),
                None => Default::Integer(self.number(text)?),
            },
        })
    }

    fn versions(&self, text: &str) -> Result<Versions, SchemaError> {
        Versions::read(text).ok_or_else(|| self.wrong(format!("`{text}` is no range of versions")))
    }

    fn number<T: std::str::FromStr>(&self, text: &str) -> Result<T, SchemaError> {
        text.parse().map_err(|_| self.wrong(format!("`{text}` is not a number that fits here")))
    }

    /// The next line, if it is indented by exactly `indent`.
    fn take(&mut self, indent: usize) -> Option<&'a str> {
        let line = self.lines.get(self.next).filter(|line| line.indent == indent)?;
        self.next += 1;
        Some(line.text)
    }

    fn expect(&mut self, word: &str) -> Result<(), SchemaError> {
        match self.take(0) {
            Some(text) if text == word => Ok(()),
            _ => Err(self.wrong(format!("expected `{word}`"))),
        }
    }

    /// About the line read last.
    fn wrong(&self, problem: impl Into<String>) -> SchemaError {
        let line = self.next.checked_sub(1).and_then(|last| self.lines.get(last));
        SchemaError {
            module: self.module.to_owned(),
            line: line.map_or(0, |line| line.number),
            problem: problem.into(),
        }
    }
}
