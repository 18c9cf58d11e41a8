use super::*;

fn objects() -> Objects {
    Objects::new(Quota::new(1 << 20), 0)
}

fn blob(objects: &Objects) -> Arc<Blob> {
    let charge = objects.quota.take(1).expect("room");
    let frames = vec![hyper::body::Bytes::from_static(b"x")];
    crate::content::Received { frames, length: 1, checksum: 7, charge }.in_memory()
}

fn place(key: &str) -> Place {
    Place { bucket: "b".to_owned(), key: key.to_owned() }
}

fn put(objects: &Objects, key: &str) {
    let condition = Condition::None;
    let stored = objects.put(&place(key), blob(objects), &condition, Attributes::new(), 0);
    assert!(stored.is_ok(), "{key}");
}

fn names(listing: &Listing) -> Vec<String> {
    let name = |entry: &Entry| match entry {
        Entry::Object { key, .. } => key.clone(),
        Entry::CommonPrefix(prefix) => format!("{prefix}*"),
    };
    listing.entries.iter().map(name).collect()
}

/// Every page size, prefix, delimiter and start, against a list made the slow way.
#[test]
fn listings_equal_the_slow_way() {
    let objects = objects();
    let keys = ["", "a", "a/", "a/b", "a/b/c", "a/b/d", "a0", "ab", "b/", "b//", "b//x", "c"];
    let keys: Vec<&str> = keys.into_iter().filter(|it| !it.is_empty()).collect();
    keys.iter().for_each(|key| put(&objects, key));
    for prefix in ["", "a", "a/", "a/b", "b/", "x"] {
        for delimiter in ["", "/", "b", "//"] {
            for start_after in ["", "a", "a/b", "a/zzz", "b", "zzz"] {
                let mut expected: Vec<String> = Vec::new();
                for key in keys.iter().filter(|it| it.starts_with(prefix) && start_after < **it) {
                    let inner = &key[prefix.len()..];
                    let name = match inner.find(delimiter).filter(|_| !delimiter.is_empty()) {
                        Some(at) => format!("{}*", &key[..prefix.len() + at + delimiter.len()]),
                        None => (*key).to_owned(),
                    };
                    if expected.last() != Some(&name) {
                        expected.push(name);
                    }
                }
                for max_keys in 1..=4 {
                    let mut query = ListQuery {
                        prefix: prefix.to_owned(),
                        start_after: start_after.to_owned(),
                        delimiter: delimiter.to_owned(),
                        token: None,
                        max_keys,
                    };
                    let mut seen = Vec::new();
                    loop {
                        let page = objects.list("b", &query);
                        assert!(page.entries.len() <= max_keys);
                        seen.extend(names(&page));
                        let Some(token) = page.next else { break };
                        query.token = Token::parse(&token.to_text());
                        assert_eq!(query.token, Some(token), "tokens survive their text");
                    }
                    assert_eq!(
                        seen, expected,
                        "{prefix:?} {delimiter:?} {start_after:?} {max_keys}"
                    );
                }
            }
        }
    }
    let none = ListQuery { max_keys: 0, ..ListQuery::default() };
    assert!(objects.list("b", &none).entries.is_empty());
}

#[test]
fn conditions_follow_the_object() {
    let objects = objects();
    let write = |condition: &Condition| {
        objects.put(&place("k"), blob(&objects), condition, Attributes::new(), 0)
    };
    let tagged = |tag: &str| Condition::Matches(tag.to_owned());
    let status = |outcome: Result<Object, Refusal>| outcome.map_err(|it| it.status.as_u16()).err();
    assert_eq!(status(write(&tagged("x"))), Some(404));
    assert_eq!(status(write(&Condition::Absent)), None);
    assert_eq!(status(write(&Condition::Absent)), Some(412));
    assert_eq!(status(write(&tagged("x"))), Some(412));
    assert_eq!(status(write(&tagged("*"))), None);
    let tag = objects.get(&place("k")).expect("there").etag.trim_matches('"').to_owned();
    assert_eq!(status(write(&tagged(&tag))), None);
    let refused = objects.delete(&place("k"), &tagged("x")).expect_err("another tag");
    assert_eq!(refused.status.as_u16(), 412);
    assert_eq!(objects.delete(&place("k"), &tagged(&tag)), Ok(()));
    assert_eq!(objects.delete(&place("k"), &Condition::None), Ok(()), "absent is fine");
}

#[test]
fn keys_have_a_bound_and_a_price() {
    let objects = objects();
    put(&objects, &"k".repeat(1024));
    let held = objects.quota.used();
    assert_eq!(held, 1 + 1024 + ENTRY_BYTES);
    let long = place(&"k".repeat(1025));
    let refused = objects.put(&long, blob(&objects), &Condition::None, Attributes::new(), 0).err();
    assert_eq!(refused.map(|it| it.code), Some("KeyTooLongError"));
    assert_eq!(objects.quota.used(), held, "nothing of it is kept");
}
