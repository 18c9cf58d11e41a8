//! Goal: parameters, variables and profiles become the settings they name, in their order, and what
//! cannot work is told before the store is asked.

use super::*;
use crate::{BucketLocation, OpenBucketError, StoreBucket};

fn open(text: &str, variables: &Variables) -> Result<StoreBucket, OpenBucketError> {
    let location = BucketLocation::parse(text).expect(text);
    StoreBucket::open(&location, variables, &Environment::simulated(1))
}

#[track_caller]
fn refused(text: &str, variables: &Variables, words: &str) {
    let error = open(text, variables).expect_err(text);
    let told = format!("{error} {}", error.advice());
    assert!(told.contains(words), "{told}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_told_before_the_store_is_asked() {
    let nothing = Variables::default();
    refused("az://c", &nothing, "?account=NAME");
    refused("s3://b?endpoint=http://127.0.0.1:1&profile=x", &nothing, "no profile x");
    refused(
        "s3://b?endpoint=http://127.0.0.1:1&sse=sse-c",
        &nothing,
        "AWS_SSE_CUSTOMER_KEY_BASE64",
    );
    refused("s3://b", &Variables::from([("AWS_ENDPOINT_URL", "127.0.0.1:9000")]), "is no URL");
    let half = Variables::from([("AWS_ACCESS_KEY_ID", "AKIA")]);
    refused("s3://b?endpoint=http://127.0.0.1:1", &half, "SecretAccessKey");
    let missing = Variables::from([("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json")]);
    refused("gs://b?endpoint=http://127.0.0.1:1", &missing, "/nonexistent.json");
}

#[tokio::test(start_paused = true)]
async fn clients_are_made_for_every_kind() {
    let aws = Variables::from([("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t")]);
    let azure = Variables::from([("AZURE_STORAGE_ACCOUNT_KEY", "czNjcjN0")]);
    for (text, variables) in [
        ("s3://b/p?endpoint=http://127.0.0.1:1&region=eu", &aws),
        ("s3://b?endpoint=http://127.0.0.1:1&virtual_hosted_style=true&checksum=crc64nvme", &aws),
        (
            "s3://b?endpoint=http://127.0.0.1:1&sse=aws:kms&sse_kms_key_id=k&sse_bucket_key=true",
            &aws,
        ),
        ("gs://b/p?endpoint=http://127.0.0.1:1&anonymous=true", &Variables::default()),
        ("az://c/p?account=a&endpoint=http://127.0.0.1:1", &azure),
        ("az://c?use_emulator=true", &Variables::default()),
    ] {
        let bucket = open(text, variables).expect(text);
        // Signatures, headers and connectors are in there; secrets must not be.
        let shown = format!("{bucket:?} {variables:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("czNjcjN0"), "{shown}");
    }
}

#[test]
fn limits_and_deadlines_are_parameters() {
    let text = "s3://b?foreground_requests_max=7&background_requests_max=3&request_timeout_ms=1500&\
                connect_timeout_ms=200&idle_connections_max=9";
    let Ok(BucketLocation::Remote(remote)) = BucketLocation::parse(text) else { panic!("{text}") };
    let options = store_options(&remote);
    assert_eq!((options.foreground_requests_max, options.background_requests_max), (7, 3));
    assert_eq!(options.attempt_timeout, Some(Duration::from_millis(1500)));
    assert!(options.listing_sorted);
    let transport = transport_options(&remote);
    assert_eq!(transport.connect_timeout, Duration::from_millis(200));
    assert_eq!(transport.idle_connections_max, 9);
    let Ok(BucketLocation::Remote(express)) = BucketLocation::parse("s3://b--use1-az4--x-s3")
    else {
        panic!("a directory bucket")
    };
    assert!(!store_options(&express).listing_sorted, "S3 Express lists in no order");
}
