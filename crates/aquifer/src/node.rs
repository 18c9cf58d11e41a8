//! What lives as long as the process, whatever becomes of the broker in it: the data directory's lock,
//! the admin pages, the configuration.
//!
//! Does not own: the rooms of one broker epoch (`assembly`), when they are opened again (`serve`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admin::{AdminPages, AdminServer, Readiness};
use broker::{BrokerConfig, WalLocation};
use bucket::BucketLocation;
use environment::Environment;

use crate::failure::Failure;
use crate::lock::DataDirectory;

/// The process around the broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) readiness: Readiness,
    pub(crate) pages: AdminPages,
    pub(crate) admin: Option<SocketAddr>,
    /// While it is held, nobody else opens what we have open.
    data: DataDirectory,
}

impl Node {
    /// `environment` is the process's own.
    pub(crate) async fn open(
        config: BrokerConfig,
        environment: &Environment,
    ) -> Result<Node, Failure> {
        let data = DataDirectory::open(&config.data_dir)?;
        let readiness = Readiness::starting("opening the bucket");
        let title = concat!("aquifer ", env!("CARGO_PKG_VERSION"));
        let pages = AdminPages::new(title, readiness.clone());
        let admin = start_admin(&config, &pages, environment).await?;
        Ok(Node { config: Arc::new(config), readiness, pages, admin, data })
    }

    /// Where the bucket really is; it shows no secret.
    pub(crate) fn bucket(&self) -> BucketLocation {
        match &self.config.bucket {
            BucketLocation::Directory(path) => BucketLocation::Directory(self.inside(path)),
            elsewhere => elsewhere.clone(),
        }
    }

    /// The WAL's directory. `None` when it is in the bucket.
    pub(crate) fn wal_directory(&self) -> Option<PathBuf> {
        match &self.config.wal {
            WalLocation::Directory(path) => Some(self.inside(path)),
            WalLocation::Bucket => None,
        }
    }

    /// What lies in the data directory, by its real path.
    fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.config.data_dir) {
            Ok(rest) => self.data.path().join(rest),
            Err(_) => path.to_owned(),
        }
    }
}

async fn start_admin(
    config: &BrokerConfig,
    pages: &AdminPages,
    environment: &Environment,
) -> Result<Option<SocketAddr>, Failure> {
    let Some(address) = &config.admin_listener else { return Ok(None) };
    let server = AdminServer::start(address, pages.clone(), environment).await.map_err(|error| {
        Failure::open(error.to_string()).advise(
            "Choose another address with --set aquifer.admin.listener=HOST:PORT, or none with --set \
             aquifer.admin.listener=",
        )
    })?;
    Ok(Some(server.address()))
}
