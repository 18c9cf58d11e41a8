//! The conformance suite against a store that somebody runs: the one `AQUIFER_TEST_STORE_URI` names, such as
//! `s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1`, with credentials where that store's
//! clients look for them. `cargo xtask test --only stores` runs it against servers on loopback.
//!
//! Without the variable there is nothing to do, which is said; with it, everything that does not hold is a
//! failure that names the broken promise.

use bucket::{BucketLocation, StoreBucket, Variables, conformance};
use environment::Environment;

const VARIABLE: &str = "AQUIFER_TEST_STORE_URI";

#[tokio::test]
async fn the_named_store_keeps_the_promises() {
    let Ok(uri) = std::env::var(VARIABLE) else {
        println!("skipped: {VARIABLE} names no store");
        return;
    };
    let environment = Environment::system();
    let location = BucketLocation::parse(&uri).expect("the variable names a store");
    let bucket = StoreBucket::open(&location, &Variables::of_process(), &environment);
    let bucket = bucket.expect("the store can be used");
    // First what a broker asks when it starts: its errors name the promise.
    if let Err(error) = bucket.probe().await {
        panic!("{error} {}", error.advice());
    }
    conformance::check(&bucket).await;
    println!("conformance passed on {uri}");
}
