//! What one member of a share group reads, beside a plain consumer on the same broker, in turns.

use anyhow::Result;

use super::{Bench, GIB, PARTITIONS, number};
use crate::control::Shared;

/// How often the two take turns within a round.
const TURNS: u32 = 3;

impl Bench<'_> {
    pub(super) fn share(&mut self, broker: &Shared) -> Result<()> {
        self.start(broker, "start")?;
        let ways = [("consume", "one consumer"), ("share", "one share consumer")];
        let warm = self.fill(broker, "warm", self.sizes.warm_up_megabytes)?;
        for (command, _) in ways {
            self.ask(broker, "warm", command, &format!("records={warm:.0}"))?;
        }
        let records = self.fill(broker, "shared", self.sizes.share_megabytes)?;
        for turn in 0..TURNS {
            // Each goes first as often as it goes second, or nearly.
            let mut ways = ways;
            if turn % 2 == 1 {
                ways.reverse();
            }
            for (command, name) in ways {
                let rest = format!("records={records:.0}");
                let (answer, load) = self.loaded(broker, "shared", command, &rest)?;
                self.note(&format!("{name}, 1 KiB, MB/s"), number(&answer, "mb_s")?);
                let per_gib = load.spent.as_secs_f64() * GIB / number(&answer, "bytes")?;
                self.note(&format!("{name}, 1 KiB, CPU s/GiB"), per_gib);
                self.note(&format!("{name}, first record, ms"), number(&answer, "first_ms")?);
            }
        }
        broker.lock().stop()
    }

    /// A topic with records of 1 KiB; returns how many.
    fn fill(&mut self, broker: &Shared, topic: &str, megabytes: u32) -> Result<f64> {
        self.create(broker, topic, PARTITIONS)?;
        let rest = format!("size=1024 megabytes={megabytes}");
        number(&self.ask(broker, topic, "produce", &rest)?, "records")
    }
}
