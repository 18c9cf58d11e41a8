//! What transactions cost a producer: the same records with and without, in turns, on one broker.

use anyhow::Result;

use super::{Bench, GIB, PARTITIONS, number};
use crate::control::Shared;

/// How often the two take turns within a round.
const TURNS: u32 = 3;

/// How long each transaction is.
const COMMIT_MS: u32 = 100;

impl Bench<'_> {
    pub(super) fn transactions(&mut self, broker: &Shared) -> Result<()> {
        self.start(broker, "start")?;
        self.create(broker, "warm", PARTITIONS)?;
        let commits = format!("transaction_ms={COMMIT_MS}");
        let warm = format!("size=1024 megabytes={}", self.sizes.warm_up_megabytes);
        self.ask(broker, "warm", "produce", &warm)?;
        self.ask(broker, "warm", "produce", &format!("{warm} {commits}"))?;
        let rest = format!("size=1024 megabytes={}", self.sizes.transactional_megabytes);
        let committed = format!("{rest} {commits}");
        for turn in 0..TURNS {
            // Each goes first as often as it goes second, or nearly.
            let mut ways = [("idempotent", &rest), ("commits every 100 ms", &committed)];
            if turn % 2 == 1 {
                ways.reverse();
            }
            for (name, rest) in ways {
                let topic =
                    format!("{}-{turn}", if rest == &committed { "committed" } else { "plain" });
                self.create(broker, &topic, PARTITIONS)?;
                let (answer, load) = self.loaded(broker, &topic, "produce", rest)?;
                self.note(&format!("produce 1 KiB, {name}, MB/s"), number(&answer, "mb_s")?);
                let per_gib = load.spent.as_secs_f64() * GIB / number(&answer, "bytes")?;
                self.note(&format!("produce 1 KiB, {name}, CPU s/GiB"), per_gib);
            }
        }
        broker.lock().stop()
    }
}
