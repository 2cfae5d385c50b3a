//! nginx with a configuration of its own, and its access log: what it says itself that it has served.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    machine,
    program::{Program, folder, free_port, listens, wait_until},
};

/// A running nginx: one master and one worker, plain and TLS.
pub struct Nginx {
    /// Plain HTTP.
    pub port: u16,
    /// HTTPS, with a certificate of its own.
    pub tls_port: u16,
    program: Program,
    folder: TempDir,
}

/// A line of the access log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// As the client sent it.
    pub method: String,
    /// As the client sent it.
    pub uri: String,
    /// What was answered.
    pub status: u16,
    /// From the first byte read to the last byte written, in milliseconds; nginx's clock has whole ones.
    pub milliseconds: f64,
    /// The client's port; 0 over a Unix socket.
    pub client_port: u16,
    /// The number that nginx gave the connection.
    pub connection: u64,
    /// Bytes of the request, its head included.
    pub request_bytes: u64,
    /// Bytes of the answer, its head included.
    pub response_bytes: u64,
}

impl Nginx {
    /// Starts it with these `location` blocks; files are those of [`Nginx::folder`]`/www`, which is `%BASE%/www` there.
    #[must_use]
    pub fn start(locations: &str) -> Self {
        Self::start_with(locations, "")
    }

    /// The same, but both ports speak HTTP/2, the plain one nothing else.
    #[must_use]
    pub fn start_http2(locations: &str) -> Self {
        Self::start_with(locations, " http2")
    }

    fn start_with(locations: &str, version: &str) -> Self {
        let folder = folder();
        let (port, tls_port) = (free_port(), free_port());
        fs::create_dir(folder.path().join("www")).expect("a fresh folder");
        certificate(folder.path());
        let base = folder.path().display().to_string();
        let configuration = CONFIGURATION
            .replace("%LOCATIONS%", locations)
            .replace("%BASE%", &base)
            .replace("%VERSION%", version)
            .replace("%PLAIN%", &port.to_string())
            .replace("%TLS%", &tls_port.to_string());
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).expect("a fresh folder");
        let mut command = Command::new(machine::find_program("nginx").expect("machine::ready has found it"));
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        command.arg("-e").arg(folder.path().join("error.log"));
        let mut program = Program::start("nginx", &mut command);
        program.wait_ready("listened", |_| listens(port) && listens(tls_port));
        Self { port, tls_port, program, folder }
    }

    /// A URL of the plain port.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A URL of the TLS port.
    #[must_use]
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.tls_port)
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a file that is served at `/name`.
    pub fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join("www").join(name), bytes).expect("a folder of ours");
    }

    /// The access log.
    #[must_use]
    pub fn log(&self) -> Vec<Logged> {
        let text = fs::read_to_string(self.log_file()).expect("nginx has made it");
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        text[..end].lines().map(|line| Logged::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    /// How many lines the access log has.
    #[must_use]
    pub fn log_lines(&self) -> usize {
        let bytes = fs::read(self.log_file()).expect("nginx has made it");
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits until the access log has at least `count` lines.
    pub fn wait_for_log(&self, count: usize) {
        wait_until(&format!("{count} lines in nginx's log"), Duration::from_secs(120), || {
            self.log_lines() >= count
        });
    }

    /// Ends it in an orderly way, so that its log is complete, and returns that.
    #[must_use]
    pub fn stop(mut self) -> Vec<Logged> {
        self.program.signal(libc::SIGQUIT);
        self.program.wait(Duration::from_secs(10));
        self.log()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }
}

impl Drop for Nginx {
    /// The worker goes with an orderly end only: a killed master leaves it behind.
    fn drop(&mut self) {
        self.program.signal(libc::SIGTERM);
        if self.program.is_running() {
            self.program.wait(Duration::from_secs(10));
        }
    }
}

impl Logged {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            client_port: match words.next()? {
                "" => 0,
                port => port.parse().ok()?,
            },
            status: words.next()?.parse().ok()?,
            milliseconds: words.next()?.parse::<f64>().ok()? * 1e3,
            method: words.next()?.to_owned(),
            uri: words.next()?.to_owned(),
            connection: words.next()?.parse().ok()?,
            request_bytes: words.next()?.parse().ok()?,
            response_bytes: words.next()?.parse().ok()?,
        })
    }
}

/// How often each status stands in a list.
pub fn by_status(statuses: impl IntoIterator<Item = u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    statuses.into_iter().for_each(|status| *counts.entry(status).or_default() += 1);
    counts
}

/// Makes `cert.pem` and `key.pem` in `folder`, for 127.0.0.1.
pub fn certificate(folder: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    command.arg("-keyout").arg(folder.join("key.pem")).arg("-out").arg(folder.join("cert.pem"));
    let _ = Program::run("openssl", &mut command).success("openssl req");
}

const CONFIGURATION: &str = r#"
daemon off;
user root;
worker_processes 1;
pid %BASE%/nginx.pid;
events { worker_connections 1024; }
http {
    log_format truth '$remote_port $status $request_time $request_method $request_uri '
                     '$connection $request_length $bytes_sent';
    access_log %BASE%/access.log truth;
    client_body_temp_path %BASE%/body;
    proxy_temp_path %BASE%/proxy;
    fastcgi_temp_path %BASE%/fastcgi;
    uwsgi_temp_path %BASE%/uwsgi;
    scgi_temp_path %BASE%/scgi;
    sendfile on;
    client_max_body_size 100m;
    keepalive_requests 1000000;
    ssl_certificate %BASE%/cert.pem;
    ssl_certificate_key %BASE%/key.pem;
    server {
        listen 127.0.0.1:%PLAIN%%VERSION%;
        listen 127.0.0.1:%TLS% ssl%VERSION%;
        root %BASE%/www;
        default_type text/plain;
        %LOCATIONS%
    }
}
"#;
