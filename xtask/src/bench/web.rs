//! A web server and its load: nginx with one worker, wrk, and what a run of them took.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agent::{Accounts, Agent};
use super::child::{Cores, Running, bound};
use super::procfs;
use crate::command::{command, output};

/// What wrk asks for.
#[derive(Clone, Copy)]
pub(super) struct Case {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// For people.
    pub(super) what: &'static str,
    /// What wrk is given.
    pub(super) url: &'static str,
}

/// A 1 KiB file with its line in the access log: the target's case.
pub(super) const FILE: Case =
    Case { name: "file", what: "1 KiB file, access log", url: "http://127.0.0.1:18080/file" };
/// The cheapest answer that nginx has.
pub(super) const RETURN: Case =
    Case { name: "return", what: "return 200, no log", url: "http://127.0.0.1:18080/return" };
/// The file through OpenSSL.
pub(super) const TLS: Case =
    Case { name: "tls", what: "1 KiB file over TLS, access log", url: "https://127.0.0.1:18443/file" };

/// A running nginx.
pub(super) struct Nginx {
    _master: Running,
    worker: u32,
    folder: PathBuf,
}

impl Nginx {
    /// Starts it on these cores and returns when it listens.
    pub(super) fn start(folder: &Path, cores: Cores) -> Result<Self> {
        let folder = folder.join("nginx");
        fs::create_dir_all(folder.join("html"))?;
        fs::write(folder.join("html/file"), "spantap\n".repeat(128))?;
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        if !certificate.exists() {
            let mut openssl = command("openssl");
            openssl.args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=localhost",
            ]);
            output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate))?;
        }
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, CONFIGURATION.replace("FOLDER", &folder.to_string_lossy()))?;
        let mut nginx = bound("nginx", cores);
        nginx.arg("-e").arg(folder.join("error.log")).arg("-c").arg(&configuration);
        nginx.stdin(Stdio::null()).stdout(Stdio::null());
        let mut master = Running::start("nginx", &mut nginx)?;
        let until = Instant::now() + PATIENCE;
        let listens = || {
            ["127.0.0.1:18080", "127.0.0.1:18443"].map(std::net::TcpStream::connect).iter().all(Result::is_ok)
        };
        let worker = loop {
            master.check().context("nginx does not start; is port 18080 or 18443 in use?")?;
            match procfs::children(master.pid()).first() {
                Some(&worker) if listens() => break worker,
                _ if Instant::now() > until => bail!("nginx does not listen"),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Self { _master: master, worker, folder })
    }

    /// Empties the access log.
    fn forget(&self) -> Result<()> {
        Ok(fs::write(self.folder.join("access.log"), "")?)
    }
}

/// What one run took.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Requests that wrk saw answered.
    pub(super) requests: u64,
    /// Those per second.
    pub(super) per_second: f64,
    /// CPU time of nginx's worker.
    pub(super) server_cpu: Duration,
    /// Of the whole run, nginx's worker was running this part.
    pub(super) server_busy: f64,
    /// CPU time of the agent.
    pub(super) agent_cpu: Duration,
    /// What the agent had counted; empty without one.
    pub(super) accounts: Accounts,
}

impl Run {
    /// Microseconds of nginx's worker per request.
    pub(super) fn server_us(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    /// Spans per request: 2 if nothing is lost, for the agent sees the server's and the client's side.
    pub(super) fn spans_per_request(&self) -> f64 {
        self.accounts.get("spans") as f64 / self.requests as f64
    }
}

/// Loads nginx for `seconds`, watched by `agent` if there is one, which is looked at through `look` before it is stopped.
pub(super) fn load(
    nginx: &Nginx,
    case: Case,
    seconds: u32,
    cores: Cores,
    agent: Option<Agent>,
    look: impl FnOnce(&Agent) -> Result<()>,
) -> Result<Run> {
    nginx.forget()?;
    if agent.is_some() {
        // Libraries are probed shortly after the start.
        thread::sleep(SETTLE);
    }
    let agent_cpu = || agent.as_ref().map_or(Ok(Duration::ZERO), |agent| procfs::cpu_of_process(agent.pid()));
    let before = (procfs::cpu_of_thread(nginx.worker)?, agent_cpu()?);
    let mut wrk = bound("wrk", cores);
    wrk.args([
        "--threads",
        "1",
        "--connections",
        CONNECTIONS,
        "--duration",
        &format!("{seconds}s"),
        case.url,
    ]);
    let wrk = Wrk::parse(&output(&mut wrk)?)?;
    let server_cpu = procfs::cpu_of_thread(nginx.worker)? - before.0;
    if agent.is_some() {
        // What waits in the ring is this run's too.
        thread::sleep(SETTLE);
    }
    let agent_cpu = agent_cpu()? - before.1;
    let accounts = match agent {
        Some(agent) => {
            look(&agent)?;
            agent.stop()?
        }
        None => Accounts::default(),
    };
    Ok(Run {
        requests: wrk.requests,
        per_second: wrk.per_second,
        server_busy: server_cpu.as_secs_f64() * wrk.per_second / wrk.requests as f64,
        server_cpu,
        agent_cpu,
        accounts,
    })
}

/// What wrk says at its end.
#[derive(Debug, PartialEq)]
struct Wrk {
    requests: u64,
    per_second: f64,
}

impl Wrk {
    fn parse(text: &str) -> Result<Self> {
        let line = |word: &str| text.lines().find(|line| line.contains(word));
        if let Some(errors) = line("Non-2xx").or_else(|| line("Socket errors")) {
            bail!("wrk saw errors: {}", errors.trim());
        }
        let requests = line(" requests in ").and_then(|line| line.split_whitespace().next()?.parse().ok());
        let rate = line("Requests/sec:").and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        match (requests, rate) {
            (Some(requests @ 1..), Some(per_second)) => Ok(Self { requests, per_second }),
            _ => bail!("wrk made no requests: {text}"),
        }
    }
}

/// Connections that wrk keeps open.
const CONNECTIONS: &str = "32";
/// Before and after a load, for the agent to get ready and to finish.
const SETTLE: Duration = Duration::from_millis(500);
/// How long nginx may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// sendfile as in Debian's own configuration; everything else as nginx has it.
const CONFIGURATION: &str = "\
daemon off;
worker_processes 1;
pid FOLDER/nginx.pid;
error_log FOLDER/error.log;
events { worker_connections 1024; }
http {
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    access_log FOLDER/access.log;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    server {
        listen 127.0.0.1:18080;
        listen 127.0.0.1:18443 ssl;
        ssl_certificate FOLDER/certificate.pem;
        ssl_certificate_key FOLDER/key.pem;
        root FOLDER/html;
        location = /return { access_log off; return 200; }
    }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_wrk_is_read() {
        let text = "Running 2s test\n  33004 requests in 2.00s, 38.27MB read\nRequests/sec:  16490.21\n";
        assert_eq!(Wrk::parse(text).unwrap(), Wrk { requests: 33004, per_second: 16490.21 });
        assert!(Wrk::parse(&format!("{text}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(Wrk::parse("").is_err());
    }
}
