//! wrk with a script that asks for paths that occur once, and stops after an exact number of answers.

use std::{fs, process::Command, time::Duration};

use tempfile::TempDir;

use crate::program::{Program, folder, wait_until};

/// A running wrk.
pub struct Wrk {
    program: Program,
    folder: TempDir,
    connections: usize,
}

/// What wrk says at its end.
#[derive(Debug)]
pub struct Report {
    /// How many requests were answered.
    pub requests: u64,
    text: String,
}

impl Report {
    /// Asserts that there was some traffic, and not one error of a socket nor a status that says one.
    pub fn assert_no_error(&self) {
        assert!(self.requests > 0 && self.text.contains("requests in"), "{}", self.text);
        for complaint in ["Socket errors", "Non-2xx"] {
            assert!(!self.text.contains(complaint), "{}", self.text);
        }
    }
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
        let stop = folder.path().join("stop");
        let text = SCRIPT
            .replace("%STOP%", stop.to_str().expect("our own name"))
            .replace("%EACH%", &each.to_string())
            .replace("%PREFIXES%", &list)
            .replace("%DELAY%", &delay_ms.to_string());
        fs::write(&script, text).expect("a fresh folder");
        let mut command = Command::new("wrk");
        let threads = connections.to_string();
        command.args(["--connections", &threads, "--threads", &threads, "--duration", "600s"]);
        command.arg("--script").arg(&script).arg(origin);
        Self { program: Program::start("wrk", &mut command), folder, connections }
    }

    /// The same at a moderate pace until [`Wrk::stop`].
    #[must_use]
    pub fn start_endless(origin: &str, connections: usize, prefixes: &[&str]) -> Self {
        Self::start_with(1, origin, connections, 0, prefixes)
    }

    /// Lets each thread stop after its next answer, so that no request is under way, and returns the report.
    #[must_use]
    pub fn stop(mut self) -> Report {
        fs::write(self.folder.path().join("stop"), "").expect("our own folder");
        let stopped = |id: usize| self.folder.path().join(format!("stopped-{id}"));
        wait_until("the end of wrk's threads", Duration::from_secs(20), || {
            (0..self.connections).all(|id| stopped(id).is_file())
        });
        let requests = (0..self.connections)
            .map(|id| fs::read_to_string(stopped(id)).ok()?.parse::<u64>().ok())
            .sum::<Option<u64>>()
            .expect("each thread has written its count");
        self.program.signal(libc::SIGINT);
        self.program.wait(Duration::from_secs(10));
        Report { requests, text: self.program.stdout() }
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
    elseif %EACH% == 0 and is_there("%STOP%") then
        local file = io.open("%STOP%.new" .. id, "w")
        file:write(answered)
        file:close()
        os.rename("%STOP%.new" .. id, "%STOP%ped-" .. id)
        wrk.thread:stop()
    end
end

function done(summary)
    io.write("bytes received: ", string.format("%d", summary.bytes), "\n")
end

function is_there(name)
    local file = io.open(name)
    return file and file:close()
end
"#;
