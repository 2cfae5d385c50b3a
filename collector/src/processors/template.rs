//! Which parts of a path are data: `/users/42/orders/9f8b2c1d` becomes `/users/{id}/orders/{hash}`.
//!
//! A guess by the look of each segment, bounded in length and work. It errs on the side of keeping words: what slips
//! through is stopped by the cap on distinct routes.

use compact_str::CompactString;

/// Segments beyond this many are cut to `/**`.
const SEGMENTS_MAX: usize = 10;
/// A segment longer than this is data, whatever it looks like.
const SEGMENT_BYTES_MAX: usize = 64;
/// Chunks of one segment that may become placeholders before the whole of it does.
const PLACEHOLDERS_MAX: usize = 2;

/// The template of `path`, which begins with `/` and has no query.
pub(super) fn of(path: &str) -> CompactString {
    let mut out = CompactString::default();
    let mut count = 0;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        count += 1;
        if count > SEGMENTS_MAX {
            out.push_str("/**");
            return out;
        }
        out.push('/');
        push_segment(&mut out, segment);
    }
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

fn push_segment(out: &mut CompactString, segment: &str) {
    if is_word(segment) {
        return out.push_str(segment);
    }
    // Path parameters (`;jsessionid=...`) are data by definition.
    let segment = segment.split(';').next().unwrap_or(segment);
    if let Some(placeholder) = whole(segment) {
        out.push_str(placeholder);
        return;
    }
    let (stem, extension) = split_extension(segment);
    match whole(stem) {
        Some(placeholder) => out.push_str(placeholder),
        None => push_chunks(out, stem),
    }
    out.push_str(extension);
}

/// Most segments, and none of them is data: whatever looks like data has digits, capitals or 16 letters.
fn is_word(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-');
    segment.len() < 16 && segment.bytes().all(plain)
}

/// The placeholder of a segment that is data as a whole.
fn whole(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    if bytes.len() > SEGMENT_BYTES_MAX || segment.contains('%') || bytes.iter().any(|b| !b.is_ascii_graphic())
    {
        return Some("{value}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    if is_ipv4(segment) {
        return Some("{ip}");
    }
    if is_email(segment) {
        return Some("{email}");
    }
    chunk(segment).or_else(|| is_token(bytes).then_some("{token}"))
}

/// Replaces the parts between separators that are data: `order-1042` becomes `order-{id}`.
fn push_chunks(out: &mut CompactString, segment: &str) {
    let start = out.len();
    let mut placeholders = 0;
    for piece in segment.split_inclusive(SEPARATORS) {
        let text = piece.trim_end_matches(SEPARATORS);
        match chunk(text) {
            Some(placeholder) if !is_version(segment) => {
                placeholders += 1;
                out.push_str(placeholder);
            }
            _ => out.push_str(text),
        }
        out.push_str(piece.get(text.len()..).unwrap_or_default());
    }
    if placeholders > PLACEHOLDERS_MAX {
        out.truncate(start);
        out.push_str("{id}");
    }
}

const SEPARATORS: [char; 9] = ['-', '_', '.', '~', ':', ',', '=', '@', '+'];

/// The placeholder of a run of letters and digits that is data.
fn chunk(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if digits == bytes.len() {
        return Some("{id}");
    }
    let hex = bytes.iter().all(u8::is_ascii_hexdigit);
    if hex && ((digits > 0 && bytes.len() >= 7) || bytes.len() >= 16) {
        return Some("{hash}");
    }
    // `user12345`, `INV2024017`, `a1b2c3`: many digits, or digits and letters in turns. `oauth2`, `sha256`, `x86` stay.
    let turns = bytes.windows(2).filter(|w| matches!(w, [a, b] if a.is_ascii_digit() != b.is_ascii_digit()));
    // `NffrFeUfNV2Hib`: a third of capitals is more than camel case has.
    let capitals = bytes.iter().filter(|b| b.is_ascii_uppercase()).count();
    let letters = bytes.len() - digits;
    let random = digits > 0 && bytes.len() >= 12 && capitals < letters && capitals * 3 > letters;
    (digits >= 5 || (digits >= 3 && turns.count() >= 3) || random).then_some("{id}")
}

/// `name.ext` apart, if the extension looks like one: `.tar.gz` counts as `.gz`.
fn split_extension(segment: &str) -> (&str, &str) {
    match segment.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty()
                && (1..=5).contains(&extension.len())
                && extension.bytes().all(|b| b.is_ascii_alphanumeric())
                && extension.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            segment.split_at(stem.len())
        }
        _ => (segment, ""),
    }
}

