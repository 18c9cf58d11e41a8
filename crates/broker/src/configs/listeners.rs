//! Listeners: what to bind, and what to tell clients (Kafka's `listeners`, `advertised.listeners`,
//! `listener.security.protocol.map`).
//!
//! Owns: parsing and the rules between these configs. Does not own: sockets (`listener`).

use std::collections::BTreeMap;

/// One Kafka listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka shows it.
    pub name: String,
    /// What to bind: a name or address, an IPv6 address in brackets; empty for all interfaces.
    pub host: String,
    /// 0: the system chooses.
    pub port: u16,
    /// What clients are told; an IPv6 address without brackets.
    pub advertised_host: String,
    /// 0: the port that was bound.
    pub advertised_port: u16,
}

/// The raw settings the listeners are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListenerSettings<'a> {
    pub(super) listeners: &'a [String],
    pub(super) advertised: Option<&'a [String]>,
    pub(super) protocols: &'a str,
    /// Left out: they belong to Kafka's controllers.
    pub(super) controllers: &'a [String],
    /// This machine's name, told to clients when a listener binds all interfaces.
    pub(super) hostname: Option<&'a str>,
}

/// All listeners, or every problem in words.
pub(super) fn resolve(settings: ListenerSettings<'_>) -> Result<Vec<Listener>, Vec<String>> {
    let mut problems = Vec::new();
    let protocols = protocol_map(settings.protocols, &mut problems);
    let bound = endpoints("listeners", settings.listeners, &mut problems);
    let advertised =
        settings.advertised.map(|it| endpoints("advertised.listeners", it, &mut problems));
    let controllers: Vec<String> =
        settings.controllers.iter().map(|it| it.to_uppercase()).collect();
    let mut listeners: Vec<Listener> = Vec::new();
    for endpoint in bound.iter().filter(|it| !controllers.contains(&it.name)) {
        if let Err(problem) = check_protocol(&endpoint.name, &protocols) {
            problems.push(problem);
        }
        let same_port = |it: &&Listener| it.port != 0 && it.port == endpoint.port;
        if let Some(other) = listeners.iter().find(same_port) {
            problems.push(format!(
                "listeners: {} and {} use the same port {}",
                other.name, endpoint.name, endpoint.port
            ));
        }
        match advertise(endpoint, advertised.as_deref(), settings.hostname) {
            Ok(told) => listeners.push(Listener {
                name: endpoint.name.clone(),
                host: endpoint.host.clone(),
                port: endpoint.port,
                advertised_host: told.host.trim_matches(['[', ']']).to_owned(),
                advertised_port: told.port,
            }),
            Err(problem) => problems.push(problem),
        }
    }
    if listeners.is_empty() && problems.is_empty() {
        problems.push("listeners: there is no listener for clients".to_owned());
    }
    for told in advertised.iter().flatten() {
        if !bound.iter().any(|it| it.name == told.name) {
            problems
                .push(format!("advertised.listeners: {} is not one of the listeners", told.name));
        }
    }
    if problems.is_empty() { Ok(listeners) } else { Err(problems) }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

fn endpoints(config: &str, texts: &[String], problems: &mut Vec<String>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for text in texts {
        match endpoint(text) {
            None => {
                problems.push(format!("{config}: {text:?} is not of the form NAME://HOST:PORT"))
            }
            Some(it) if found.iter().any(|earlier| earlier.name == it.name) => {
                problems.push(format!("{config}: the name {} appears twice", it.name));
            }
            Some(it) => found.push(it),
        }
    }
    found
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "._-%".contains(letter);
    let host_fits = if bracketed { host.contains(':') } else { host.chars().all(legal) };
    let name_fits = !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
    (host_fits && name_fits).then_some(())?;
    Some(Endpoint { name: name.to_uppercase(), host: host.to_owned(), port: port.parse().ok()? })
}

/// The protocol of each listener name. What the map leaves out of Kafka's own names stays as it is.
fn protocol_map(text: &str, problems: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match pair.split_once(':') {
            Some((name, protocol)) => {
                map.insert(name.trim().to_uppercase(), protocol.trim().to_uppercase());
            }
            None => problems.push(format!(
                "listener.security.protocol.map: {pair:?} is not of the form NAME:PROTOCOL"
            )),
        }
    }
    map
}

