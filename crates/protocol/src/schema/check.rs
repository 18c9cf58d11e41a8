//! What must hold across the fields of a message: S2 to S5 of `schema`.

use super::{Field, Message, Type, Versions};

/// The first rule broken, in words.
pub(super) fn check(message: &Message) -> Result<(), String> {
    fields(message, &message.fields, false)
}

fn fields(message: &Message, fields: &[Field], below_tag: bool) -> Result<(), String> {
    let mut tags: Vec<u32> = fields.iter().filter_map(|it| it.tag).map(|it| it.number).collect();
    tags.sort_unstable();
    if tags.iter().zip(0..).any(|(tag, place)| *tag != place) {
        return Err("tags are not 0, 1, 2 … (S2)".to_owned());
    }
    let (first, last) = message.range();
    for field in fields {
        let told = |rule: &str| Err(format!("{}: {rule}", field.name));
        let tagged = field.tag.is_some();
        for version in first..=last {
            let carried = field.versions.contains(version);
            let flexible = message.flexible.contains(version);
            if field.tag.is_some_and(|it| carried && it.versions.contains(version) && !flexible) {
                return told("tagged in a version that is not flexible (S2)");
            }
            let element = match &field.kind {
                Type::Array(element) => element.struct_name(),
                _ => None,
            };
            let empty = |name| !flexible && smallest(message, name, version) == 0;
            if carried && element.is_some_and(empty) {
                return told("an array's elements may be empty (S4)");
            }
        }
        match &field.kind {
            Type::Records if tagged || below_tag => return told("records are not tagged (S3)"),
            Type::Records if field.nullable == Versions::Never => {
                return told("records are nullable in some version (S3)");
            }
            Type::Array(element) if **element == Type::Records => {
                return told("no arrays of records (S3)");
            }
            Type::Struct(_)
                if field.nullable != Versions::Never && field.nullable != field.versions =>
            {
                return told("a struct is nullable in all of its versions or in none (S5)");
            }
            _ => (),
        }
        if let Some(inner) = field.kind.struct_name() {
            let inner = message.find(inner).ok_or("a struct is not defined (S1)")?;
            self::fields(message, &inner.fields, below_tag || tagged)?;
        }
    }
    Ok(())
}

/// The fewest fields of a struct that take a byte in a version: every one does, but an empty struct.
fn smallest(message: &Message, name: &str, version: i16) -> usize {
    let carried = |field: &&Field| {
        field.versions.contains(version)
            && field.tag.is_none_or(|tag| !tag.versions.contains(version))
            && match &field.kind {
                Type::Struct(inner) if field.nullable == Versions::Never => {
                    smallest(message, inner, version) != 0
                }
                _ => true,
            }
    };
    message.find(name).map_or(0, |found| found.fields.iter().filter(carried).count())
}
