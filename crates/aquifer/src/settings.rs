//! From a properties file and `--set` to one configuration.

use std::path::Path;

use broker::{BrokerConfig, Properties, parse_properties};

use crate::arguments::ServeArguments;
use crate::failure::Failure;

/// Reads the file, lays the command line over it and resolves the result.
pub(crate) fn load(arguments: &ServeArguments) -> Result<BrokerConfig, Failure> {
    let text = arguments.config.as_deref().map(read).transpose()?;
    let mut properties = Properties::new();
    if let Some((path, text)) = arguments.config.as_deref().zip(text) {
        properties = from_file(path, &text)?;
    }
    properties.extend(from_command_line(&arguments.set)?);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    BrokerConfig::resolve(&properties, Some(&hostname)).map_err(|problems| {
        let count = problems.0.len();
        let list = problems.0.iter().map(|it| format!("\n  - {it}")).collect::<String>();
        Failure::start(format!("{count} problem(s) in the configuration:{list}"))
            .advise("`aquifer configs` explains every config.")
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::start(format!("cannot read the configuration file {}: {error}", path.display()))
    })?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::start(format!("the configuration file {} is not UTF-8 text", path.display()))
            .advise("Write other letters as \\uXXXX.")
    })
}

fn from_file(path: &Path, text: &str) -> Result<Properties, Failure> {
    let parsed = parse_properties(text)
        .map_err(|error| Failure::start(format!("{}: {error}", path.display())))?;
    let mut properties = Properties::new();
    for property in parsed {
        if let Some(earlier) = properties.insert(property.name.clone(), property.value.clone())
            && earlier != property.value
        {
            return Err(Failure::start(format!(
                "{}, line {}: {} is set a second time, to another value",
                path.display(),
                property.line,
                property.name
            )));
        }
    }
    Ok(properties)
}

fn from_command_line(set: &[String]) -> Result<Properties, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err(Failure::start(format!("--set {text}: it must be NAME=VALUE"))),
    };
    set.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, words: &str) {
        let text = result.expect_err("it is refused").to_string();
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn the_command_line_is_stronger_than_the_file() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("server.properties");
        std::fs::write(&file, "num.partitions=3\nbroker.rack=a\n").expect("it is written");
        let config = load(&ServeArguments {
            config: Some(file),
            set: vec!["num.partitions=5".to_owned()],
            log: None,
        });
        let config = config.expect("it loads");
        assert_eq!(config.num_partitions, 5);
        assert_eq!(config.rack.as_deref(), Some("a"));
    }

    #[test]
    fn problems_are_told_with_their_place() {
        let path = Path::new("server.properties");
        refused(from_file(path, "a=1\nb=2\na=3"), "line 3: a is set a second time");
        assert!(from_file(path, "a=1\na=1").is_ok());
        refused(from_file(path, "a=\\u00"), "server.properties: line 1");
        refused(from_command_line(&["nonsense".to_owned()]), "NAME=VALUE");
        refused(from_command_line(&["=1".to_owned()]), "NAME=VALUE");
        refused(read(Path::new("no such file")), "cannot read the configuration file no such file");
        let two = ServeArguments {
            set: vec!["num.partition=3".to_owned(), "listeners=x".to_owned()],
            ..ServeArguments::default()
        };
        refused(load(&two), "2 problem(s)");
    }
}
