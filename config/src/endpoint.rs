//! Where an exporter sends to: an `http` or `https` URL, checked.

use std::fmt;

/// An absolute `http://` or `https://` URL with a host, and without user name, fragment or blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Checks `url`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: it may hold a token.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .ok_or("must begin with http:// or https://")?;
        if url.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err("must be ASCII without blanks");
        }
        if url.contains('#') {
            return Err("must not have a fragment (#)");
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must not hold a user name or password, use headers");
        }
        let (host, port) = match authority.rfind(':') {
            // The colons of an IPv6 address stand in brackets.
            Some(colon) if !authority[colon..].contains(']') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        if host.is_empty() || (!bracketed && host.contains([':', '[', ']'])) {
            return Err("has no valid host");
        }
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0) || port.starts_with('+')) {
            return Err("has no valid port");
        }
        Ok(Self(url.to_owned()))
    }

    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `https://`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_usable_endpoints_pass() {
        for good in [
            "http://localhost:4318/v1/traces",
            "https://otlp.example.com",
            "http://[::1]:4317",
            "https://[2001:db8::1]/x?y=z",
            "http://10.0.0.1:4318",
        ] {
            assert_eq!(Endpoint::parse(good).map(|e| e.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "localhost:4318",
            "ftp://x",
            "http://",
            "http://:4318",
            "http://a b",
            "http://x:",
            "http://x:0",
            "http://x:70000",
            "http://x:+1",
            "http://u:p@x",
            "http://x#y",
            "http://::1:4317",
            "http://é",
            "http://[]",
            "http:///v1/traces",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }
}
