"""What the Python client programs share: named checks, broker control, and the content that clients exchange.

A program prints one line a check, `ok - NAME` or `not ok - NAME # REASON` (`ok - NAME # SKIP REASON` for a skip);
`cargo xtask test` counts them. The broker's address comes in BOOTSTRAP, the address of the control socket
(stop, kill, start the broker) in CONTROL.
"""

import os
import socket
import sys
import time
import traceback
import uuid

BOOTSTRAP = os.environ["BOOTSTRAP"]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CROSS_COUNT = 300
CHECKS = []


class Skip(Exception):
    """Raised by a check that cannot run here; the reason is its text."""


def check(function):
    """Registers a check; its docstring's first line is the promise that it protects."""
    CHECKS.append(function)
    return function


def run_checks(prefix, only=None):
    """Runs the registered checks in order and returns the exit status."""
    failed = 0
    for function in CHECKS:
        if only and only not in function.__name__:
            continue
        name = f"{prefix}: {function.__doc__.splitlines()[0]}"
        started = time.monotonic()
        try:
            function()
            print(f"ok - {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Skip as reason:
            print(f"ok - {name} # SKIP {reason}", flush=True)
        except Exception as error:  # noqa: BLE001 a check fails for whatever reason and the next one runs
            failed += 1
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok - {name} # {reason[:600]}", flush=True)
            traceback.print_exc()
    return 1 if failed else 0


def report(name, problem=None):
    """Prints the result of one check that is not a function."""
    print(f"not ok - {name} # {problem}" if problem else f"ok - {name}", flush=True)


def equal(actual, expected, what="value"):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def that(condition, what):
    if not condition:
        raise AssertionError(what)


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def until(condition, seconds, what):
    """Polls `condition` until it gives something true; the limit only bounds a failure."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if deadline <= time.monotonic():
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Control:
    """Stops, kills and starts the broker under test."""

    def __init__(self):
        if "CONTROL" not in os.environ:
            raise Skip("no control socket")
        host, port = os.environ["CONTROL"].rsplit(":", 1)
        self.stream = socket.create_connection((host, int(port)), timeout=180)
        self.lines = self.stream.makefile("rw", newline="\n")

    def ask(self, command):
        self.lines.write(command + "\n")
        self.lines.flush()
        word, _, rest = self.lines.readline().strip().partition(" ")
        if word != "ok":
            raise AssertionError(f"{command}: {rest}")
        return int(rest)


def cross_topic(writer, codec):
    return f"cross-{writer}-{codec}"


def cross_key(index):
    return str(index).encode()


def cross_value(writer, codec, index):
    """What every client writes and every client expects: the same text in all languages."""
    return (f"{writer}/{codec}/{index};" * (index % 20 + 1)).encode()


def cross_verify(reader, writer, codec, messages):
    """`messages`: list of (key, value) bytes in order of arrival."""
    name = f"{reader} reads what {writer} wrote with {codec}"
    expected = [(cross_key(i), cross_value(writer, codec, i)) for i in range(CROSS_COUNT)]
    problem = None
    if len(messages) != CROSS_COUNT:
        problem = f"expected {CROSS_COUNT} messages, got {len(messages)}"
    elif messages != expected:
        at = next(i for i in range(CROSS_COUNT) if messages[i] != expected[i])
        problem = f"message {at} differs: {messages[at]!r}"[:300]
    report(name, problem)
    return problem is None


def main(prefix, write, read):
    """The command line of every client program: `scenarios [PART-OF-A-NAME]`, `cross-write` or `cross-read WRITER…`."""
    mode, *rest = sys.argv[1:] or ["scenarios"]
    if mode == "scenarios":
        return run_checks(prefix, *rest[:1])
    if mode == "cross-write":
        for codec in CODECS:
            write(cross_topic(prefix, codec), codec)
        report(f"{prefix} writes with every codec")
        return 0
    if mode == "cross-read":
        fine = [
            cross_verify(prefix, writer, codec, read(cross_topic(writer, codec)))
            for writer in rest
            for codec in CODECS
        ]
        return 0 if all(fine) else 1
    raise SystemExit(f"unknown mode {mode}")
