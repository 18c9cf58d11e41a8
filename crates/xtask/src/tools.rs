//! Installs what the client programs need, below `target/clients`, and says plainly what is missing.
//!
//! Owns: a Python virtual environment, npm packages, Kafka's jars and our compiled Java programs, kcat,
//! the Rust client, the Go client. Exact versions stand in the files of `tests/clients`.
//! Does not own: running the programs.
//!
//! Invariants:
//! - T1 nothing is installed twice: a stamp holds the text that the installation was made from;
//! - T2 a tool that cannot be had is a reason for a skip, never a failure. Debian packages are installed only by root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const RUST_BUILD_LIMIT: Duration = Duration::from_secs(600);
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Tool {
    Kcat,
    Python,
    Node,
    Java,
    Rust,
    Go,
}

impl Tool {
    pub(crate) const ALL: [Tool; 6] =
        [Tool::Kcat, Tool::Python, Tool::Node, Tool::Java, Tool::Rust, Tool::Go];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Kcat => "kcat",
            Tool::Python => "python",
            Tool::Node => "node",
            Tool::Java => "java",
            Tool::Rust => "rust",
            Tool::Go => "go",
        }
    }
}

/// Makes `tool` ready; an error is the reason why what needs it is skipped.
pub(crate) fn prepare(tool: Tool, workspace: &Workspace) -> Result<()> {
    let log = workspace.logs().join(format!("install-{}.log", tool.name()));
    let place = Place { clients: workspace.clients(), installed: workspace.installed(), log };
    std::fs::create_dir_all(&place.installed)?;
    match tool {
        Tool::Kcat => place.need("kcat", "-V", &["kcat"]),
        Tool::Python => place.python(),
        Tool::Node => place.node(),
        Tool::Java => place.java(),
        Tool::Rust => place.rust(),
        Tool::Go => place.go(),
    }
}

struct Place {
    clients: PathBuf,
    installed: PathBuf,
    log: PathBuf,
}

impl Place {
    /// `program` answers to `argument`, if need be after installing Debian's `packages`.
    fn need(&self, program: &str, argument: &str, packages: &[&str]) -> Result<()> {
        if process::answers(program, argument) {
            return Ok(());
        }
        self.debian(packages).with_context(|| format!("{program} is missing"))?;
        if process::answers(program, argument) { Ok(()) } else { bail!("{program} does not run") }
    }

    fn debian(&self, packages: &[&str]) -> Result<()> {
        if !rustix::process::geteuid().is_root() || !process::answers("apt-get", "--version") {
            bail!("installing {} takes root and apt-get", packages.join(" "));
        }
        let mut update = Command::new("apt-get");
        process::must(update.args(["update", "-q"]), &self.log, INSTALL_LIMIT)?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "-q", "-y", "--no-install-recommends"]).args(packages);
        process::must(&mut install, &self.log, INSTALL_LIMIT)
    }

    fn python(&self) -> Result<()> {
        self.need("python3", "--version", &["python3", "python3-venv"])?;
        let requirements = self.clients.join("python").join("requirements.txt");
        let folder = self.installed.join("python");
        let stamp = Stamp::of(&folder, &[&requirements])?;
        if stamp.is_current() {
            return Ok(());
        }
        process::fresh_folder(folder.clone())?;
        let make = || {
            let mut make = Command::new("python3");
            make.args(["-m", "venv", "--clear"]).arg(&folder);
            process::must(&mut make, &self.log, INSTALL_LIMIT)
        };
        if make().is_err() {
            // Debian ships the module in a package of its own.
            self.debian(&["python3-venv"])?;
            make()?;
        }
        let mut pip = Command::new(folder.join("bin").join("python"));
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]);
        process::must(pip.arg(&requirements), &self.log, INSTALL_LIMIT)?;
        stamp.write()
    }

    fn node(&self) -> Result<()> {
        self.need("node", "--version", &["nodejs", "npm"])?;
        self.need("npm", "--version", &["npm"])?;
        let source = self.clients.join("node");
        let folder = self.installed.join("node");
        std::fs::create_dir_all(&folder)?;
        // Node looks for packages beside the program, so the programs live beside the packages.
        for file in files(&source)? {
            std::fs::copy(&file, folder.join(file.file_name().context("a file has a name")?))?;
        }
        let stamp = Stamp::of(&folder, &[&source.join("package.json")])?;
        if stamp.is_current() {
            return Ok(());
        }
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(["install", "--no-audit", "--no-fund"]);
        npm.args(["--no-package-lock", "--ignore-scripts"]);
        process::must(&mut npm, &self.log, INSTALL_LIMIT)?;
        stamp.write()
    }

    fn java(&self) -> Result<()> {
        self.need("javac", "-version", &["default-jdk-headless"])?;
        let pom = self.clients.join("java").join("pom.xml");
        let folder = self.installed.join("java");
        let jars = folder.join("lib");
        let stamp = Stamp::of(&jars, &[&pom])?;
        if !stamp.is_current() {
            self.need("mvn", "--version", &["maven"])?;
            process::fresh_folder(jars.clone())?;
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "-f"]).arg(&pom);
            maven.arg(format!("{DEPENDENCY_PLUGIN}:copy-dependencies"));
            maven.arg("-DincludeScope=runtime");
            maven.arg(format!("-DoutputDirectory={}", jars.display()));
            process::must(&mut maven, &self.log, INSTALL_LIMIT)?;
            stamp.write()?;
        }
        let sources = files(&self.clients.join("java").join("src"))?;
        let classes = folder.join("classes");
        let stamp = Stamp::of(&classes, &sources.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        if stamp.is_current() {
            return Ok(());
        }
        process::fresh_folder(classes.clone())?;
        let mut compile = Command::new("javac");
        compile.args(["-nowarn", "-proc:none", "--release", "17", "-d"]).arg(&classes);
        compile.arg("-cp").arg(jars.join("*")).args(sources);
        process::must(&mut compile, &self.log, INSTALL_LIMIT)?;
        stamp.write()
    }

    fn rust(&self) -> Result<()> {
        self.need("make", "--version", &["make"])?;
        self.need("c++", "--version", &["g++"])?;
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--locked", "--manifest-path"]);
        build.arg(self.clients.join("rust").join("Cargo.toml"));
        build.arg("--target-dir").arg(self.installed.join("rust"));
        process::must(&mut build, &self.log, RUST_BUILD_LIMIT)
    }

    /// Debian's Go may be older than the client libraries ask for; it then says so, and that is a skip.
    fn go(&self) -> Result<()> {
        self.need("go", "version", &["golang-go"])?;
        let mut build = Command::new("go");
        build.current_dir(self.clients.join("go")).args(["build", "-mod=readonly", "-o"]);
        build.arg(self.installed.join("go").join("go-client")).arg(".");
        process::must(&mut build, &self.log, INSTALL_LIMIT)
    }
}

/// The text that an installation was made from, kept beside it.
struct Stamp {
    path: PathBuf,
    text: Vec<u8>,
}

impl Stamp {
    fn of(folder: &Path, sources: &[&Path]) -> Result<Stamp> {
        let mut text = Vec::new();
        for source in sources {
            text.extend(source.as_os_str().as_encoded_bytes());
            text.extend(std::fs::read(source)?);
        }
        Ok(Stamp { path: folder.join(".made-from"), text })
    }

    fn is_current(&self) -> bool {
        std::fs::read(&self.path).is_ok_and(|text| text == self.text)
    }

    fn write(&self) -> Result<()> {
        Ok(std::fs::write(&self.path, &self.text)?)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
