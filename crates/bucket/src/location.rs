//! Where a bucket is: `aquifer.bucket` as text, and what it may say.
//!
//! Owns: the schemes, the parts of a URI, which parameters there are (`parameters`).
//! Does not own: environment variables, credentials and connections (`remote`).
//!
//! A location is shown in banners, logs and DescribeConfigs. Therefore it cannot hold a secret: text
//! that has one is refused, and the refusal does not repeat it.

use crate::location::parameters::Parameter;
use crate::port::Key;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub(crate) mod parameters;

/// The cluster's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketLocation {
    /// `memory:`, gone when the process ends.
    Memory,
    /// A path, or `file:DIRECTORY`; made if it is absent.
    Directory(PathBuf),
    /// An object store behind a network.
    Remote(RemoteLocation),
}

/// Which conversation is spoken with a remote store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteKind {
    /// S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl RemoteKind {
    pub fn name(self) -> &'static str {
        match self {
            RemoteKind::S3 => "S3",
            RemoteKind::Gcs => "Google Cloud Storage",
            RemoteKind::Azure => "Azure Blob Storage",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            RemoteKind::S3 => "s3",
            RemoteKind::Gcs => "gs",
            RemoteKind::Azure => "az",
        }
    }
}

/// A bucket or container of a remote store, and the cluster's root in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLocation {
    pub kind: RemoteKind,
    /// The bucket's name; Azure calls it a container.
    pub container: String,
    /// What all keys start with; `None` for the bucket's own root.
    pub prefix: Option<Key>,
    /// By name, values checked for their shape.
    parameters: BTreeMap<Parameter, String>,
}

/// Why a text names no bucket. The message is for whoever wrote the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocationError(pub(crate) String);

const SCHEMES: &str = "a directory, file:DIRECTORY, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, \
                       az://CONTAINER/PREFIX or memory:";

impl BucketLocation {
    /// Reads a plain path or a URI.
    ///
    /// # Errors
    ///
    /// Nothing, or a secret, is named, or a scheme or parameter that does not exist.
    pub fn parse(text: &str) -> Result<BucketLocation, LocationError> {
        let Some((scheme, rest)) = scheme_of(text) else {
            return match text {
                "" => Err(LocationError(format!("it is empty; it may be {SCHEMES}"))),
                path => Ok(BucketLocation::Directory(PathBuf::from(path))),
            };
        };
        let remote = |kind| RemoteLocation::parse(kind, rest).map(BucketLocation::Remote);
        match scheme {
            "memory" if rest.is_empty() => Ok(BucketLocation::Memory),
            "memory" => Err(LocationError("memory: has no name and no parameters".to_owned())),
            "file" => directory(rest),
            "s3" | "s3a" => remote(RemoteKind::S3),
            "gs" => remote(RemoteKind::Gcs),
            "az" | "azure" | "abfs" | "abfss" => remote(RemoteKind::Azure),
            "http" | "https" => Err(LocationError(format!(
                "{scheme}: is not a kind of bucket; for a store that speaks S3 write \
                 s3://BUCKET/PREFIX?endpoint={scheme}://HOST:PORT"
            ))),
            _ => {
                Err(LocationError(format!("{scheme:?} is no kind of bucket; it may be {SCHEMES}")))
            }
        }
    }
}

/// Splits off a scheme of two letters or more: one letter and a colon is a strange file name.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = 1 < scheme.len()
        && scheme.starts_with(|it: char| it.is_ascii_alphabetic())
        && scheme.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'.' | b'-'));
    is_scheme.then_some((scheme, rest))
}

/// `file:relative`, `file:/absolute` and `file:///absolute` all name a directory.
fn directory(rest: &str) -> Result<BucketLocation, LocationError> {
    match rest.strip_prefix("//").unwrap_or(rest) {
        "" => Err(LocationError("file: names no directory".to_owned())),
        path => Ok(BucketLocation::Directory(PathBuf::from(path))),
    }
}

impl RemoteLocation {
    fn parse(kind: RemoteKind, rest: &str) -> Result<RemoteLocation, LocationError> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let scheme = kind.scheme();
        let place = place.strip_prefix("//").ok_or_else(|| {
            LocationError(format!("after the scheme comes //: {scheme}://NAME/PREFIX"))
        })?;
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let mut parameters = BTreeMap::new();
        let container = match authority.split_once('@') {
            None => authority,
            Some((container, host)) if kind == RemoteKind::Azure && !container.contains(':') => {
                parameters.insert(Parameter::Account, azure_account(host)?);
                container
            }
            Some(_) => return Err(parameters::refuse_secret(kind, "what stands before the @")),
        };
        let letter = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
        if container.is_empty() || !container.bytes().all(letter) {
            return Err(LocationError(format!(
                "{scheme}://NAME/PREFIX: the name is letters, digits, dots and dashes"
            )));
        }
        let prefix = match path.trim_end_matches('/') {
            "" => None,
            path => Some(Key::parse(path).ok_or_else(|| {
                LocationError(
                    "the prefix is made of letters, digits, '-', '_' and '.', with single slashes \
                     between its parts"
                        .to_owned(),
                )
            })?),
        };
        parameters::read(kind, query, &mut parameters)?;
        Ok(RemoteLocation { kind, container: container.to_owned(), prefix, parameters })
    }

    pub(crate) fn parameter(&self, parameter: Parameter) -> Option<&str> {
        self.parameters.get(&parameter).map(String::as_str)
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = (Parameter, &str)> {
        self.parameters.iter().map(|(parameter, value)| (*parameter, value.as_str()))
    }
}

/// `ACCOUNT.dfs.core.windows.net`, as Hadoop writes it.
fn azure_account(host: &str) -> Result<String, LocationError> {
    let account = host.split_once('.').filter(|(_, service)| {
        matches!(*service, "dfs.core.windows.net" | "blob.core.windows.net")
    });
    match account {
        Some((account, _)) if !account.is_empty() => Ok(account.to_owned()),
        _ => Err(LocationError(
            "after the @ comes ACCOUNT.dfs.core.windows.net; or write az://CONTAINER/PREFIX?account=…"
                .to_owned(),
        )),
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BucketLocation::Memory => f.write_str("memory:"),
            BucketLocation::Directory(path) => write!(f, "{}", path.display()),
            BucketLocation::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

/// As it can be written in a configuration; there is no secret in it.
impl fmt::Display for RemoteLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.container)?;
        if let Some(prefix) = &self.prefix {
            write!(f, "/{prefix}")?;
        }
        for (nth, (parameter, value)) in self.parameters().enumerate() {
            let mark = if nth == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={value}", parameter.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
