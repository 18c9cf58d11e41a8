//! Azure Blob Storage.
//!
//! What differs from S3: "exists" is 409 as well as 412; a listing page has 5,000 names; a multipart
//! upload is a list of blocks, whose commitment cannot be made conditional from outside of the client,
//! because the condition is part of the signature; what is not committed goes away after a week.
//!
//! Credentials, first found: a token, an account key, a client secret, a federated token, a shared
//! access signature, the command line tool if it is asked for, the machine's managed identity.

use super::{Tie, Unusable, client_options, is_http, lines, retries};
use crate::location::parameters::Parameter;
use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use std::str::FromStr;
use std::sync::Arc;

pub(super) fn open(tie: &Tie<'_>) -> Result<[Arc<dyn ObjectStore>; 3], Unusable> {
    let location = tie.location;
    let mut builder = MicrosoftAzureBuilder::new().with_container_name(&location.container);
    let variables = tie.variables.starting_with("AZURE_");
    // A container of Azure's own services is told where its identity is in two other names.
    let identity = tie.variables.starting_with("IDENTITY_ENDPOINT");
    for (name, value) in variables.chain(identity) {
        match AzureConfigKey::from_str(&name.to_ascii_lowercase()) {
            Ok(AzureConfigKey::ContainerName | AzureConfigKey::Client(_)) | Err(_) => (),
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    for (parameter, value) in location.parameters() {
        let key = match parameter {
            Parameter::Endpoint => AzureConfigKey::Endpoint,
            Parameter::Account => AzureConfigKey::AccountName,
            Parameter::Anonymous => AzureConfigKey::SkipSignature,
            Parameter::TenantId => AzureConfigKey::AuthorityId,
            Parameter::ClientId => AzureConfigKey::ClientId,
            Parameter::AuthorityHost => AzureConfigKey::AuthorityHost,
            Parameter::FederatedTokenFile => AzureConfigKey::FederatedTokenFile,
            Parameter::UseAzureCli => AzureConfigKey::UseAzureCli,
            Parameter::UseEmulator => AzureConfigKey::UseEmulator,
            _ => continue,
        };
        builder = builder.with_config(key, value);
    }
    let says = |key: AzureConfigKey| builder.get_config_value(&key);
    let is_emulator = says(AzureConfigKey::UseEmulator).as_deref() == Some("true");
    if says(AzureConfigKey::AccountName).is_none() && !is_emulator {
        return Err(Unusable::new(
            "no storage account is named",
            "Add ?account=NAME to the bucket, or set AZURE_STORAGE_ACCOUNT_NAME.",
        ));
    }
    let is_http = is_emulator || is_http(says(AzureConfigKey::Endpoint).as_deref());
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
