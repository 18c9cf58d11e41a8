//! The binary as benchmarks use it, and its pages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// Ends the process when a test fails before it did.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, request: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn the_binary_serves_tells_and_stops() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fake-s3"))
        .args(["--listen", "127.0.0.1:0", "--print-counts", "--seed", "3", "--delays", "none"])
        .stdout(Stdio::piped())
        .spawn()
        .map(Process)
        .expect("it starts");
    let mut output = BufReader::new(child.0.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it tells where it listens");
    let address = line.trim().rsplit('/').next().expect("an address").to_owned();

    let answer = ask(&address, "PUT /wells/one", "hello");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("etag: \""), "{answer}");
    assert!(ask(&address, "GET /wells/one", "").ends_with("\r\n\r\nhello"));
    let head = ask(&address, "HEAD /wells/one", "");
    assert!(head.contains("content-length: 5") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(&address, "GET /wells/one?tagging", "").starts_with("HTTP/1.1 501 "));

    assert!(
        ask(&address, "POST /_fake-s3/faults?conflict=1,internal-error=0", "").contains("done")
    );
    assert!(ask(&address, "POST /_fake-s3/faults?frob=1", "").contains("frob is no fault"));
    assert!(ask(&address, "POST /_fake-s3/delays?frob", "").starts_with("HTTP/1.1 400 "));
    assert!(ask(&address, "POST /_fake-s3/nowhere", "").starts_with("HTTP/1.1 400 "));
    let counts = ask(&address, "GET /_fake-s3/counts", "");
    assert!(counts.contains("\nput requests=1 bytes_in=5 bytes_out=0 "), "{counts}");
    assert!(counts.contains("\nunknown requests=1 "), "{counts}");

    let id = child.0.id().to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
    assert!(asked.success());
    let status = child.0.wait().expect("it ends");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("readable");
    assert!(status.success() && rest.contains("total requests=4 "), "{status}: {rest}");
}

#[test]
fn a_taken_port_and_wrong_words_are_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_fake-s3")).args(["--faults", "frob=1"]).output();
    let output = output.expect("it runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("frob is no fault"), "{words}");
}
