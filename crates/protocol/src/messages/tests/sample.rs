//! Random values of any message, written by an encoder that interprets the definitions. It shares
//! nothing with `wire` and the generated code, so that both would have to be wrong alike.

use bytes::{BufMut, BytesMut};

use super::schema::{Default, Field, Message, Struct, Type, Versions};

/// Splitmix64: deterministic and small.
#[derive(Debug, Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// What kind of values to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// The defaults.
    Default,
    /// Anything; arrays up to `elements_max`, tagged fields one time in `tag_one_in`.
    Random { elements_max: usize, tag_one_in: usize },
    /// Empty values and zeros; arrays of `count` elements at `depth`, of one above, empty below.
    Lean { depth: usize, count: usize },
}

impl Shape {
    pub(super) fn random(seed: u64) -> Shape {
        Shape::Random {
            elements_max: [1, 3, 5][seed as usize % 3],
            tag_one_in: 1 + seed as usize % 4,
        }
    }
}

/// A value with enough said to write it.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Fixed(Vec<u8>),
    Text(Option<Vec<u8>>),
    Blob(Option<Vec<u8>>),
    Array(Option<Vec<Value>>),
    Struct(Vec<(Field, Value)>),
    NullableStruct(Option<Vec<(Field, Value)>>),
}

pub(super) struct Sampler<'a> {
    message: &'a Message,
    version: i16,
    shape: Shape,
    root: Value,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(message: &'a Message, version: i16, seed: u64, shape: Shape) -> Sampler<'a> {
        let mut sampler = Sampler { message, version, shape, root: Value::Text(None) };
        let mut random = Random(seed);
        sampler.root = Value::Struct(sampler.members(&message.fields, &mut random, 0));
        sampler
    }

    pub(super) fn canonical(&self) -> BytesMut {
        let mut out = BytesMut::new();
        self.write(&self.root, false, None, &mut out);
        out
    }

    /// The same values among unknown tagged fields.
    pub(super) fn decorated(&self) -> BytesMut {
        let mut out = BytesMut::new();
        self.write(&self.root, false, Some(&mut Random(7)), &mut out);
        out
    }

    fn flexible(&self) -> bool {
        self.message.flexible.contains(self.version)
    }

    fn members(&self, fields: &[Field], random: &mut Random, depth: usize) -> Vec<(Field, Value)> {
        let carried = fields.iter().filter(|it| it.versions.contains(self.version));
        carried.map(|it| (it.clone(), self.value(it, random, depth))).collect()
    }

    fn value(&self, field: &Field, random: &mut Random, depth: usize) -> Value {
        let tagged = self.is_tagged(field);
        match self.shape {
            Shape::Default => self.default(field),
            Shape::Lean { .. } if tagged => self.default(field),
            Shape::Lean { .. } => self.chosen(field, random, depth),
            Shape::Random { tag_one_in, .. } if tagged && !random.chance(tag_one_in) => {
                self.default(field)
            }
            Shape::Random { .. } => self.chosen(field, random, depth),
        }
    }

    fn is_tagged(&self, field: &Field) -> bool {
        field.tag.is_some_and(|tag| tag.versions.contains(self.version))
    }

    fn chosen(&self, field: &Field, random: &mut Random, depth: usize) -> Value {
        let nullable = field.nullable.contains(self.version);
        let null = match self.shape {
            Shape::Lean { .. } => nullable && !matches!(field.kind, Type::Array(_)),
            _ => nullable && random.chance(3),
        };
        match &field.kind {
            Type::String if null => Value::Text(None),
            Type::Bytes | Type::Records if null => Value::Blob(None),
            Type::Array(_) if null => Value::Array(None),
            Type::Array(element) => {
                let count = match self.shape {
                    Shape::Lean { depth: chosen, count } if depth == chosen => count,
                    Shape::Lean { depth: chosen, .. } => usize::from(depth < chosen),
                    Shape::Random { elements_max, .. } => random.below(elements_max + 1),
                    Shape::Default => 0,
                };
                let elements = (0..count).map(|_| self.plain(element, random, depth + 1));
                Value::Array(Some(elements.collect()))
            }
            Type::Struct(name) if field.nullable != Versions::Never => {
                let members = || self.members(&self.find(name).fields, random, depth);
                Value::NullableStruct((!null).then(members))
            }
            kind => self.plain(kind, random, depth),
        }
    }

    fn find(&self, name: &str) -> &Struct {
        self.message.find(name).expect("definitions are checked")
    }

    /// A value that is not null.
    fn plain(&self, kind: &Type, random: &mut Random, depth: usize) -> Value {
        let lean = matches!(self.shape, Shape::Lean { .. });
        let mut fixed = |length: usize| {
            let word = if lean { 0 } else { random.next() };
            Value::Fixed(word.to_be_bytes().repeat(2)[16 - length..].to_vec())
        };
        match kind {
            Type::Bool => Value::Fixed(vec![u8::from(!lean && random.chance(2))]),
            Type::Int8 => fixed(1),
            Type::Int16 | Type::Uint16 => fixed(2),
            Type::Int32 => fixed(4),
            Type::Int64 => fixed(8),
            Type::Uuid => fixed(16),
            Type::String if lean => Value::Text(Some(Vec::new())),
            Type::String => {
                const LETTERS: [&str; 4] = ["a", "é", "語", "🦀"];
                // Long enough at times for a compact length of two bytes.
                let length = if random.chance(8) { 150 } else { random.below(8) };
                let text: String = (0..length).map(|_| LETTERS[random.below(4)]).collect();
                Value::Text(Some(text.into_bytes()))
            }
            Type::Bytes | Type::Records if lean => Value::Blob(Some(Vec::new())),
            Type::Bytes | Type::Records => {
                let length = if random.chance(8) { 20_000 } else { random.below(50) };
                Value::Blob(Some((0..length).map(|_| random.next() as u8).collect()))
            }
            Type::Struct(name) => {
                Value::Struct(self.members(&self.find(name).fields, random, depth))
            }
            Type::Array(_) => unreachable!("no arrays of arrays"),
        }
    }

    fn default(&self, field: &Field) -> Value {
        let nullable_struct = field.nullable != Versions::Never;
        let null = field.default == Default::Null && field.nullable.contains(self.version);
        let integer = match field.default {
            Default::Integer(value) => value,
            Default::Bool(value) => i64::from(value),
            _ => 0,
        };
        let fixed = |length: usize| Value::Fixed(integer.to_be_bytes()[8 - length..].to_vec());
        match &field.kind {
            Type::Bool | Type::Int8 => fixed(1),
            Type::Int16 | Type::Uint16 => fixed(2),
            Type::Int32 => fixed(4),
            Type::Int64 => fixed(8),
            Type::Uuid => Value::Fixed(vec![0; 16]),
            Type::String if null => Value::Text(None),
            Type::String => match &field.default {
                Default::Text(text) => Value::Text(Some(text.clone().into_bytes())),
                _ => Value::Text(Some(Vec::new())),
            },
            Type::Records => Value::Blob(None),
            Type::Bytes if null => Value::Blob(None),
            Type::Bytes => Value::Blob(Some(Vec::new())),
            Type::Array(_) if null => Value::Array(None),
            Type::Array(_) => Value::Array(Some(Vec::new())),
            Type::Struct(_) if null => Value::NullableStruct(None),
            Type::Struct(name) => {
                let carried = |it: &&Field| it.versions.contains(self.version);
                let fields = self.find(name).fields.iter().filter(carried);
                let members = fields.map(|it| (it.clone(), self.default(it))).collect();
                if nullable_struct {
                    Value::NullableStruct(Some(members))
                } else {
                    Value::Struct(members)
                }
            }
        }
    }

    fn write(
        &self,
        value: &Value,
        classic: bool,
        mut extra: Option<&mut Random>,
        out: &mut BytesMut,
    ) {
        let compact = self.flexible() && !classic;
        match value {
            Value::Fixed(bytes) => out.put_slice(bytes),
            Value::Text(text) => {
                length(text.as_ref().map(Vec::len), compact, 2, out);
                out.put_slice(text.as_deref().unwrap_or_default());
            }
            Value::Blob(bytes) => {
                length(bytes.as_ref().map(Vec::len), compact, 4, out);
                out.put_slice(bytes.as_deref().unwrap_or_default());
            }
            Value::Array(elements) => {
                length(elements.as_ref().map(Vec::len), compact, 4, out);
                for element in elements.iter().flatten() {
                    self.write(element, classic, extra.as_deref_mut(), out);
                }
            }
            Value::Struct(members) => self.write_members(members, extra, out),
            Value::NullableStruct(None) => out.put_i8(-1),
            Value::NullableStruct(Some(members)) => {
                out.put_i8(1);
                self.write_members(members, extra, out);
            }
        }
    }

    fn write_members(
        &self,
        members: &[(Field, Value)],
        mut extra: Option<&mut Random>,
        out: &mut BytesMut,
    ) {
        for (field, value) in members.iter().filter(|(field, _)| !self.is_tagged(field)) {
            self.write(value, field.classic, extra.as_deref_mut(), out);
        }
        if !self.flexible() {
            return;
        }
        let mut tags = Vec::new();
        for (field, value) in members {
            let Some(tag) = field.tag.filter(|_| self.is_tagged(field)) else { continue };
            if *value != self.default(field) {
                let mut bytes = BytesMut::new();
                self.write(value, false, extra.as_deref_mut(), &mut bytes);
                tags.push((tag.number, bytes));
            }
        }
        tags.sort();
        if let Some(random) = extra {
            for number in [1000, 100_000, u32::MAX] {
                if random.chance(2) {
                    let size = random.below(200);
                    let bytes = BytesMut::from_iter((0..size).map(|_| random.next() as u8));
                    tags.insert(random.below(tags.len() + 1), (number, bytes));
                }
            }
        }
        uvarint(tags.len() as u32, out);
        for (number, bytes) in tags {
            uvarint(number, out);
            uvarint(bytes.len() as u32, out);
            out.put_slice(&bytes);
        }
    }
}

fn length(length: Option<usize>, compact: bool, size: usize, out: &mut BytesMut) {
    match (compact, length) {
        (true, length) => uvarint(length.map_or(0, |it| it as u32 + 1), out),
        (false, length) => out.put_int(length.map_or(-1, |it| it as i64), size),
    }
}

fn uvarint(mut value: u32, out: &mut BytesMut) {
    while 127 < value {
        out.put_u8((value & 127) as u8 + 128);
        value /= 128;
    }
    out.put_u8(value as u8);
}
