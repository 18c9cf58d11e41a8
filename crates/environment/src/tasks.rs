//! Named tasks in groups: what happens when one panics, and how they all stop.
//!
//! Owns: putting futures on the runtime, who is running, the stop signal, the gate.
//! Does not own: what a task does when told to stop, nor the order in which groups are stopped (the
//! binary writes that down).
//!
//! A group stops in three steps. The gate closes: nothing new is spawned or let in. The token is
//! cancelled: tasks see [`StopToken::stopped`] and drain. The deadline passes: what is still running
//! is reported by name, and aborted if its kind allows.
//!
//! Invariants: a task of a group is counted from `spawn` until its future is dropped, so a finished
//! [`TaskGroup::shutdown`] that returned no name means that nothing of the group runs any more. Child
//! groups are part of their parent: stopping the parent stops them, stopping one child leaves the
//! siblings alone.

use futures::FutureExt;
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// What a task is to the process: the policy when it panics and when it is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// Guards data, epochs or order. On panic: the whole process must stop, so the group's failure
    /// is set and the binary leaves. On stop: never aborted; a deadline that passes is reported.
    Critical,
    /// Improves things but can miss a round. On panic: error log and counter, the others go on. On
    /// stop: aborted when the deadline passes.
    Background,
    /// Serves one peer. On panic: error log and counter, that peer is cut off, the others go on. On
    /// stop: aborted when the deadline passes.
    Connection,
}

/// Why the process has to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure {
    /// The critical task that panicked, with its group.
    pub task: String,
    /// What it panicked with.
    pub message: String,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} panicked: {}", self.task, self.message)
    }
}

/// How a task ended without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// It panicked; this was logged and counted by its kind's policy.
    Panicked,
    /// It was aborted, or the group was already closed when it was spawned.
    Stopped,
}

impl fmt::Display for TaskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskEnd::Panicked => "the task panicked",
            TaskEnd::Stopped => "the task was stopped",
        })
    }
}

impl std::error::Error for TaskEnd {}

/// A group of tasks. Clones are handles to the same group.
#[derive(Clone)]
pub struct TaskGroup {
    inner: Arc<Group>,
}

struct Group {
    name: String,
    stop: CancellationToken,
    tracker: TaskTracker,
    /// Leaf lock: touched at spawn, at the end of a task and while stopping, never across an await.
    members: Mutex<Members>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Members {
    closed: bool,
    next_id: u64,
    running: BTreeMap<u64, Member>,
    children: Vec<Weak<Group>>,
}

struct Member {
    kind: TaskKind,
    name: Cow<'static, str>,
    /// Absent for an instant while the task is being spawned.
    abort: Option<AbortHandle>,
}

/// What a whole tree of groups has in common.
struct Shared {
    failure: watch::Sender<Option<TaskFailure>>,
    panics: AtomicU64,
}

impl TaskGroup {
    /// A root: failures of critical tasks anywhere below it are seen here.
    pub fn new(name: impl Into<String>) -> TaskGroup {
        let shared =
            Arc::new(Shared { failure: watch::Sender::new(None), panics: AtomicU64::new(0) });
        TaskGroup { inner: Group::new(name.into(), CancellationToken::new(), shared) }
    }

    /// A group that stops with this one, and can be stopped before it.
    pub fn child(&self, name: &'static str) -> TaskGroup {
        let name = format!("{}/{name}", self.inner.name);
        let stop = self.inner.stop.child_token();
        let child = Group::new(name, stop, Arc::clone(&self.inner.shared));
        let mut members = self.inner.members();
        child.members().closed = members.closed;
        members.children.retain(|it| 0 < it.strong_count());
        members.children.push(Arc::downgrade(&child));
        drop(members);
        TaskGroup { inner: child }
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `future` on the runtime. In a closed group the future is dropped unpolled and the handle
    /// answers [`TaskEnd::Stopped`]. Dropping the handle detaches, it does not abort.
    pub fn spawn<F>(
        &self,
        kind: TaskKind,
        name: impl Into<Cow<'static, str>>,
        future: F,
    ) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let Some((id, guard)) = self.inner.enter_named(kind, name.into()) else {
            return TaskHandle { task: None };
        };
        let task = async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            guard.finish(outcome)
        };
        #[expect(clippy::disallowed_methods, reason = "this is the spawn the lint points to")]
        let task = tokio::spawn(task);
        self.inner.set_abort(id, task.abort_handle());
        TaskHandle { task: Some(task) }
    }

