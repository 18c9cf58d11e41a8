//! What a person sees first: what runs, where it is, what to try next.

use std::fmt;
use std::net::SocketAddr;

/// Printed once, when the broker is ready.
#[derive(Debug, Clone)]
pub(crate) struct Banner {
    /// Where clients connect, as they are told.
    pub(crate) kafka: Vec<String>,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) bucket: String,
    pub(crate) wal: String,
    pub(crate) cluster_id: String,
    pub(crate) broker_id: i32,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Aquifer {}: a Kafka-compatible broker that owns no data\n",
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(f, "  Kafka     {}", self.kafka.join(", "))?;
        match self.admin {
            Some(address) => writeln!(f, "  Admin     http://{address}/ (/readyz, /metrics)")?,
            None => writeln!(f, "  Admin     off")?,
        }
        writeln!(f, "  Bucket    {}", self.bucket)?;
        writeln!(f, "  WAL       {}", self.wal)?;
        writeln!(f, "  Cluster   {}, broker {}", self.cluster_id, self.broker_id)?;
        let server = self.kafka.first().map_or("HOST:PORT", String::as_str);
        writeln!(
            f,
            "\nTry:\n  echo hello | kcat -b {server} -t greetings -P\n  \
             kcat -b {server} -t greetings -C -e\n  \
             kafka-topics.sh --bootstrap-server {server} --describe\n\n\
             Ctrl-C stops it."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_has_what_a_first_session_needs() {
        let banner = Banner {
            kafka: vec!["127.0.0.1:9092".to_owned()],
            admin: Some(([127, 0, 0, 1], 9600).into()),
            bucket: "/d/bucket".to_owned(),
            wal: "/d/wal".to_owned(),
            cluster_id: "abc".to_owned(),
            broker_id: 0,
        };
        let text = banner.to_string();
        for part in [
            "Kafka     127.0.0.1:9092",
            "http://127.0.0.1:9600/",
            "Bucket    /d/bucket",
            "WAL       /d/wal",
            "Cluster   abc, broker 0",
            "kcat -b 127.0.0.1:9092 -t greetings",
            "--bootstrap-server 127.0.0.1:9092",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let off = Banner { admin: None, ..banner };
        assert!(off.to_string().contains("Admin     off"));
    }
}
