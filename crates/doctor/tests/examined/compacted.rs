//! Compacted runs: their gaps are no damage, and damage of theirs is found.

use crate::world::{Damaged, World};
use crate::{DEEP, is_exactly, options};
use bucket::Key;
use doctor::{Field, Invariant, Row, Subject};
use partition_log::segment::HEADER_LEN;

/// The last digit of a compacted segment's name.
const COMPACTED: char = 'c';

fn number(row: &Row, field: &str) -> i128 {
    match row.get(field) {
        Some(Field::Number(it)) => *it,
        other => panic!("{field} of {row:?} is {other:?}"),
    }
}

fn text<'a>(row: &'a Row, field: &str) -> &'a str {
    match row.get(field) {
        Some(Field::Text(it)) => it,
        other => panic!("{field} of {row:?} is {other:?}"),
    }
}

async fn rows(copy: &Damaged, subject: &Subject, kind: &str) -> Vec<Row> {
    let (is_broken, rows) = copy.inspect(subject).await;
    assert!(!is_broken, "{rows:?}");
    rows.into_iter().filter(|it| it.kind == kind).collect()
}

async fn runs(copy: &Damaged) -> Vec<Row> {
    rows(copy, &Subject::Partition { topic: "changelog".into(), index: 0 }, "run").await
}

/// The object of the first compacted run.
async fn compacted(copy: &Damaged) -> String {
    let runs = runs(copy).await;
    let first = runs.iter().map(|it| text(it, "object")).find(|it| it.ends_with(COMPACTED));
    first.expect("something is compacted").to_owned()
}

#[tokio::test(start_paused = true)]
async fn gaps_and_missing_markers_of_compacted_runs_are_healthy() {
    let world = World::build_compacted().await;
    let copy = world.copy();
    let report = copy.examine(&options(DEEP)).await;
    assert!(report.is_healthy(), "{:#?}", report.findings());
    assert!(report.checked("payload bytes").is_some_and(|it| 0 < it));

    let runs = runs(&copy).await;
    let last = runs.last().expect("there are runs");
    assert!(!text(last, "object").ends_with(COMPACTED), "a transaction is open there: {runs:?}");
    let key = Key::new(compacted(&copy).await);
    let batches = rows(&copy, &Subject::Segment { key, with_batches: true }, "batch").await;
    let gap = |it: &[Row]| number(&it[0], "last") + 1 < number(&it[1], "base");
    assert!(batches.windows(2).any(gap), "{batches:?}");
    let is_aborted = |it: &&Row| it.get("marker") == Some(&Field::Text("abort".into()));
    let end = number(batches.last().expect("there are batches"), "last") + 1;
    // Of five, one each round.
    assert!(batches.iter().filter(is_aborted).count() < 4, "of {end} offsets: {batches:?}");
}

#[tokio::test(start_paused = true)]
async fn damage_of_a_compacted_run_is_found_where_it_is() {
    let world = World::build_compacted().await;
    let object = compacted(&world.copy()).await;
    let length = world.copy().bytes(&object).await.len() as u64;

    let payload = world.copy();
    payload.flip(&object, HEADER_LEN as i64 + 100).await;
    assert!(payload.examine(&options(!DEEP)).await.is_healthy(), "nobody has read the payload");
    let report = payload.examine(&options(DEEP)).await;
    is_exactly(&report, Invariant::A6, &object);
    let range = report.findings()[0].range.clone().expect("a run's bytes");
    assert!(range.contains(&(HEADER_LEN as u64 + 100)) && range.end < length, "{range:?}");

    let index = world.copy();
    index.flip(&object, -50).await;
    is_exactly(&index.examine(&options(!DEEP)).await, Invariant::A6, &object);

    let cut = world.copy();
    let mut bytes = cut.bytes(&object).await;
    bytes.truncate(bytes.len() / 2);
    cut.write(&object, bytes).await;
    is_exactly(&cut.examine(&options(!DEEP)).await, Invariant::A6, &object);

    // In the place of another run, whose offsets it does not have.
    let swapped = world.copy();
    let all = runs(&swapped).await;
    let other = text(all.last().expect("there are runs"), "object").to_owned();
    swapped.write(&other, swapped.bytes(&object).await).await;
    is_exactly(&swapped.examine(&options(!DEEP)).await, Invariant::A6, &other);

    let gone = world.copy();
    gone.delete(&object).await;
    is_exactly(&gone.examine(&options(!DEEP)).await, Invariant::A6, &object);
}
