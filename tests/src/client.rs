//! Clients: curl as a process of its own for each request, and a bare socket for what no client would do.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::fd::AsRawFd,
    process::Command,
    time::Duration,
};

use crate::program::{Ended, Program};

/// Runs curl, quietly, without checking certificates.
#[must_use]
pub fn curl(arguments: &[&str]) -> Ended {
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--insecure", "--noproxy", "*"]).args(arguments);
    Program::run("curl", &mut command)
}

/// Runs curl, which must be content, and returns the status and the number of bytes of the body.
#[must_use]
pub fn fetch(arguments: &[&str]) -> (u16, u64) {
    let quiet = ["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}"];
    let ended = curl(&[&quiet, arguments].concat()).success("curl");
    let (status, bytes) = ended.stdout.split_once(' ').expect("curl writes what it was told");
    (status.parse().expect("a status"), bytes.parse().expect("a number"))
}

/// A connection without manners.
pub struct Socket {
    reader: BufReader<TcpStream>,
    port: u16,
}

impl Socket {
    /// Connects to a server of this machine.
    #[must_use]
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
        Self { reader: BufReader::new(stream), port }
    }

    /// Its own port.
    #[must_use]
    pub fn own_port(&self) -> u16 {
        self.reader.get_ref().local_addr().expect("it is connected").port()
    }

    /// A request without a body.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUser-Agent: socket\r\n\r\n", self.port)
    }

    /// Sends in one call.
    pub fn send(&mut self, bytes: &[u8]) {
        let written = self.reader.get_ref().write(bytes).expect("the server takes it");
        assert_eq!(written, bytes.len(), "one call takes it all");
    }

    /// Asks for a path, and returns the status and the body's length.
    pub fn get(&mut self, path: &str) -> (u16, usize) {
        let request = self.request("GET", path);
        self.send(request.as_bytes());
        self.response()
    }

    /// Reads a response whose length is announced, or that comes in chunks.
    pub fn response(&mut self) -> (u16, usize) {
        let status = self.line().split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            chunked |= line == "transfer-encoding: chunked";
        }
        if !chunked {
            return (status, self.skip(length));
        }
        let mut total = 0;
        loop {
            let size = usize::from_str_radix(&self.line(), 16).expect("the size of a chunk");
            total += self.skip(size);
            self.line();
            if size == 0 {
                return (status, total);
            }
        }
    }

    /// Reads so many bytes of whatever comes.
    pub fn skip(&mut self, bytes: usize) -> usize {
        let mut body = vec![0; bytes];
        self.reader.read_exact(&mut body).expect("the server sends what it has announced");
        bytes
    }

    /// Reads the rest of a response with `length` bytes of body, whose head has been begun or skipped.
    pub fn skip_response(&mut self, length: usize) {
        while !self.line().is_empty() {}
        self.skip(length);
    }

    /// Closes with a reset instead of an orderly end.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a small struct");
        let descriptor = self.reader.get_ref().as_raw_fd();
        // SAFETY: the descriptor is open, and the option is one whole linger that outlives the call.
        let set = unsafe {
            libc::setsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast::<libc::c_void>(),
                size,
            )
        };
        assert_eq!(set, 0, "SO_LINGER can be set");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("the server answers in time");
        line.trim_end().to_owned()
    }
}
