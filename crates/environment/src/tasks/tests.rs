//! Goal: each kind's policy, the gate, and that a shutdown says the truth about what still runs.

use super::*;

const DEADLINE: Duration = Duration::from_secs(5);

async fn forever() {
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn a_value_comes_back() {
    let group = TaskGroup::new("test");
    assert_eq!(group.spawn(TaskKind::Background, "sum", async { 1 + 1 }).await, Ok(2));
    assert_eq!(group.spawn_blocking(TaskKind::Background, "sum", || 1 + 2).await, Ok(3));
    assert_eq!(group.shutdown(DEADLINE).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_critical_panic_is_seen_at_the_root() {
    let root = TaskGroup::new("root");
    let child = root.child("wal");
    let handle = child.spawn(TaskKind::Critical, "writer", async { panic!("torn") });
    let failure = root.failed().await;
    assert_eq!(failure.to_string(), "task root/wal/writer panicked: torn");
    assert_eq!(handle.await, Err::<(), _>(TaskEnd::Panicked));
    assert_eq!(root.panics(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_background_panic_is_only_counted() {
    let group = TaskGroup::new("root");
    let end = group.spawn(TaskKind::Background, "sweep", async { panic!("oh") }).await;
    assert_eq!(end, Err::<(), _>(TaskEnd::Panicked));
    assert_eq!(group.panics(), 1);
    assert!(tokio::time::timeout(DEADLINE, group.failed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn tasks_drain_when_told_to_stop() {
    let group = TaskGroup::new("root");
    let child = group.child("listener");
    let (token, drained) = (child.token(), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&drained);
    child.spawn(TaskKind::Critical, "drainer", async move {
        token.stopped().await;
        tokio::task::yield_now().await;
        seen.store(1, Ordering::SeqCst);
    });
    assert_eq!(group.shutdown(DEADLINE).await, Vec::<String>::new());
    assert_eq!(drained.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_late_are_named_and_aborted_unless_critical() {
    let group = TaskGroup::new("root");
    let connection = group.spawn(TaskKind::Connection, "peer", forever());
    // A group whose handles are gone still counts while a task of it runs.
    group.child("data").spawn(TaskKind::Critical, "writer", forever());
    let kept = group.child("kept");
    kept.spawn(TaskKind::Critical, "guard", forever());
    const LATE: [&str; 3] = ["root/peer", "root/data/writer", "root/kept/guard"];
    assert_eq!(group.shutdown(DEADLINE).await, LATE);
    assert_eq!(connection.await, Err(TaskEnd::Stopped));
    assert_eq!(group.running(), LATE[1..]);
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_a_closed_gate() {
    let group = TaskGroup::new("root");
    let guard = group.enter().expect("open");
    assert!(tokio::time::timeout(DEADLINE, group.shutdown(DEADLINE * 2)).await.is_err());
    assert!(group.enter().is_none());
    let late = group.spawn(TaskKind::Background, "late", async { 1 }).await;
    assert_eq!(late, Err(TaskEnd::Stopped));
    let child = group.child("late");
    assert!(child.enter().is_none() && child.token().is_stopped());
    drop(guard);
    assert_eq!(group.shutdown(DEADLINE).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn stopping_one_child_leaves_its_siblings() {
    let group = TaskGroup::new("root");
    let (one, two) = (group.child("one"), group.child("two"));
    assert_eq!(one.shutdown(DEADLINE).await, Vec::<String>::new());
    assert!(one.token().is_stopped() && !two.token().is_stopped());
    assert_eq!(two.spawn(TaskKind::Background, "sum", async { 4 }).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_is_not_running() {
    let group = TaskGroup::new("root");
    let handle = group.spawn(TaskKind::Critical, "one", forever());
    assert_eq!(group.running(), ["root/one"]);
    handle.abort();
    assert_eq!(handle.await, Err(TaskEnd::Stopped));
    assert_eq!(group.running(), Vec::<String>::new());
}
