//! As much XML as S3's documents need: writing elements, and reading the two bodies that clients send.
//!
//! Reading knows elements by their name without a prefix, the five named entities and numeric ones.
//! Deliberately absent: attributes, CDATA, anything that nests in itself.

/// A document that is being written.
#[derive(Debug)]
pub(crate) struct Document {
    text: String,
}

impl Document {
    pub(crate) fn new() -> Document {
        Document { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() }
    }

    pub(crate) fn open(&mut self, name: &str) {
        self.text.extend(["<", name, ">"]);
    }

    pub(crate) fn close(&mut self, name: &str) {
        self.text.extend(["</", name, ">"]);
    }

    /// An element with text in it.
    pub(crate) fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\'' => self.text.push_str("&apos;"),
                // What a parser would otherwise normalise or refuse.
                it if it < ' ' => self.text.push_str(&format!("&#{};", u32::from(it))),
                it => self.text.push(it),
            }
        }
        self.close(name);
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// The raw contents of every `<name>…</name>` in `text`, in order; `None` when one is never closed.
pub(crate) fn elements<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let (opening, closing) = (format!("<{name}"), format!("</{name}>"));
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(&opening) {
        rest = &rest[at + opening.len()..];
        // `<Key` is also how `<KeyCount>` starts.
        if !rest.starts_with(['>', ' ', '/', '\t', '\r', '\n']) {
            continue;
        }
        let head = rest.find('>')?;
        if rest[..head].ends_with('/') {
            found.push("");
            rest = &rest[head + 1..];
            continue;
        }
        let end = rest.find(&closing)?;
        found.push(rest.get(head + 1..end)?);
        rest = &rest[end + closing.len()..];
    }
    Some(found)
}

/// The text of the only `<name>` in `text`; `None` when there is not exactly one, or an entity is wrong.
pub(crate) fn only(text: &str, name: &str) -> Option<String> {
    match elements(text, name)?.as_slice() {
        [one] => unescaped(one),
        _ => None,
    }
}

fn unescaped(text: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        let end = rest[at..].find(';')? + at;
        plain.push(match &rest[at + 1..end] {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => {
                let number = number.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = &rest[end + 1..];
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["", "plain", "a&b<c>d\"e'f", "tab\tand\nline\r", "ü€𝄞"] {
            let mut document = Document::new();
            document.open("Object");
            document.leaf("Key", text);
            document.close("Object");
            assert_eq!(only(&document.finish(), "Key").as_deref(), Some(text));
        }
    }

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let text =
            "<Delete xmlns=\"x\"><KeyCount>1</KeyCount><Key >a</Key><Key/><Key>b</Key></Delete>";
        assert_eq!(elements(text, "Key"), Some(vec!["a", "", "b"]));
        assert_eq!(elements(text, "Absent"), Some(vec![]));
        assert_eq!(elements("<Key>a", "Key"), None);
        assert_eq!(elements("<Key", "Key"), Some(vec![]));
    }

    #[test]
    fn wrong_entities_are_refused() {
        assert_eq!(unescaped("&#x41;&#66;"), Some("AB".to_owned()));
        for wrong in ["&", "&amp", "&nbsp;", "&#xD800;", "&#;"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
