//! MirrorMaker 2 between two brokers.

use anyhow::{Result, ensure};

use super::programs::{self, Programs};
use super::{Case, Stage};

const RECORDS: usize = 2_000;

pub(crate) fn run(stage: &Stage) -> Result<Vec<Case>> {
    let jars = programs::jars(stage)?;
    let programs = Programs { stage, jars: &jars };
    Ok(vec![Case::of(
        "records reach the other cluster, before and after the start",
        mirror(&programs),
    )])
}

fn mirror(programs: &Programs<'_>) -> Result<()> {
    let stage = programs.stage;
    let mut target = stage.another_broker()?;
    target.start()?;
    let (from, to) = (stage.address.clone(), target.address.to_string());
    programs.produce(&from, "orders", RECORDS)?;
    let properties = stage.logs.join("mm2.properties");
    let text = format!(
        "clusters=here,there\nhere.bootstrap.servers={from}\nthere.bootstrap.servers={to}\n\
         here->there.enabled=true\nhere->there.topics=orders\nthere->here.enabled=false\n\
         replication.factor=1\nrefresh.topics.interval.seconds=2\nsync.topic.acls.enabled=false\n\
         offset.flush.interval.ms=1000\ntasks.max=1\n{}",
        ["checkpoints", "heartbeats", "offset-syncs"]
            .map(|topic| format!("{topic}.topic.replication.factor=1\n"))
            .concat()
            + &["config", "offset", "status"]
                .map(|topic| format!("{topic}.storage.replication.factor=1\n"))
                .concat()
    );
    std::fs::write(&properties, text)?;
    let mut command = programs.java("org.apache.kafka.connect.mirror.MirrorMaker");
    command.arg(&properties);
    let mut mirror = programs::started(command, &stage.logs.join("mirror.log"))?;
    programs.consume(&to, "here.orders", "classic", RECORDS)?;
    programs.produce(&from, "orders", RECORDS)?;
    // The group goes on where it ended.
    programs.consume(&to, "here.orders", "classic", RECORDS)?;
    ensure!(mirror.ended()?.is_none(), "MirrorMaker ended by itself");
    mirror.stop()?;
    let complaints = target.complaints();
    ensure!(complaints.is_empty(), "the other broker complains: {complaints:?}");
    target.stop()
}
