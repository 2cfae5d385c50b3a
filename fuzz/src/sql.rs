//! The texts of queries.

use spantap_protocols::{
    limits,
    postgresql::Postgresql,
    sql::{self, Backslash},
    testing::fixtures,
};

/// The first byte says whether the text goes on, and what its backslashes are.
pub(crate) fn run(input: &[u8]) -> u64 {
    let (first, text) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let cut = first & 1 == 1;
    let backslash =
        [Backslash::Plain, Backslash::Escape, Backslash::Unclear][usize::from(first >> 1 & 3).min(2)];
    let statements = sql::simple(text, cut, backslash);
    assert!(statements.len() <= limits::STATEMENTS_MAX);
    for statement in statements.iter().chain([&sql::prepared(text, cut, backslash)]) {
        assert!(statement.text.len() <= limits::QUERY_TEXT_BYTES_MAX, "{} bytes", statement.text.len());
        assert!(statement.summary.len() <= limits::QUERY_SUMMARY_BYTES_MAX, "{:?}", statement.summary);
    }
    // Other bytes are shown as U+FFFD, which is a letter; a dollar at the end may be where a literal begins.
    let is_printable =
        text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'$' || b" \t\n".contains(byte));
    for statement in statements.iter().filter(|statement| is_printable && !statement.cut) {
        // Nothing is left that would be replaced, and it is still one statement.
        let again = sql::simple(statement.text.as_bytes(), false, backslash);
        let texts: Vec<&str> = again.iter().map(|statement| statement.text.as_str()).collect();
        assert!(texts.len() <= 1, "{:?} are {texts:?}", statement.text);
        assert_eq!(texts.first().copied().unwrap_or_default(), statement.text.as_str());
    }
    text.len() as u64
}

/// What stands in the published cases' manner, and what clients sent.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        &b"SELECT * FROM a JOIN b ON a.x = b.y WHERE c = 'it''s' AND d IN (1, 2.5e-3, 0xff, E'\\'', $$x$$, $t$y$t$)"[..],
        b"INSERT INTO \"Shop\".orders (id, name) VALUES ($1, $2), (?, :name) ON CONFLICT DO NOTHING RETURNING id; -- x\n",
        b"/* a /* nested */ comment */ WITH x AS (SELECT 1) UPDATE t SET a = x.b FROM x; DELETE FROM `t`;; COMMIT",
        b"CREATE FUNCTION f() RETURNS int AS $body$ BEGIN RETURN 1; END $body$ LANGUAGE plpgsql",
        b"SELECT U&'d\\0061t', B'101', X'1F', N'text', 'a' 'b', [a b].c, @p1, -5, 1.e5, .5",
    ];
    let mut seeds: Vec<Vec<u8>> =
        texts.iter().flat_map(|text| [[b"\0", *text].concat(), [b"\x01", *text].concat()]).collect();
    for chunk in fixtures(&Postgresql).iter().flat_map(|fixture| &fixture.chunks) {
        if chunk.bytes.starts_with(b"Q") || chunk.bytes.starts_with(b"P") {
            seeds.push([b"\0", &chunk.bytes[5.min(chunk.bytes.len())..]].concat());
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}
