use super::*;

fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> Result<Asked, Refusal> {
    let mut builder = hyper::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    parse(&builder.body(()).expect("a request").into_parts().0)
}

fn operation(method: &str, uri: &str, headers: &[(&str, &str)]) -> Operation {
    asked(method, uri, headers).expect("understood").operation()
}

#[test]
fn methods_and_parameters_choose_the_operation() {
    let copy = [("x-amz-copy-source", "/b/from")];
    for (method, uri, headers, expected) in [
        ("PUT", "/b", &[][..], Operation::Bucket),
        ("HEAD", "/b/", &[], Operation::Bucket),
        ("PUT", "/b/k", &[], Operation::Put),
        ("PUT", "/b/k?x-id=PutObject", &[], Operation::Put),
        ("PUT", "/b/k", &copy, Operation::Copy),
        ("GET", "/b/k", &[], Operation::Get),
        ("HEAD", "/b/k", &[], Operation::Head),
        ("DELETE", "/b/k", &[], Operation::Delete),
        ("POST", "/b?delete", &[], Operation::DeleteMany),
        ("GET", "/b?list-type=2&X-Amz-Signature=1", &[], Operation::List),
        ("POST", "/b/k?uploads", &[], Operation::CreateUpload),
        ("PUT", "/b/k?partNumber=1&uploadId=u", &[], Operation::UploadPart),
        ("PUT", "/b/k?partNumber=1&uploadId=u", &copy, Operation::UploadPart),
        ("POST", "/b/k?uploadId=u", &[], Operation::CompleteUpload),
        ("DELETE", "/b/k?uploadId=u", &[], Operation::AbortUpload),
        ("GET", "/b/k?uploadId=u", &[], Operation::ListParts),
    ] {
        assert_eq!(operation(method, uri, headers), expected, "{method} {uri}");
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    for (method, uri, headers, word) in [
        ("GET", "/", &[][..], "all buckets"),
        ("GET", "/b", &[], "GET of a bucket"),
        ("GET", "/b/k?tagging", &[], "tagging"),
        ("GET", "/b/k?versionId=1", &[], "versionId"),
        ("PATCH", "/b/k", &[], "PATCH"),
        ("PUT", "/b/k", &[("if-none-match", "\"a\"")], "If-None-Match"),
        ("PUT", "/b/k", &[("x-amz-content-sha256", "STREAMING-X")], "STREAMING-X"),
        ("GET", "/b/k", &[("if-modified-since", "now")], "if-modified-since"),
    ] {
        let refusal = asked(method, uri, headers).expect_err("not served");
        assert_eq!(refusal.status.as_u16(), 501, "{method} {uri}");
        assert!(refusal.message.contains(word), "{}", refusal.message);
    }
    for (uri, headers) in [
        ("/b/k?partNumber=0&uploadId=u", &[][..]),
        ("/b/k?partNumber=10001&uploadId=u", &[]),
        ("/b/%FF", &[]),
        ("/b/%4", &[]),
        ("/b/k", &[("x-amz-copy-source", "b")]),
    ] {
        let refusal = asked("PUT", uri, headers).expect_err("wrong");
        assert_eq!(refusal.status.as_u16(), 400, "{uri}");
    }
}

#[test]
fn keys_are_decoded_once() {
    let asked = asked("GET", "/b/a%2Fb/c%20d+e%25", &[]).expect("understood");
    assert_eq!((asked.place.bucket.as_str(), asked.place.key.as_str()), ("b", "a/b/c d+e%"));
    let plain = "ü /&=+%~";
    assert_eq!(decoded(&encoded(plain), false), Ok(plain.to_owned()));
}

#[test]
fn listing_parameters_are_taken() {
    let uri = "/b?list-type=2&prefix=a%2Fb+c&start-after=x&delimiter=%2F&max-keys=5000\
        &continuation-token=k6162&encoding-type=url";
    let Ok(Asked { action: Action::List { query, url_encoded }, .. }) = asked("GET", uri, &[])
    else {
        panic!("a listing");
    };
    let expected = ListQuery {
        prefix: "a/b c".to_owned(),
        start_after: "x".to_owned(),
        delimiter: "/".to_owned(),
        token: Some(Token::Key(b"ab".to_vec())),
        max_keys: 1000,
    };
    assert_eq!((query, url_encoded), (expected, true));
    for wrong in ["z00", "k0", "kxx", "", "ü"] {
        assert_eq!(Token::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn conditions_are_taken() {
    let condition = |headers: &[(&str, &str)]| match asked("PUT", "/b/k", headers) {
        Ok(Asked { action: Action::Put { condition, .. }, .. }) => condition,
        other => panic!("{other:?}"),
    };
    assert_eq!(condition(&[]), Condition::None);
    assert_eq!(condition(&[("if-none-match", "*")]), Condition::Absent);
    assert_eq!(condition(&[("if-match", "\"a\"")]), Condition::Matches("a".to_owned()));
    assert_eq!(condition(&[("if-match", "a")]), Condition::Matches("a".to_owned()));
}

#[test]
fn ranges_are_cut_to_the_object() {
    for (text, length, expected) in [
        ("bytes=0-0", 10, Some(0..1)),
        ("bytes=3-5", 10, Some(3..6)),
        ("bytes=3-99", 10, Some(3..10)),
        ("bytes=10-11", 10, None),
        ("bytes=9-", 10, Some(9..10)),
        ("bytes=10-", 10, None),
        ("bytes=-3", 10, Some(7..10)),
        ("bytes=-99", 10, Some(0..10)),
        ("bytes=-0", 10, None),
        ("bytes=-1", 0, None),
        ("bytes=0-18446744073709551615", 10, Some(0..10)),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("range", text.parse().expect("a value"));
        let asked = range(&headers).expect("text").expect("a range");
        assert_eq!(asked.within(length), expected, "{text} of {length}");
    }
    for ignored in ["bytes=5-3", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=-"] {
        let mut headers = HeaderMap::new();
        headers.insert("range", ignored.parse().expect("a value"));
        assert_eq!(range(&headers), Ok(None), "{ignored}");
    }
}
