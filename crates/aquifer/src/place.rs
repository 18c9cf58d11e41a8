//! The bucket and its metadata, opened to be looked at: nothing is locked, fenced, made or written.
//!
//! Does not own: what is looked for (`doctor`, `inspect`), how a broker opens the same (`assembly`).

use std::path::PathBuf;
use std::time::Duration;

use broker::{BrokerConfig, WalLocation};
use bucket::{BucketLocation, StoreBucket, Variables};
use cluster::{MetadataInspection, StoreError};
use doctor::Place;
use environment::Environment;

use crate::arguments::{PlaceArguments, ServeArguments};
use crate::assembly::METADATA_PATH;
use crate::doctor::FOUND;
use crate::failure::Failure;
use crate::settings;

/// Tries to open metadata whose files a running broker replaces meanwhile, and the wait between them.
const OPENS_MAX: u32 = 5;
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Everything that a look needs.
#[derive(Debug)]
pub(crate) struct Opened {
    environment: Environment,
    bucket: StoreBucket,
    metadata: MetadataInspection,
    wal_directory: Option<PathBuf>,
}

impl Opened {
    pub(crate) async fn open(arguments: &PlaceArguments) -> Result<Opened, Failure> {
        let config = configured(arguments)?;
        let environment = Environment::system();
        let location = &config.bucket;
        match location {
            BucketLocation::Memory => {
                return Err(Failure::open(
                    "the bucket is in a broker's memory: only it can look there",
                ));
            }
            BucketLocation::Directory(path) if !path.is_dir() => {
                return Err(Failure::open(format!("there is no bucket in {}", path.display()))
                    .advise(
                        "Say where it is with --config FILE or --set aquifer.bucket=LOCATION.",
                    ));
            }
            BucketLocation::Directory(_) | BucketLocation::Remote(_) => (),
        }
        let bucket = StoreBucket::open(location, &Variables::of_process(), &environment);
        let bucket = bucket.map_err(|error| {
            Failure::open(format!("the bucket cannot be opened: {error}")).advise(error.advice())
        })?;
        let metadata = open_metadata(&bucket, &environment).await?;
        let metadata = metadata.ok_or_else(|| {
            Failure::open(format!("the bucket {location} has no metadata"))
                .advise("No broker has ever served from it, or it is the wrong one.")
        })?;
        let wal_directory = match config.wal {
            WalLocation::Directory(path) => Some(path),
            WalLocation::Bucket => None,
        };
        Ok(Opened { environment, bucket, metadata, wal_directory })
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            bucket: &self.bucket,
            metadata: &self.metadata,
            wal_directory: self.wal_directory.clone(),
            environment: &self.environment,
        }
    }

    pub(crate) async fn close(self) {
        self.metadata.close().await;
    }
}

fn configured(arguments: &PlaceArguments) -> Result<BrokerConfig, Failure> {
    let PlaceArguments { config, set } = arguments.clone();
    settings::load(&ServeArguments { config, set, log: None })
}

async fn open_metadata(
    bucket: &StoreBucket,
    environment: &Environment,
) -> Result<Option<MetadataInspection>, Failure> {
    let mut attempt = 1;
    loop {
        let store = bucket.object_store();
        match MetadataInspection::open(store, METADATA_PATH, environment).await {
            Ok(opened) => return Ok(opened),
            Err(StoreError::Unavailable(_) | StoreError::Gone(_)) if attempt < OPENS_MAX => {
                attempt += 1
            }
            Err(error) => return Err(unreadable(&error)),
        }
        environment.clock.sleep(OPEN_AGAIN_AFTER).await;
    }
}

/// Metadata that cannot be read: damaged, which is a finding, or not answered for.
pub(crate) fn unreadable(error: &StoreError) -> Failure {
    let mut failure = Failure::open(format!("the metadata cannot be read: {error}"));
    match error {
        StoreError::Corrupt { .. } => {
            failure.exit_code = FOUND;
            failure.advise(
                "Keep a copy of the bucket's `meta` prefix before a broker is started on it.",
            )
        }
        StoreError::Gone(_) => {
            failure.exit_code = FOUND;
            failure.advise(
                "Run it again: a running broker replaces files. If it stays gone, it is lost; keep a copy of the \
                 bucket's `meta` prefix before a broker is started on it.",
            )
        }
        StoreError::Fenced | StoreError::Unavailable(_) => failure.advise("Run it again."),
    }
}

/// Runs one look.
pub(crate) fn block_on<T>(look: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(look);
    runtime.shutdown_background();
    outcome
}