fn check_protocol(name: &str, protocols: &BTreeMap<String, String>) -> Result<(), String> {
    match protocols.get(name).map(String::as_str) {
        Some("PLAINTEXT") => Ok(()),
        Some(protocol @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => Err(format!(
            "listeners: {name} asks for {protocol}, but only PLAINTEXT listeners are served yet"
        )),
        Some(protocol) => Err(format!(
            "listener.security.protocol.map: {protocol} of {name} is not a security protocol"
        )),
        None => Err(format!(
            "listeners: {name} has no security protocol; add {name}:PLAINTEXT to \
             listener.security.protocol.map"
        )),
    }
}

fn advertise(
    bound: &Endpoint,
    advertised: Option<&[Endpoint]>,
    hostname: Option<&str>,
) -> Result<Endpoint, String> {
    const EVERYWHERE: [&str; 3] = ["", "0.0.0.0", "[::]"];
    if let Some(told) = advertised.into_iter().flatten().find(|it| it.name == bound.name) {
        if EVERYWHERE.contains(&told.host.as_str()) {
            return Err(format!(
                "advertised.listeners: {} needs a host that clients can connect to, not {:?}",
                told.name, told.host
            ));
        }
        return Ok(told.clone());
    }
    if !EVERYWHERE.contains(&bound.host.as_str()) {
        return Ok(bound.clone());
    }
    // Kafka tells clients the machine's name for an empty host, and refuses 0.0.0.0; a name works
    // for both.
    match hostname.filter(|it| !it.is_empty()) {
        Some(host) => Ok(Endpoint { host: host.to_owned(), ..bound.clone() }),
        None => Err(format!(
            "listeners: {} listens on all interfaces; say what clients connect to with \
             advertised.listeners={}://HOST:{}",
            bound.name, bound.name, bound.port
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOLS: &str = "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT";

    fn run(listeners: &[&str], advertised: Option<&[&str]>) -> Result<Vec<Listener>, Vec<String>> {
        let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        resolve(ListenerSettings {
            listeners: &owned(listeners),
            advertised: advertised.map(owned).as_deref(),
            protocols: PROTOCOLS,
            controllers: &owned(&["CONTROLLER"]),
            hostname: Some("well"),
        })
    }

    #[track_caller]
    fn told(listeners: &[&str], advertised: Option<&[&str]>, expected: &[(&str, u16)]) {
        let found = run(listeners, advertised).expect("it resolves");
        let found: Vec<_> =
            found.iter().map(|it| (it.advertised_host.as_str(), it.advertised_port)).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn refused(listeners: &[&str], advertised: Option<&[&str]>, words: &str) {
        let problems = run(listeners, advertised).expect_err("it is refused").join("; ");
        assert!(problems.contains(words), "{problems}");
    }

    #[test]
    fn clients_are_told_what_is_bound_unless_told_otherwise() {
        told(&["PLAINTEXT://127.0.0.1:9092"], None, &[("127.0.0.1", 9092)]);
        told(&["plaintext://:9092"], None, &[("well", 9092)]);
        told(&["PLAINTEXT://0.0.0.0:0"], None, &[("well", 0)]);
        told(&["PLAINTEXT://[::1]:9092"], None, &[("::1", 9092)]);
        told(
            &["PLAINTEXT://:9092"],
            Some(&["PLAINTEXT://a.example:19092"]),
            &[("a.example", 19092)],
        );
        told(
            &["PLAINTEXT://:9092", "INSIDE://10.0.0.1:9093"],
            Some(&["PLAINTEXT://a.example:9092"]),
            &[("a.example", 9092), ("10.0.0.1", 9093)],
        );
    }

    #[test]
    fn controller_listeners_are_left_out() {
        told(&["PLAINTEXT://h:9092", "CONTROLLER://:9093"], None, &[("h", 9092)]);
        refused(&["CONTROLLER://:9093"], None, "no listener for clients");
    }

    #[test]
    fn mistakes_are_named() {
        refused(&["9092"], None, "NAME://HOST:PORT");
        refused(&["PLAINTEXT://h:99999"], None, "NAME://HOST:PORT");
        refused(&["PLAINTEXT://a b:1"], None, "NAME://HOST:PORT");
        refused(&["SSL://h:9092"], None, "only PLAINTEXT");
        refused(&["OTHER://h:9092"], None, "listener.security.protocol.map");
        refused(&["PLAINTEXT://h:1", "PLAINTEXT://h:2"], None, "appears twice");
        refused(&["PLAINTEXT://h:1", "INSIDE://h:1"], None, "the same port");
        refused(&["PLAINTEXT://h:1"], Some(&["INSIDE://h:1"]), "not one of the listeners");
        refused(&["PLAINTEXT://:1"], Some(&["PLAINTEXT://0.0.0.0:1"]), "can connect to");
    }
}
