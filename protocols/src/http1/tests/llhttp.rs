//! Message boundaries, held against the corpus of llhttp.

use super::*;

/// Where the boundaries differ from llhttp's, and why.
const LLHTTP_DEVIATIONS: &[(&str, &str)] = &[
    (
        "request/content-length: Content-Length reset when no body is received",
        "its caller says that there is no body",
    ),
    (
        "request/content-length: Missing CRLF-CRLF before body (lenient)",
        "a lone CR ends no line here, not even leniently",
    ),
    ("request/invalid: Headers separated by dummy characters (lenient)", "the same"),
    ("request/invalid: Only LFs present (lenient)", "a chunk's size line must end in CRLF"),
    ("request/lenient-version: Invalid HTTP version (lenient)", "a version other than 1.0 and 1.1"),
    ("request/method: SOURCE request with ICE", "another protocol"),
    ("request/method: OPTIONS request with RTSP", "another protocol"),
    ("request/method: ANNOUNCE request with RTSP", "another protocol"),
    ("request/sample: No HTTP version", "HTTP/0.9 is not read: any line of two words would be it"),
    ("request/transfer-encoding: Chunk header not terminated by CRLF (lenient)", "a lone CR ends no line"),
    (
        "response/connection: HTTP 101 response with Upgrade and Content-Length header",
        "after a 101 to h2c the answer is HTTP/2's, and so is the exchange",
    ),
    ("response/connection: HTTP 101 response with Upgrade and Transfer-Encoding header", "likewise"),
];

/// Compares the lengths of the messages that llhttp completes with ours: requests from their failing at the end of the
/// connection, responses from being paired with as many requests.
#[test]
fn message_boundaries_agree_with_llhttp() {
    let corpus = format!("{}/../../shared/corpora/llhttp", env!("CARGO_MANIFEST_DIR"));
    let corpus = std::env::var("SPANTAP_CORPORA").map_or(corpus, |folder| format!("{folder}/llhttp"));
    if !std::path::Path::new(&corpus).is_dir() {
        println!("skipped: corpus llhttp absent");
        return;
    }
    let (mut compared, mut deviations) = (0, Vec::new());
    for kind in ["request", "response"] {
        let mut files: Vec<_> = std::fs::read_dir(format!("{corpus}/{kind}"))
            .expect("a folder")
            .map(|entry| entry.expect("entry").path())
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("text");
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            for case in llhttp_cases(&text) {
                let found = llhttp_found(kind, &case);
                compared += case.lengths.len();
                if !found.starts_with(&case.lengths) {
                    deviations.push((
                        format!("{kind}/{name}: {}", case.title),
                        format!("{:?} not {:?}", found, case.lengths),
                    ));
                }
            }
        }
    }
    println!("{compared} messages of llhttp compared, {} deviations", deviations.len());
    let names: Vec<&str> = deviations.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = LLHTTP_DEVIATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "{deviations:#?}");
}

struct LlhttpCase {
    title: String,
    input: Vec<u8>,
    /// Of each complete message, interim responses left out.
    lengths: Vec<u64>,
    head_only: bool,
}

fn llhttp_cases(text: &str) -> Vec<LlhttpCase> {
    let mut cases = Vec::new();
    let mut title = "";
    for section in text.split("\n#") {
        title = section.lines().next().map_or(title, |line| line.trim_matches(['#', ' ']));
        let block = |start: &str| {
            section.split_once(start).and_then(|(_, rest)| rest.split_once("\n```")).map(|(block, _)| block)
        };
        let (Some(input), Some(log)) = (block("```http\n"), block("```log\n")) else { continue };
        cases.push(LlhttpCase {
            title: title.to_owned(),
            input: llhttp_input(input),
            lengths: llhttp_lengths(log),
            head_only: section.contains("skipBody"),
        });
    }
    cases
}

/// Line ends of the block are CRLF, escaped ones are none; then the escapes.
fn llhttp_input(block: &str) -> Vec<u8> {
    let text = block.replace("\\\n", "").replace('\n', "\r\n");
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace("\\f", "\x0c");
    let mut parts = text.split("\\x");
    let mut input = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        // As the corpus's own runner does: a character, written as UTF-8.
        input.push(char::from(u8::from_str_radix(digits, 16).expect("hex")));
        input.push_str(rest);
    }
    input.into_bytes()
}

fn llhttp_lengths(log: &str) -> Vec<u64> {
    let (mut lengths, mut begin, mut interim) = (Vec::new(), 0, false);
    for line in log.lines() {
        let Some((offset, event)) = line.strip_prefix("off=").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let Ok(offset) = offset.parse::<u64>() else { continue };
        match event {
            "message begin" => (begin, interim) = (offset, false),
            "message complete" if !interim => lengths.push(offset - begin),
            _ if event.starts_with("error") => break,
            _ => interim |= event.starts_with("headers complete status=1") && !event.contains("status=101"),
        }
    }
    lengths
}

fn llhttp_found(kind: &str, case: &LlhttpCase) -> Vec<u64> {
    let mut driver = driver(true);
    if kind == "request" {
        driver.feed(ToServer, BootNanos(1), BootNanos(1), &case.input);
    } else {
        for id in 0..20 {
            let request = if case.head_only { b"HEAD / HTTP/1.1\r\n\r\n".to_vec() } else { get(id) };
            driver.feed(ToServer, BootNanos(1), BootNanos(1), &request);
        }
        driver.feed(ToClient, BootNanos(2), BootNanos(2), &case.input);
    }
    driver.close(BootNanos(3));
    let length = |exchange: &Exchange| {
        if kind == "request" { exchange.request_bytes } else { exchange.response_bytes }
    };
    driver.exchanges.iter().map(length).filter(|length| *length > 0).collect()
}