fn is_uuid(bytes: &[u8]) -> bool {
    let dash = |at: &usize| matches!(at, 8 | 13 | 18 | 23);
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, b)| if dash(&at) { *b == b'-' } else { b.is_ascii_hexdigit() })
}

/// `2026-11-22`, `2026-11`, and either with a time after `T`.
fn is_date(bytes: &[u8]) -> bool {
    let day = bytes.split(|b| *b == b'T').next().unwrap_or(bytes);
    let fits = |shape: &[u8]| {
        day.len() == shape.len()
            && day.iter().zip(shape).all(|(b, s)| if *s == b'0' { b.is_ascii_digit() } else { b == s })
    };
    (fits(b"0000-00-00") || fits(b"0000-00")) && matches!(bytes.first(), Some(b'1' | b'2'))
}

fn is_ipv4(segment: &str) -> bool {
    segment.parse::<std::net::Ipv4Addr>().is_ok()
}

/// A scoped package (`@babel`) is a name.
fn is_email(segment: &str) -> bool {
    segment.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
}

/// `v1`, `1.2.3`, `v2.0-beta1`, `2026.11`: part of an API's name.
fn is_version(segment: &str) -> bool {
    let text = segment.strip_prefix(['v', 'V']).unwrap_or(segment);
    text.len() <= 12 && text.contains('.') && text.starts_with(|c: char| c.is_ascii_digit())
}

