//! The real binary, as an operator meets it: what it prints, refuses and ends with.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn aquifer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquifer"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// `serve` in a directory, on ports of its own.
fn serve(home: &Path, extra: &[&str]) -> Command {
    let data = format!("aquifer.data.dir={}", home.display());
    let mut command = aquifer(&["serve", "--set", &data]);
    command.args(["--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command.args(["--set", "aquifer.admin.listener=127.0.0.1:0"]);
    for setting in extra {
        command.args(["--set", setting]);
    }
    command
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A broker that has printed its banner.
struct Running {
    child: Child,
    banner: String,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary can be started");
        let out = child.stdout.take().expect("it is piped");
        let mut banner = String::new();
        let mut lines = BufReader::new(out);
        // The banner's last line begins so; the end of the stream means that it did not start.
        while lines.read_line(&mut banner).expect("it is text") != 0 {
            if banner.lines().last().is_some_and(|it| it.starts_with("Ctrl-C")) {
                break;
            }
        }
        Running { child, banner }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_manual_in_the_repository_is_the_one_the_binary_prints() {
    let printed = aquifer(&["configs"]).output().expect("the binary can be started");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let kept = std::fs::read_to_string(&path).expect("the manual is there");
    assert!(
        String::from_utf8_lossy(&printed.stdout) == kept,
        "docs/configuration.md is out of date: aquifer configs > docs/configuration.md"
    );
}

#[test]
fn a_broker_says_where_it_is_and_stops_when_told() {
    let home = tempfile::tempdir().expect("a directory");
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(serve(home.path(), &[]));
        assert!(running.banner.contains("Kafka     127.0.0.1:"), "{}", running.banner);
        running.signal(signal);
        let status = running.child.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_second_broker_in_the_same_directory_is_refused_and_the_first_goes_on() {
    let home = tempfile::tempdir().expect("a directory");
    let mut first = Running::start(serve(home.path(), &[]));
    let second = serve(home.path(), &[]).output().expect("the binary can be started");
    assert_eq!(second.status.code(), Some(1));
    let words = words(&second);
    let id = first.child.id().to_string();
    assert!(words.contains("is using the data directory") && words.contains(&id), "{words}");
    assert!(words.contains("Nothing was changed."), "{words}");
    assert_eq!(first.child.try_wait().expect("it can be asked"), None);
}

#[test]
fn a_killed_broker_starts_again_as_the_same_cluster() {
    let home = tempfile::tempdir().expect("a directory");
    let cluster = |running: &Running| {
        let line = running.banner.lines().find(|it| it.contains("Cluster "));
        line.expect("the banner names the cluster").to_owned()
    };
    let mut first = Running::start(serve(home.path(), &[]));
    let before = cluster(&first);
    first.child.kill().expect("it runs");
    first.child.wait().expect("it ends");
    let second = Running::start(serve(home.path(), &[]));
    assert_eq!(cluster(&second), before);
}

#[test]
fn a_lost_volume_stops_the_start_until_its_loss_is_accepted() {
    let home = tempfile::tempdir().expect("a directory");
    let start = |extra: &[&str]| {
        let running = Running::start(serve(home.path(), extra));
        assert!(running.banner.contains("Ctrl-C"), "it did not start: {}", running.banner);
        running
    };
    let (wal, kept) = (home.path().join("wal"), home.path().join("kept"));
    drop(start(&[])); // Killed: the metadata does not know that nothing was written.
    let name = std::fs::read_to_string(wal.join(".volume")).expect("it has a name");
    std::fs::rename(&wal, &kept).expect("moved away");
    let refused = serve(home.path(), &[]).output().expect("the binary can be started");
    assert_eq!(refused.status.code(), Some(1));
    let words = words(&refused);
    let accepted = format!("aquifer.wal.lost.volume={}", name.trim());
    assert!(words.contains(&accepted) && words.contains("Stored data is as it was."), "{words}");

    std::fs::remove_dir_all(&wal).expect("what was mounted in its place");
    std::fs::rename(&kept, &wal).expect("found again");
    drop(start(&[]));

    std::fs::remove_dir_all(&wal).expect("lost for good");
    drop(start(&[&accepted]));
    drop(start(&[])); // It is not asked for again.
}

#[test]
fn every_problem_of_a_configuration_is_told_before_anything_is_made() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let output = serve(&data, &["num.partition=3", "message.max.bytes=x"])
        .output()
        .expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1));
    let words = words(&output);
    assert!(words.contains("2 problem(s)"), "{words}");
    assert!(words.contains("did you mean num.partitions?"), "{words}");
    assert!(!data.exists());
}

#[test]
fn a_taken_port_and_an_unusable_directory_are_told() {
    let home = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    let listeners = format!("listeners=PLAINTEXT://{address}");
    let output = serve(home.path(), &[&listeners]).output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains(&format!("cannot listen on {address}")), "{}", words(&output));

    let file = home.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    let output = serve(&file, &[]).output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("the data directory"), "{}", words(&output));
}

#[test]
fn wrong_arguments_are_a_matter_of_usage() {
    let output = aquifer(&["sreve"]).output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("serve"), "{}", words(&output));
}
