//! Which executables are known to collect or keep telemetry.
//!
//! Their traffic is about the telemetry of others: a span of every scrape, push and query of it tells nothing of what the
//! node is for. A wrong guess hides a service, so the list is of names that mean one program.

/// Whether an executable of this name is one.
#[must_use]
pub fn is_one(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whole names.
const NAMES: &[&str] = &[
    "alertmanager",
    "alloy",
    "apm-server",
    "ebpf-instrument",
    "fluent-bit",
    "grafana-agent",
    "loki",
    "mimir",
    "node_exporter",
    "obi",
    "prometheus",
    "promtail",
    "pushgateway",
    "rotel-agent",
    "tempo",
    "telegraf",
    "trace-agent",
];

/// What names with a release or a part begin with: `otelcol-contrib`, `jaeger-collector`, `vmagent-prod`.
const PREFIXES: &[&str] = &[
    "beyla",
    "filebeat",
    "jaeger",
    "metricbeat",
    "otelcol",
    "prometheus-config-reloader",
    "pyroscope",
    "victoria-logs",
    "victoria-metrics",
    "victoria-traces",
    "vmagent",
    "vminsert",
    "vmselect",
    "vmstorage",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_and_what_only_sounds_like_one() {
        for yes in
            ["otelcol", "otelcol-contrib", "jaeger", "jaeger-query", "prometheus", "vmagent-prod", "tempo"]
        {
            assert!(is_one(yes), "{yes}");
        }
        for no in ["", "tempora", "my-prometheus", "lokiapp", "obiwan", "agent", "nginx", "vm"] {
            assert!(!is_one(no), "{no}");
        }
    }
}
