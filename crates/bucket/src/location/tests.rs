use super::*;

#[track_caller]
fn remote(text: &str) -> RemoteLocation {
    match BucketLocation::parse(text) {
        Ok(BucketLocation::Remote(remote)) => remote,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, words: &[&str]) -> String {
    let error = BucketLocation::parse(text).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "{text}: {word:?} is not in {error:?}");
    }
    error
}

#[test]
fn directories_are_paths_or_uris() {
    for (text, path) in [
        ("/a/b", "/a/b"),
        ("a", "a"),
        ("./a:b", "./a:b"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("file:a", "a"),
    ] {
        let there = BucketLocation::Directory(PathBuf::from(path));
        assert_eq!(BucketLocation::parse(text), Ok(there), "{text}");
    }
    assert_eq!(BucketLocation::parse("memory:"), Ok(BucketLocation::Memory));
    refused("", &["empty", "s3://"]);
    refused("file:", &["no directory"]);
    refused("memory:x", &["no name"]);
    refused("ftp://x", &["\"ftp\"", "az://"]);
    refused("https://x", &["?endpoint=https://"]);
}

#[test]
fn remote_buckets_have_a_name_a_prefix_and_parameters() {
    for (text, kind, container, prefix) in [
        ("s3://b", RemoteKind::S3, "b", None),
        ("s3://my-bucket.eu/", RemoteKind::S3, "my-bucket.eu", None),
        ("s3a://b/a/b/", RemoteKind::S3, "b", Some("a/b")),
        ("gs://b/x", RemoteKind::Gcs, "b", Some("x")),
        ("az://c/x", RemoteKind::Azure, "c", Some("x")),
        ("azure://c", RemoteKind::Azure, "c", None),
        ("abfs://c/x", RemoteKind::Azure, "c", Some("x")),
    ] {
        let found = remote(text);
        assert_eq!((found.kind, found.container.as_str()), (kind, container), "{text}");
        assert_eq!(found.prefix, prefix.map(Key::new), "{text}");
    }
    let hadoop = remote("abfss://files@ours.dfs.core.windows.net/x");
    assert_eq!(hadoop.container, "files");
    assert_eq!(hadoop.parameter(Parameter::Account), Some("ours"));
    let kms = remote("s3://b?sse=aws:kms&sse_kms_key_id=arn%3Aaws:kms:eu:1:key/ab");
    assert_eq!(kms.parameter(Parameter::SseKmsKeyId), Some("arn:aws:kms:eu:1:key/ab"));
}

#[test]
fn a_location_prints_as_it_can_be_written() {
    for text in ["s3://b/p?endpoint=http://127.0.0.1:9000&region=eu", "gs://b", "az://c?account=a"]
    {
        assert_eq!(remote(text).to_string(), text);
        assert_eq!(remote(&remote(text).to_string()), remote(text));
    }
}

#[test]
fn what_is_not_known_is_refused_with_a_hint() {
    refused("s3:b", &["s3://NAME/PREFIX"]);
    refused("s3://", &["the name"]);
    refused("s3://b/a//b", &["prefix"]);
    refused("s3://b/../x", &["prefix"]);
    refused("s3://b?endpiont=http://x", &["did you mean endpoint?"]);
    refused("s3://b?aws_region=x", &["did you mean region?"]);
    refused("gs://b?region=x", &["not a parameter of Google Cloud Storage", "endpoint"]);
    refused("s3://b?region=a&region=b", &["twice"]);
    refused("s3://b?region=", &["given a value"]);
    refused("s3://b?region=%zz", &["percent-encoded"]);
    refused("s3://b?sse=aes", &["AES256", "sse-c"]);
    refused("s3://b?endpoint=127.0.0.1:9000", &["http://HOST:PORT"]);
    refused("s3://b?request_timeout_ms=0", &["at least 1"]);
    refused("s3://b?anonymous=yes", &["true or false"]);
    refused("abfss://c@elsewhere.example/x", &["ACCOUNT.dfs.core.windows.net"]);
}

#[test]
fn secrets_are_refused_and_not_repeated() {
    for text in [
        "s3://AKIA:hunter2@b/x",
        "s3://b?secret_access_key=hunter2",
        "s3://b?aws_access_key_id=hunter2",
        "s3://b?AWS-Session-Token=hunter2",
        "s3://b?sse_customer_key_base64=hunter2",
        "s3://b?X-Amz-Signature=hunter2",
        "s3://b?endpoint=https://me:hunter2@host",
        "gs://b?service_account_key=hunter2",
        "az://c?sas_token=hunter2",
        "az://c?access_key=hunter2",
        "az://me:hunter2@a.dfs.core.windows.net/x",
    ] {
        let error = refused(text, &["secret", "put it into"]);
        assert!(!error.contains("hunter2"), "{error}");
    }
}