    /// Runs blocking `work` on the runtime's blocking threads. It cannot be aborted: shutdown waits
    /// for it until the deadline and then reports it.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        kind: TaskKind,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> TaskHandle<T> {
        let Some((_, guard)) = self.inner.enter_named(kind, name.into()) else {
            return TaskHandle { task: None };
        };
        let work = move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(work));
            guard.finish(outcome)
        };
        TaskHandle { task: Some(tokio::task::spawn_blocking(work)) }
    }

    /// Passes the gate: while the guard lives, [`TaskGroup::shutdown`] waits. `None` once closed.
    pub fn enter(&self) -> Option<GateGuard> {
        let members = self.inner.members();
        (!members.closed).then(|| GateGuard {
            _token: self.inner.tracker.token(),
            _group: Arc::clone(&self.inner),
        })
    }

    /// Cancelled when this group, or one above it, starts to stop.
    pub fn token(&self) -> StopToken {
        StopToken(self.inner.stop.clone())
    }

    /// Waits until a critical task anywhere in this tree of groups panics. The binary selects on it.
    pub async fn failed(&self) -> TaskFailure {
        let mut failure = self.inner.shared.failure.subscribe();
        let seen = failure.wait_for(Option::is_some).await.map(|it| it.clone());
        match seen {
            Ok(Some(failure)) => failure,
            // The sender lives in `self`, and `wait_for` returns only what its test accepted.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Panics of all kinds in this tree of groups since the process started.
    pub fn panics(&self) -> u64 {
        self.inner.shared.panics.load(Ordering::Relaxed)
    }

    /// Names of what runs now, with their group.
    pub fn running(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.inner.visit(&mut |group| {
            let members = group.members();
            names.extend(members.running.values().map(|it| format!("{}/{}", group.name, it.name)));
        });
        names
    }

    /// Closes the gate, cancels the token, waits until all tasks and guards are gone or `deadline`
    /// has passed. Then aborts what its kind allows, and returns the names of what was still
    /// running: empty after a clean stop. Later calls wait again.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<String> {
        self.inner.visit(&mut |group| {
            group.members().closed = true;
            group.tracker.close();
        });
        self.inner.stop.cancel();
        if tokio::time::timeout(deadline, self.drained()).await.is_ok() {
            return Vec::new();
        }
        let late = self.running();
        self.inner.visit(&mut |group| {
            for member in group.members().running.values() {
                match (member.kind, &member.abort) {
                    (TaskKind::Critical, _) | (_, None) => (),
                    (TaskKind::Background | TaskKind::Connection, Some(abort)) => abort.abort(),
                }
            }
        });
        late
    }

    async fn drained(&self) {
        let mut groups = Vec::new();
        self.inner.visit(&mut |group| groups.push(group.tracker.clone()));
        for tracker in groups {
            tracker.wait().await;
        }
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl Group {
    fn new(name: String, stop: CancellationToken, shared: Arc<Shared>) -> Arc<Group> {
        let members = Mutex::default();
        Arc::new(Group { name, stop, tracker: TaskTracker::new(), members, shared })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This group, then the living groups below it.
    fn visit(&self, each: &mut impl FnMut(&Group)) {
        each(self);
        let children: Vec<_> = self.members().children.iter().filter_map(Weak::upgrade).collect();
        for child in children {
            child.visit(each);
        }
    }

    fn enter_named(
        self: &Arc<Self>,
        kind: TaskKind,
        name: Cow<'static, str>,
    ) -> Option<(u64, MemberGuard)> {
        let mut members = self.members();
        if members.closed {
            return None;
        }
        let id = members.next_id;
        members.next_id += 1;
        members.running.insert(id, Member { kind, name, abort: None });
        let token = self.tracker.token();
        Some((id, MemberGuard { group: Arc::clone(self), id, _token: token }))
    }

    fn set_abort(&self, id: u64, abort: AbortHandle) {
        if let Some(member) = self.members().running.get_mut(&id) {
            member.abort = Some(abort);
        }
    }
}

/// Counts a task for as long as its future exists, however it ends.
struct MemberGuard {
    group: Arc<Group>,
    id: u64,
    _token: TaskTrackerToken,
}

impl MemberGuard {
    fn finish<T>(self, outcome: Result<T, Box<dyn Any + Send>>) -> Result<T, TaskEnd> {
        let payload = match outcome {
            Ok(value) => return Ok(value),
            Err(payload) => payload,
        };
        let message = panic_message(payload.as_ref());
        let shared = &self.group.shared;
        shared.panics.fetch_add(1, Ordering::Relaxed);
        let member =
            self.group.members().running.get(&self.id).map(|it| (it.kind, it.name.clone()));
        let (kind, name) = member.unwrap_or((TaskKind::Critical, Cow::Borrowed("unknown")));
        let task = format!("{}/{name}", self.group.name);
        tracing::error!(task, ?kind, message, "a task panicked");
        match kind {
            TaskKind::Critical => {
                // The first failure is the cause; later ones are usually its consequences.
                shared.failure.send_if_modified(|failure| {
                    let first = failure.is_none();
                    failure.get_or_insert(TaskFailure { task, message });
                    first
                });
            }
            TaskKind::Background | TaskKind::Connection => (),
        }
        Err(TaskEnd::Panicked)
    }
}

impl Drop for MemberGuard {
    fn drop(&mut self) {
        self.group.members().running.remove(&self.id);
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|it| (*it).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A spawned task's result. Awaiting gives its value; dropping lets it run on.
#[derive(Debug)]
pub struct TaskHandle<T> {
    task: Option<JoinHandle<Result<T, TaskEnd>>>,
}

impl<T> TaskHandle<T> {
    /// Drops the future at its next await point. Blocking work is not affected.
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskEnd>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.task {
            None => Poll::Ready(Err(TaskEnd::Stopped)),
            Some(task) => Pin::new(task).poll(context).map(|joined| match joined {
                Ok(outcome) => outcome,
                // Panics were caught inside, so this is an abort or the end of the runtime.
                Err(_) => Err(TaskEnd::Stopped),
            }),
        }
    }
}

/// Says when to stop. Clones see the same signal.
#[derive(Debug, Clone)]
pub struct StopToken(CancellationToken);

impl StopToken {
    /// A signal of its own, for tests and for stopping a part of a task.
    pub fn new() -> StopToken {
        StopToken(CancellationToken::new())
    }

    /// Stops with this one, and can be stopped before it.
    pub fn child(&self) -> StopToken {
        StopToken(self.0.child_token())
    }

    pub fn stop(&self) {
        self.0.cancel();
    }

    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when it is time to stop. Safe to drop and call again.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// As [`StopToken::stopped`], for a future that must own what it waits for.
    pub fn stopped_owned(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

impl Default for StopToken {
    fn default() -> StopToken {
        StopToken::new()
    }
}

/// Work that is not a task of its own but that a shutdown must wait for.
pub struct GateGuard {
    _token: TaskTrackerToken,
    /// A parent finds the groups it waits for through weak references.
    _group: Arc<Group>,
}

impl fmt::Debug for GateGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GateGuard")
    }
}

#[cfg(test)]
mod tests;
