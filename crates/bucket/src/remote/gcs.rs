//! Google Cloud Storage.
//!
//! What differs from S3: create-if-absent is "generation 0"; one name takes about one update a second
//! and answers 429 beyond, which is harmless because no name here is updated but the database's
//! boundary mark; a multipart upload cannot be completed conditionally.
//!
//! Credentials, first found: the parameter, `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_APPLICATION_CREDENTIALS`,
//! those of `gcloud`, the machine's.

use super::{Tie, Unusable, client_options, is_http, lines, retries};
use crate::location::parameters::Parameter;
use object_store::ObjectStore;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use std::str::FromStr;
use std::sync::Arc;

pub(super) fn open(tie: &Tie<'_>) -> Result<[Arc<dyn ObjectStore>; 3], Unusable> {
    let location = tie.location;
    let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(&location.container);
    for (name, value) in tie.variables.starting_with("GOOGLE_") {
        match GoogleConfigKey::from_str(&name.to_ascii_lowercase()) {
            Ok(GoogleConfigKey::Bucket | GoogleConfigKey::Client(_)) | Err(_) => (),
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    for (parameter, value) in location.parameters() {
        let key = match parameter {
            Parameter::Endpoint => GoogleConfigKey::BaseUrl,
            Parameter::Anonymous => GoogleConfigKey::SkipSignature,
            Parameter::ServiceAccountFile => GoogleConfigKey::ServiceAccount,
            _ => continue,
        };
        builder = builder.with_config(key, value);
    }
    let is_http = is_http(builder.get_config_value(&GoogleConfigKey::BaseUrl).as_deref());
    let builder = builder.with_client_options(client_options(is_http));
    let connector = tie.connector(is_http)?;
    let build = |line, credentials| {
        let builder =
            builder.clone().with_retry(retries(line)).with_http_connector(connector.on(line));
        match credentials {
            Some(credentials) => builder.with_credentials(credentials).build(),
            None => builder.build(),
        }
    };
    lines(build, |client| Arc::clone(client.credentials()))
}
