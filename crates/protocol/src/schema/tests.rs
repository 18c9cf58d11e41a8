//! The grammar, by what it accepts and what it refuses.

use super::*;

fn data(fields: &str) -> Result<Definition, SchemaError> {
    parse("thing", &format!("data Thing\nversions 0-3\nflexible 2+\nfields\n{fields}"))
}

#[test]
fn a_definition_says_what_it_says() {
    let text = "# Head.\n#\n# More.\n\napi Thing 7\nversions 1-3\nadvertised 0-2\nflexible 2+\n\
                latest unstable\n\nrequest\n  # About it.\n  one: string?2+ 1+ @0:3+ = null\n  \
                two: [Inner]\n    three: bool = true\n\nresponse\n  four: int16 0 classic = -4\n";
    let definition = parse("thing", text).expect("well-formed");
    assert_eq!(definition.about, ["Head.", "", "More."]);
    let api = Api { name: "Thing".to_owned(), key: 7, advertised: (0, 2) };
    assert_eq!(definition.api, Some(api));
    let [request, response] = &definition.messages[..] else { panic!("two messages") };
    assert_eq!((request.name.as_str(), response.name.as_str()), ("ThingRequest", "ThingResponse"));
    assert_eq!((request.range(), request.latest_unstable), ((1, 3), true));
    assert_eq!(request.flexible, Versions::Range(2, None));
    let one = &request.fields[0];
    assert_eq!(one.about, ["About it."]);
    assert_eq!(one.nullable, Versions::Range(2, None));
    assert_eq!(one.versions, Versions::Range(1, None));
    assert_eq!(one.tag, Some(Tag { number: 0, versions: Versions::Range(3, None) }));
    assert_eq!(one.default, Default::Null);
    assert_eq!(request.fields[1].kind.kafka_name(), "[]Inner");
    let inner = request.find("Inner").expect("it is defined");
    assert_eq!(inner.fields[0].default, Default::Bool(true));
    let four = &response.fields[0];
    assert_eq!((four.classic, &four.default), (true, &Default::Integer(-4)));
    assert_eq!(four.versions, Versions::Range(0, Some(0)));
}

#[test]
fn versions_print_as_they_are_read() {
    for text in ["none", "0", "4", "2-7", "9+"] {
        assert_eq!(Versions::read(text).expect(text).to_string(), text);
    }
    for text in ["", "7-2", "-1", "+", "1-", "x", "1+2", "-1+"] {
        assert_eq!(Versions::read(text), None, "{text}");
    }
}

#[test]
fn what_breaks_a_rule_is_refused() {
    for (fields, problem) in [
        ("  a: Absent\n", "not defined yet"),
        ("  a: [A]\n    b: [A]\n", "not defined yet"),
        ("  a: [A]\n    c: A\n      d: bool\n", "defined twice"),
        ("  a: A\n    c: bool\n  b: A\n    c: bool\n", "defined twice"),
        ("  a: bool\n  a: bool\n", "appears twice"),
        ("  a: bool 2+ @1\n", "S2"),
        ("  a: bool @0\n", "S2"),
        ("  a: records\n", "S3"),
        ("  a: records? 2+ @0\n", "S3"),
        ("  a: A 2+ @0\n    b: records?\n", "S3"),
        ("  a: [records]\n", "S3"),
        ("  a: [A]\n    b: bool 1+\n", "S4"),
        ("  a: [A]\n    b: B\n      c: bool 1+\n", "S4"),
        ("  a: A?1+\n    b: bool\n", "S5"),
        ("  a: bool\n    b: bool\n", "only a struct has fields"),
        ("  a: [[bool]]\n", "no arrays of arrays"),
        ("  a: boolean\n", "not a type"),
        ("  a bool\n", "a field is"),
        ("  a: bool x\n", "no range of versions"),
        ("  a: int32 = x\n", "not a number"),
        ("    a: bool\n  b: bool\n", "indented like nothing"),
    ] {
        let error = data(fields).map(|_| fields).expect_err(fields).to_string();
        assert!(error.contains(problem), "{fields}: {error}");
    }
    assert!(data("  a: [A]\n    b: bool 2+\n  c: A\n").is_err(), "empty in 0 and 1");
    assert!(data("  a: [A] 2+\n    b: bool 3+\n").is_ok(), "flexible: there is the tags' count");
    assert_eq!(data("  a: bool\n  b: what\n").unwrap_err().line, 6);
    assert!(parse("thing", "").is_err());
    assert!(parse("thing", "data Thing\nversions 0+\nflexible none\nfields\n").is_err());
}
