//! Prometheus of Debian, which scrapes the agent and answers PromQL.

use std::{fs, process::Command};

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::{
    client::curl,
    program::{Program, folder, free_port, listens},
};

/// A running Prometheus.
pub struct Prometheus {
    port: u16,
    program: Program,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `127.0.0.1:target` every second. The labels `job` and `instance` are ours where we give
    /// some, as with any source that speaks for several services.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let folder = folder();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n  - job_name: node\n    honor_labels: true\n    \
             static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("a fresh folder");
        let port = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--enable-feature=exemplar-storage");
        let mut program = Program::start("prometheus", &mut command);
        program.wait_ready("listened", |_| listens(port));
        Self { port, program, _folder: folder }
    }

    /// The samples that a query yields now: labels and value.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<(Json, f64)> {
        let found = self.get("query", &["--data-urlencode", &format!("query={query}")]);
        let sample = |sample: &Json| {
            let value = sample["value"][1].as_str().expect("a number as text").parse().expect("a number");
            (sample["metric"].clone(), value)
        };
        found["result"].as_array().expect("a vector").iter().map(sample).collect()
    }

    /// The single value of a query, if it has one yet.
    #[must_use]
    pub fn value(&self, query: &str) -> Option<f64> {
        match &self.query(query)[..] {
            [] => None,
            [(_, value)] => Some(*value),
            several => panic!("{query}: {several:?}"),
        }
    }

    /// The exemplars of the series that `query` selects: labels and value.
    #[must_use]
    pub fn exemplars(&self, query: &str) -> Vec<(Json, f64)> {
        let times = [
            "--data-urlencode",
            "start=2000-01-01T00:00:00Z",
            "--data-urlencode",
            "end=2200-01-01T00:00:00Z",
        ];
        let query = format!("query={query}");
        let found = self.get("query_exemplars", &[&["--data-urlencode", &query], &times[..]].concat());
        let of = |series: &Json| series["exemplars"].as_array().expect("a list").clone();
        let all = found.as_array().expect("a list of series").iter().flat_map(of);
        all.map(|exemplar| {
            let value = exemplar["value"].as_str().expect("a number as text").parse().expect("a number");
            (exemplar["labels"].clone(), value)
        })
        .collect()
    }

    /// Why scrapes fail; empty if they do not.
    #[must_use]
    pub fn scrape_error(&self) -> String {
        let targets = self.get("targets", &[]);
        targets["activeTargets"][0]["lastError"].as_str().unwrap_or_default().to_owned()
    }

    /// What it has complained of.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.program.stderr()
    }

    fn get(&self, what: &str, arguments: &[&str]) -> Json {
        let url = format!("http://127.0.0.1:{}/api/v1/{what}", self.port);
        let ended = curl(&[&["--get", &url], arguments].concat()).success("curl");
        let answer: Json = serde_json::from_str(&ended.stdout).expect("Prometheus answers in JSON");
        assert_eq!(answer["status"], "success", "{what} {arguments:?}: {answer}");
        answer["data"].clone()
    }
}
