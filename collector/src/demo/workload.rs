//! The demo's processes: started, found, ended.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Error, Result},
    process::{Child, Command, Stdio},
};

use spantap_ebpf_common::event::Tgid;

/// A server and a client, real processes with real sockets. Dropping it ends them.
pub(super) struct Workload {
    children: Vec<Child>,
}

impl Workload {
    /// Starts both.
    pub fn start() -> Result<Self> {
        let mut workload = Self { children: Vec::new() };
        let mut server = part("shop", &["workload", "server"]).stdout(Stdio::piped()).spawn()?;
        let output = server.stdout.take();
        workload.children.push(server);
        let mut line = String::new();
        if let Some(output) = output {
            BufReader::new(output).read_line(&mut line)?;
        }
        let port: u16 = line.trim().parse().map_err(|_| Error::other("the demo's server did not start"))?;
        let client = part("shopper", &["workload", "client", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .spawn()?;
        workload.children.push(client);
        Ok(workload)
    }

    /// The processes.
    pub fn tgids(&self) -> HashSet<Tgid> {
        self.children.iter().map(|child| Tgid(child.id())).collect()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A part of the workload. It ends when its standard input does: so also if this process is killed.
fn part(service: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).stdin(Stdio::piped()).env("OTEL_SERVICE_NAME", service);
    command
}

/// Ends this process when its parent is gone.
pub(super) fn end_with_parent() {
    std::thread::spawn(|| {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {}
        std::process::exit(0);
    });
}
