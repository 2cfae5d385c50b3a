//! Which text format does a scraper want? By its `Accept` header.

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text: with units, exemplars and start times. The version is as the scraper wrote it.
    OpenMetrics(&'static str),
}

impl Format {
    /// The best of those that the scraper takes. Who asks for neither gets Prometheus text, as everywhere.
    pub(super) fn wanted(accept: &str) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',').take(RANGES_MAX) {
            let Some((quality, format)) = read(range) else { continue };
            if quality > 0.0 && best.is_none_or(|(most, _)| quality > most) {
                best = Some((quality, format));
            }
        }
        best.map_or(Self::Text, |(_, format)| format)
    }

    /// What the response says it is. Names have no other characters than underscores, whatever the scraper allows.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::OpenMetrics("0.0.1") => {
                "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores"
            }
            Self::OpenMetrics(_) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
            }
        }
    }

    pub(super) fn is_open_metrics(self) -> bool {
        matches!(self, Self::OpenMetrics(_))
    }
}

/// Of an `Accept` header; what comes behind is not looked at.
const RANGES_MAX: usize = 32;

/// A media range that we can serve, with its quality.
fn read(range: &str) -> Option<(f32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let (mut quality, mut version) = (1.0, None);
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "version" => version = Some(value.trim().trim_matches('"').to_owned()),
            _ => {}
        }
    }
    let format = match (kind.as_str(), version.as_deref()) {
        ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics("1.0.0"),
        ("application/openmetrics-text", Some("0.0.1")) => Format::OpenMetrics("0.0.1"),
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Text,
        _ => return None,
    };
    Some((quality, format))
}

/// Whether a scraper takes gzip, by its `Accept-Encoding`.
pub(super) fn takes_gzip(accept_encoding: &str) -> bool {
    accept_encoding.split(',').take(RANGES_MAX).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && quality.is_none_or(|quality| quality.parse().unwrap_or(0.0_f32) > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_format_is_chosen() {
        let open = Format::OpenMetrics("1.0.0");
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            ("text/plain; version=0.0.4", Format::Text),
            ("application/openmetrics-text", open),
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                 text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                open,
            ),
            // Prometheus 3.5, which would like protobuf and other names.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                open,
            ),
            ("application/openmetrics-text;version=0.0.1", Format::OpenMetrics("0.0.1")),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0,text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0.2,*/*;q=0.9", Format::Text),
            ("application/openmetrics-text;q=;version", Format::Text),
        ] {
            assert_eq!(Format::wanted(accept), expected, "{accept}");
        }
    }

    #[test]
    fn gzip_is_taken_where_it_is_named() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("", false),
            ("gzip;q=0", false),
            ("x-gzip", false),
        ] {
            assert_eq!(takes_gzip(header), expected, "{header}");
        }
    }
}
