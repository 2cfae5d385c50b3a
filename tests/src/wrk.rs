//! wrk with a script that asks for paths that occur once, and stops after an exact number of answers.

use std::{fs, process::Command, time::Duration};

use tempfile::TempDir;

use crate::program::{Program, folder};

/// A running wrk.
pub struct Wrk {
    program: Program,
    _folder: TempDir,
}

impl Wrk {
    /// Starts one thread for each connection. Each asks for `prefixes` in turn, every path with a number of its own
    /// (`/ok/0-17`), and stops after `each` answers: no request is under way then, so that both ends agree on the
    /// number of requests. It waits for a millisecond before each request: how fast the agent can be at most is for
    /// benchmarks to say, and a machine that is busy with other things must not decide whether a test passes.
    #[must_use]
    pub fn start(origin: &str, connections: usize, each: usize, prefixes: &[&str]) -> Self {
        Self::start_with(1, origin, connections, each, prefixes)
    }

    /// The same as fast as it can.
    #[must_use]
    pub fn start_at_full_speed(origin: &str, connections: usize, each: usize, prefixes: &[&str]) -> Self {
        Self::start_with(0, origin, connections, each, prefixes)
    }

    fn start_with(delay_ms: u32, origin: &str, connections: usize, each: usize, prefixes: &[&str]) -> Self {
        let folder = folder();
        let script = folder.path().join("requests.lua");
        let list = prefixes.iter().map(|prefix| format!("{prefix:?}")).collect::<Vec<_>>().join(", ");
        let text = SCRIPT
            .replace("%EACH%", &each.to_string())
            .replace("%PREFIXES%", &list)
            .replace("%DELAY%", &delay_ms.to_string());
        fs::write(&script, text).expect("a fresh folder");
        let mut command = Command::new("wrk");
        let connections = connections.to_string();
        command.args(["--connections", &connections, "--threads", &connections, "--duration", "120s"]);
        command.arg("--script").arg(&script).arg(origin);
        Self { program: Program::start("wrk", &mut command), _folder: folder }
    }

    /// Ends it once its threads have stopped: the main one would sleep until the duration is over. Returns its report.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.program.signal(libc::SIGINT);
        self.program.wait(Duration::from_secs(10));
        self.program.stdout()
    }
}

const SCRIPT: &str = r#"
local threads = 0
local sent = 0
local answered = 0
local prefixes = {%PREFIXES%}

function setup(thread)
    thread:set("id", threads)
    threads = threads + 1
end

function request()
    sent = sent + 1
    return wrk.format("GET", prefixes[sent % #prefixes + 1] .. id .. "-" .. sent)
end

function delay()
    return %DELAY%
end

function response()
    answered = answered + 1
    if answered == %EACH% then
        wrk.thread:stop()
    end
end
"#;
