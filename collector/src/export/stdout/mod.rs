//! Telemetry on the terminal or in a pipe: lines for people, or OTLP JSON for tools.

