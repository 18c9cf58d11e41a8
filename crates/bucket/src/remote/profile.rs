//! The shared files of the AWS tools, `~/.aws/credentials` and `~/.aws/config`, which the client
//! crate does not read.
//!
//! Read are `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`, `region` and
//! `endpoint_url` of one profile. Ways to credentials that need another program (`role_arn`, `sso_…`,
//! `credential_process`) are not followed; who asks for such a profile by name is told so.
//!
//! Format: "Configuration and credential file settings" of the AWS SDKs' reference guide: sections
//! `[name]` in the one file, `[default]` and `[profile name]` in the other; `name = value`; lines that
//! start with `#` or `;` are comments; an indented line belongs to the setting above it.

use super::variables::Variables;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

/// Files longer than this are not profiles.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const DEFAULT: &str = "default";

/// What of a profile is used here.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) keys: Option<Keys>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint_url: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile(keys: {}, region: {:?})", self.keys.is_some(), self.region)
    }
}

type Settings = BTreeMap<String, String>;

/// The profile that `named` (a parameter) or `AWS_PROFILE` asks for, else `default`.
///
/// # Errors
///
/// In words for an operator: a profile asked for by name that is nowhere or has no keys of its own,
/// half a pair of keys, a file that cannot be read.
pub(crate) fn load(named: Option<&str>, variables: &Variables) -> Result<Profile, String> {
    let asked = named.or_else(|| variables.get("AWS_PROFILE"));
    let name = asked.unwrap_or(DEFAULT);
    let mut settings = Settings::new();
    let mut is_there = false;
    // What both files have, the credentials file decides.
    for (variable, below_home, heading) in [
        ("AWS_CONFIG_FILE", ".aws/config", heading_of_config as fn(&str) -> Option<&str>),
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", |it| Some(it)),
    ] {
        let Some(path) = variables.file(variable, below_home) else { continue };
        let text =
            read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if let Some(found) = text.as_deref().and_then(|text| section(text, name, heading)) {
            is_there = true;
            settings.extend(found);
        }
    }
    if let (Some(name), false) = (asked, is_there) {
        return Err(format!("there is no profile {name} in ~/.aws/credentials or ~/.aws/config"));
    }
    profile(name, asked.is_some(), settings)
}

fn profile(name: &str, is_asked_for: bool, mut settings: Settings) -> Result<Profile, String> {
    let mut take = |name: &str| settings.remove(name).filter(|it| !it.is_empty());
    let keys = match (take("aws_access_key_id"), take("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => {
            let session_token = take("aws_session_token");
            Some(Keys { access_key_id, secret_access_key, session_token })
        }
        (None, None) => None,
        _ => {
            return Err(format!(
                "the profile {name} has one of aws_access_key_id and aws_secret_access_key; it must \
                 have both"
            ));
        }
    };
    let (region, endpoint_url) = (take("region"), take("endpoint_url"));
    if let (None, true) = (&keys, is_asked_for) {
        let other = |it: &&String| {
            matches!(it.as_str(), "role_arn" | "credential_process") || it.starts_with("sso_")
        };
        if let Some(other) = settings.keys().find(other) {
            return Err(format!(
                "the profile {name} gets its credentials by {other}, which is not followed here; \
                 export them with `aws configure export-credentials --profile {name} --format env`"
            ));
        }
    }
    Ok(Profile { keys, region, endpoint_url })
}

/// `None` for a file that does not exist.
fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::metadata(path) {
        Ok(file) if FILE_BYTES_MAX < file.len() => {
            Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")))
        }
        Ok(_) => std::fs::read_to_string(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// `[default]` or `[profile name]`; other sections of the file are not profiles.
fn heading_of_config(heading: &str) -> Option<&str> {
    if heading == DEFAULT {
        return Some(DEFAULT);
    }
    let name = heading.strip_prefix("profile")?;
    name.starts_with([' ', '\t']).then(|| name.trim())
}

/// The settings of one section; a later setting of a name wins. `None` without such a section.
fn section(text: &str, name: &str, heading: fn(&str) -> Option<&str>) -> Option<Settings> {
    let mut found: Option<Settings> = None;
    let mut is_inside = false;
    for line in text.lines() {
        let is_nested = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(inside) = line.strip_prefix('[').filter(|_| !is_nested) {
            let title = inside.split(']').next().unwrap_or("").trim();
            is_inside = heading(title) == Some(name);
            if is_inside {
                found.get_or_insert_default();
            }
        } else if is_inside
            && !is_nested
            && let (Some(settings), Some((name, value))) = (&mut found, line.split_once('='))
        {
            // A comment may follow a value after white space.
            let value = value.split(" #").next().and_then(|it| it.split(" ;").next()).unwrap_or("");
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKIA1\n\
        aws_secret_access_key=s=1/+\n\n[ci]\nAWS_ACCESS_KEY_ID=AKIA2 # ours\n\
        aws_secret_access_key = s2\naws_session_token = t2\n[half]\naws_access_key_id = AKIA3\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n  region = no\n\
        [profile ci]\nregion=eu-north-1\nendpoint_url = http://127.0.0.1:9000\n\
        [profile sso]\nsso_session = corp\nregion = us-east-1\n[sso-session corp]\nregion = no\n";

    fn home() -> (tempfile::TempDir, Variables) {
        let home = tempfile::tempdir().expect("a directory");
        let aws = home.path().join(".aws");
        std::fs::create_dir(&aws).expect("made");
        std::fs::write(aws.join("credentials"), CREDENTIALS).expect("written");
        std::fs::write(aws.join("config"), CONFIG).expect("written");
        let variables = Variables::from([("HOME", home.path().to_str().expect("text"))]);
        (home, variables)
    }

    #[test]
    fn a_profile_is_read_from_both_files() {
        let (_home, variables) = home();
        let default = load(None, &variables).expect("read");
        let keys = default.keys.expect("keys");
        assert_eq!(
            (keys.access_key_id.as_str(), keys.secret_access_key.as_str()),
            ("AKIA1", "s=1/+")
        );
        assert_eq!((keys.session_token, default.region), (None, Some("eu-west-1".to_owned())));
        let ci = load(Some("ci"), &variables).expect("read");
        let keys = ci.keys.expect("keys");
        assert_eq!(
            (keys.access_key_id.as_str(), keys.session_token.as_deref()),
            ("AKIA2", Some("t2"))
        );
        assert_eq!(ci.region.as_deref(), Some("eu-north-1"));
        assert_eq!(ci.endpoint_url.as_deref(), Some("http://127.0.0.1:9000"));
    }

    #[test]
    fn files_are_named_by_variables_and_need_not_exist() {
        let (home, _) = home();
        let nobody = Variables::from([("HOME", "/nonexistent")]);
        assert_eq!(load(None, &nobody), Ok(Profile::default()));
        assert_eq!(load(None, &Variables::default()), Ok(Profile::default()));
        let file = home.path().join(".aws/credentials");
        let named = Variables::from([
            ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("text")),
            ("AWS_PROFILE", "ci"),
        ]);
        assert!(load(None, &named).expect("read").keys.is_some());
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let (_home, variables) = home();
        for (name, words) in
            [("none", "no profile none"), ("half", "must have both"), ("sso", "export-credentials")]
        {
            let error = load(Some(name), &variables).expect_err(name);
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("AKIA"), "{error}");
        }
    }
}