/// Long runs of mixed case and digits: base64, ULIDs, signed tokens. Words, even joined by dashes, lack one of the three.
fn is_token(bytes: &[u8]) -> bool {
    let any = |class: fn(&u8) -> bool| bytes.iter().any(class);
    let alphabet = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'.' | b'~');
    let mixed = any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase) && any(u8::is_ascii_digit);
    let longest = bytes.split(|b| !b.is_ascii_alphanumeric()).map(<[u8]>::len).max().unwrap_or(0);
    bytes.iter().all(alphabet)
        && ((bytes.len() >= 20 && longest >= 12 && mixed) || (longest >= 24 && any(u8::is_ascii_digit)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_looking_paths() {
        let cases = [
            ("/", "/"),
            ("/health", "/health"),
            ("/api/v1/users", "/api/v1/users"),
            ("/api/v1/users/", "/api/v1/users/"),
            ("/api/v1/users/42", "/api/v1/users/{id}"),
            ("/api/v2beta1/users/42/orders/7", "/api/v2beta1/users/{id}/orders/{id}"),
            ("/users/0", "/users/{id}"),
            ("/api/1.2/search", "/api/1.2/search"),
            ("/2.0/repositories", "/2.0/repositories"),
            ("/v1.41/containers/json", "/v1.41/containers/json"),
            ("/users/550e8400-e29b-41d4-a716-446655440000", "/users/{uuid}"),
            ("/users/550E8400-E29B-41D4-A716-446655440000/avatar.png", "/users/{uuid}/avatar.png"),
            ("/img/550e8400-e29b-41d4-a716-446655440000.jpg", "/img/{uuid}.jpg"),
            ("/commit/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commit/{hash}"),
            ("/commit/9fceb02", "/commit/{hash}"),
            ("/blobs/sha256:9fceb02d0ae598e95dc970b74767f193", "/blobs/sha256:{hash}"),
            ("/objects/507f1f77bcf86cd799439011", "/objects/{hash}"),
            ("/posts/2026-11-22", "/posts/{date}"),
            ("/posts/2026-11/summary", "/posts/{date}/summary"),
            ("/events/2026-11-22T10:00:00Z", "/events/{date}"),
            ("/archive/2026/11/22/", "/archive/{id}/{id}/{id}/"),
            ("/orders/order-1042", "/orders/order-{id}"),
            ("/invoices/INV-2024-00017", "/invoices/INV-{id}-{id}"),
            ("/customers/cus_NffrFeUfNV2Hib", "/customers/cus_{id}"),
            ("/rpc/listUsersByNameV2", "/rpc/listUsersByNameV2"),
            ("/users/user12345", "/users/{id}"),
            ("/items/a1b2c3", "/items/{id}"),
            ("/hosts/10.1.2.3/ping", "/hosts/{ip}/ping"),
            ("/mail/ann@example.org", "/mail/{email}"),
            ("/@babel/core", "/@babel/core"),
            ("/login/oauth2/callback", "/login/oauth2/callback"),
            ("/digest/sha256", "/digest/sha256"),
            ("/lib/x86_64/base64.js", "/lib/x86_{id}/base64.js"),
            ("/s3/i18n/en-US", "/s3/i18n/en-US"),
            ("/static/js/main.3f2a9c1b.js", "/static/js/main.{hash}.js"),
            ("/static/app-3f2a9c1b77.css", "/static/app-{hash}.css"),
            ("/static/logo.png", "/static/logo.png"),
            ("/photos/IMG_20240101_101112.jpg", "/photos/IMG_{id}_{id}.jpg"),
            ("/reports/2024-01-31.pdf", "/reports/{date}.pdf"),
            ("/files/12345.json", "/files/{id}.json"),
            ("/favicon.ico", "/favicon.ico"),
            ("/robots.txt", "/robots.txt"),
            ("/search/hello%20world", "/search/{value}"),
            ("/wiki/%C3%84pfel", "/wiki/{value}"),
            ("/cart;jsessionid=AB12CD34/items", "/cart/items"),
            ("/blog/how-to-trace-a-service", "/blog/how-to-trace-a-service"),
            ("/verify/eyJhbGciOiJIUzI1NiJ9", "/verify/{id}"),
            ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{id}"),
            ("/reset/dGhpcyBpcyBh-IHRva2Vu_MTIz", "/reset/{token}"),
            ("/ws/room-1/2/3", "/ws/room-{id}/{id}/{id}"),
            ("/metrics", "/metrics"),
            ("/graphql", "/graphql"),
            ("/actuator/health/readiness", "/actuator/health/readiness"),
            ("/wp-admin/admin-ajax.php", "/wp-admin/admin-ajax.php"),
            (
                "/api/v1/namespaces/default/pods/web-7d4b9c6f5-x2x9z",
                "/api/v1/namespaces/default/pods/web-{hash}-x2x9z",
            ),
            ("/accounts/-5", "/accounts/-{id}"),
            ("/tiles/12/2200/1343.png", "/tiles/{id}/{id}/{id}.png"),
            ("/range/10-20-30-40", "/range/{id}"),
            ("//double//slash", "/double/slash"),
            ("/a/b/c/d/e/f/g/h/i/j/k/l", "/a/b/c/d/e/f/g/h/i/j/**"),
            ("/deadbeef", "/deadbeef"),
            ("/facade/cafe", "/facade/cafe"),
            ("/2fa/setup", "/2fa/setup"),
            ("/package/lodash/4.17.21", "/package/lodash/4.17.21"),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(path, expected)| of(path) != *expected).collect();
        let got: Vec<_> = wrong.iter().map(|(path, _)| of(path)).collect();
        assert!(wrong.is_empty(), "{wrong:#?} gave {got:#?}");
        let long = "x".repeat(200);
        assert_eq!(of(&format!("/{long}")), "/{value}");
    }

    proptest! {
        #[test]
        fn any_path_gives_a_bounded_template(path in "/.{0,300}") {
            let template = of(&path);
            prop_assert!(template.starts_with('/'));
            prop_assert!(template.len() <= (SEGMENT_BYTES_MAX + 16) * (SEGMENTS_MAX + 1));
        }

        #[test]
        fn a_word_is_what_the_long_way_makes_of_it(segment in "[a-zA-Z_0-9;%.-]{0,20}") {
            if is_word(&segment) {
                prop_assert_eq!(whole(&segment), None);
                let mut chunks = CompactString::default();
                push_chunks(&mut chunks, &segment);
                prop_assert_eq!((chunks.as_str(), split_extension(&segment).1), (segment.as_str(), ""));
            }
        }

        #[test]
        fn every_number_and_uuid_shares_one_template(number in any::<u64>(), uuid in any::<u128>()) {
            let hex = format!("{uuid:032x}");
            let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            prop_assert_eq!(of(&format!("/u/{number}/x/{uuid}")), "/u/{id}/x/{uuid}");
        }
    }
}
