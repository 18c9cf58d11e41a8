//! Where things are: the workspace, its target folder and the folders of the client programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// The paths that every command of `xtask` works with.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Workspace> {
        let metadata = metadata(false)?;
        Ok(Workspace {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
        })
    }

    /// Sources of the client programs.
    pub(crate) fn clients(&self) -> PathBuf {
        self.root.join("tests").join("clients")
    }

    /// What the client programs need, installed here and nowhere else.
    pub(crate) fn installed(&self) -> PathBuf {
        self.target.join("clients")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.installed().join("logs")
    }

    /// `path` as seen from the root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// What `cargo metadata` says, with or without the resolved dependencies.
pub(crate) fn metadata(with_dependencies: bool) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    if !with_dependencies {
        command.no_deps();
    }
    command.exec().context("cargo metadata")
}
