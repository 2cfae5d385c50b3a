//! The workloads of `capture`, each a process of its own: one kind of system call, over and over.
//!
//! Calls come in bursts short enough that their records fit the ring buffer many times over, with a pause after each for
//! the agent to empty it: otherwise records would be dropped, which is cheaper than making them. The first calls of a
//! burst only warm up. What is timed is the thread's CPU time, and the result the median burst, so that interruptions
//! and neighbours count little.

use std::fs::File;
use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::parent_id;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::stats;

/// Name, and what it does.
pub(super) const WORKLOADS: &[(&str, &str)] = &[
    ("getppid", "getppid: not of interest"),
    ("null", "write to /dev/null, 64 B: no socket"),
    ("send-64", "send, recv of 64 B"),
    ("send-256", "send, recv of 256 B"),
    ("send-1024", "send, recv of 1 KiB"),
    ("send-4096", "send, recv of 4 KiB"),
    ("send-16384", "send, recv of 16 KiB"),
    ("writev-64", "writev, readv of 64 B"),
    ("writev-256", "writev, readv of 256 B"),
    ("writev-1024", "writev, readv of 1 KiB"),
    ("writev-4096", "writev, readv of 4 KiB"),
];

/// What the driver prints: nanoseconds per call in the median burst, and calls made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timing {
    pub(super) ns_per_call: f64,
    pub(super) calls: u64,
}

impl Timing {
    /// From the driver's output.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let mut next = || words.next().with_context(|| format!("the driver said {text:?}"));
        Ok(Self { ns_per_call: next()?.parse()?, calls: next()?.parse()? })
    }
}

/// Runs a workload and prints its [`Timing`].
pub(super) fn run(name: &str) -> Result<()> {
    let timing = measure(name, BURSTS)?;
    println!("{} {}", timing.ns_per_call, timing.calls);
    Ok(())
}

fn measure(name: &str, count: usize) -> Result<Timing> {
    match name.split_once('-') {
        None if name == "getppid" => bursts(count, 2_000, 1, || {
            black_box(parent_id());
            Ok(())
        }),
        None if name == "null" => {
            let mut null = File::options().write(true).open("/dev/null")?;
            bursts(count, 2_000, 1, || Ok(null.write_all(&[0; 64])?))
        }
        Some(("send", size)) => exchanges(count, size.parse()?, send, receive),
        Some(("writev", size)) => exchanges(count, size.parse()?, send_vector, receive_vector),
        _ => bail!("there is no workload {name}"),
    }
}

/// Both ends of a connection in one thread: a request and a response of `size` bytes each, sent and received in one call
/// each. Nothing ever waits, so that only calls are timed, not switches between processes.
fn exchanges(
    count: usize,
    size: usize,
    send: fn(&mut TcpStream, &[u8]) -> Result<()>,
    receive: fn(&mut TcpStream, &mut [u8]) -> Result<()>,
) -> Result<Timing> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let request = padded("GET /bench HTTP/1.1\r\nHost: x\r\n", size)?;
    let response = padded("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", size)?;
    let mut buffer = vec![0; size];
    // Each exchange makes four records, each with its header.
    let per_burst = (BURST_BYTES / (4 * (size + 100))).min(200);
    bursts(count, per_burst, 4, || {
        send(&mut client, &request)?;
        receive(&mut server, &mut buffer)?;
        send(&mut server, &response)?;
        receive(&mut client, &mut buffer)
    })
}

/// A message head of exactly `size` bytes: one that the agent parses, as it does those of real programs.
fn padded(head: &str, size: usize) -> Result<Vec<u8>> {
    const FIELD: &str = "P: ";
    const END: &str = "\r\n\r\n";
    let padding = size.checked_sub(head.len() + FIELD.len() + END.len());
    let padding = "p".repeat(padding.context("too small for a message")?);
    Ok(format!("{head}{FIELD}{padding}{END}").into_bytes())
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let sent = stream.write(bytes)?;
    ensure!(sent == bytes.len(), "only {sent} bytes were sent in one call");
    Ok(())
}

fn receive(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let received = stream.read(buffer)?;
    ensure!(received == buffer.len(), "only {received} bytes were received in one call");
    Ok(())
}

fn send_vector(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let sent = stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])?;
    ensure!(sent == bytes.len(), "only {sent} bytes were sent in one call");
    Ok(())
}

fn receive_vector(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let size = buffer.len();
    let (first, second) = buffer.split_at_mut(size / 2);
    let received = stream.read_vectored(&mut [IoSliceMut::new(first), IoSliceMut::new(second)])?;
    ensure!(received == size, "only {received} bytes were received in one call");
    Ok(())
}

/// Times `each`, which makes `calls` system calls, in `count` bursts of `per_burst`.
fn bursts(
    count: usize,
    per_burst: usize,
    calls: u64,
    mut each: impl FnMut() -> Result<()>,
) -> Result<Timing> {
    let mut times = Vec::with_capacity(count);
    let mut made = 0;
    for _ in 0..count {
        for _ in 0..per_burst / 4 {
            each()?;
        }
        let began = cpu_time();
        for _ in 0..per_burst {
            each()?;
        }
        times.push((cpu_time() - began).as_nanos() as f64 / (per_burst as u64 * calls) as f64);
        made += (per_burst + per_burst / 4) as u64 * calls;
        thread::sleep(PAUSE);
    }
    Ok(Timing { ns_per_call: stats::median(times), calls: made })
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // It begins at zero.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bursts of one run.
const BURSTS: usize = 40;
/// Bytes of records of one burst: below what wakes the reader, which would be timed too.
const BURST_BYTES: usize = 1 << 19;
/// Between two bursts; longer than the agent takes to look again.
const PAUSE: Duration = Duration::from_millis(12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_size_asked_for() {
        for size in [64, 256, 4096] {
            let bytes = padded("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", size).unwrap();
            assert_eq!(bytes.len(), size);
            assert!(bytes.ends_with(b"\r\n\r\n"));
        }
        assert!(padded("GET / HTTP/1.1\r\n", 10).is_err());
    }

    #[test]
    fn every_workload_runs() {
        for (name, _) in WORKLOADS {
            assert!(measure(name, 2).unwrap().calls > 0, "{name}");
        }
    }

    #[test]
    fn timings_are_read() {
        assert_eq!(Timing::parse("812.5 1000\n").unwrap(), Timing { ns_per_call: 812.5, calls: 1000 });
        assert!(Timing::parse("x").is_err());
    }
}
