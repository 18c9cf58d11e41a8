//! Turns `messages/*.msg` into Rust, in Cargo's output directory.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

#[path = "build/generate.rs"]
mod generate;
#[allow(dead_code, unreachable_pub, reason = "the library and its tests use the rest")]
#[path = "src/schema/mod.rs"]
mod schema;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=messages");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/schema");
    let mut files = Vec::new();
    for entry in fs::read_dir("messages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "msg") {
            files.push(path);
        }
    }
    files.sort();
    let mut definitions = Vec::new();
    for path in files {
        let module = path.file_stem().and_then(|it| it.to_str()).ok_or("a file name is UTF-8")?;
        definitions.push(schema::parse(module, &fs::read_to_string(&path)?)?);
    }
    let output = env::var_os("OUT_DIR").ok_or("Cargo sets OUT_DIR")?;
    let output = Path::new(&output);
    fs::write(output.join("messages.rs"), generate::messages(&definitions))?;
    fs::write(output.join("probes.rs"), generate::probes(&definitions))?;
    Ok(())
}
