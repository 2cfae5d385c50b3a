//! `semconv_stability_opt_in`: for which conventions older names are emitted beside the present ones.
//!
//! Written as the standard variable `OTEL_SEMCONV_STABILITY_OPT_IN` is: `http/dup,database/dup`. A category without
//! `/dup` asks for the present names only, which is what this agent does anyway.

use crate::field::Field;

/// The conventions whose older names are emitted too. Default: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StabilityOptIn {
    /// HTTP and networking as of version 1.20.
    pub http: bool,
    /// Databases as of version 1.24.
    pub database: bool,
    /// RPC as of version 1.37.
    pub rpc: bool,
}

/// What may stand in the list.
pub(crate) const KNOWN: &str = "http, http/dup, database, database/dup, rpc and rpc/dup";

/// Of others: the variable is often set for all programs of a machine.
const OTHERS: &[&str] = &["code", "gen_ai_latest_experimental", "k8s", "messaging"];

impl StabilityOptIn {
    /// Reads a comma-separated list; also returns the values that nobody knows.
    pub(crate) fn parse(text: &str) -> (Self, Vec<&str>) {
        let mut opted = Self::default();
        let mut unknown = Vec::new();
        for value in text.split(',').map(str::trim).filter(|value| !value.is_empty()) {
            match value {
                // > `http/dup` has higher precedence than `http` in case both values are present
                "http" | "database" | "rpc" => {}
                "http/dup" => opted.http = true,
                "database/dup" => opted.database = true,
                "rpc/dup" => opted.rpc = true,
                other if OTHERS.contains(&other.trim_end_matches("/dup")) => {}
                other => unknown.push(other),
            }
        }
        (opted, unknown)
    }

    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let (opted, unknown) = Self::parse(field.text()?);
        if unknown.is_empty() {
            return Some(opted);
        }
        field.invalid("names conventions that are not known", Some(format!("it is a list of {KNOWN}")));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dup_wins_and_the_rest_is_what_happens_anyway() {
        let all = StabilityOptIn { http: true, database: true, rpc: true };
        for (text, opted) in [
            ("", StabilityOptIn::default()),
            ("http,database,rpc", StabilityOptIn::default()),
            ("http/dup", StabilityOptIn { http: true, ..StabilityOptIn::default() }),
            ("http/dup, http", StabilityOptIn { http: true, ..StabilityOptIn::default() }),
            ("http , http/dup,database/dup,,rpc/dup", all),
            ("messaging/dup,code,k8s", StabilityOptIn::default()),
        ] {
            assert_eq!(StabilityOptIn::parse(text), (opted, vec![]), "{text}");
        }
        let (opted, unknown) = StabilityOptIn::parse("HTTP/DUP,database/dup,http/dup/dup");
        assert_eq!(opted, StabilityOptIn { database: true, ..StabilityOptIn::default() });
        assert_eq!(unknown, ["HTTP/DUP", "http/dup/dup"]);
    }
}
