//! Every cap of the parsers, and what happens at it. A length on the wire is a claim; these numbers are what is believed.

/// The head of an HTTP/1 message, start line included. A longer one is given up and the direction seeks the next head.
///
/// Rationale: nginx allows 4 x 8 KiB, Node.js 16 KiB, Apache 8 KiB a line; it must stay below [`RETAINED_BYTES_MAX`].
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Header fields of one head read by the fast path. A head with more is read line by line, nothing is lost.
pub const HEADER_FIELDS_MAX: usize = 64;

/// The line that announces a chunk, extensions included. A longer one ends the understanding of that body.
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// The trailer section of a chunked body. A longer one ends the understanding of that body.
pub const TRAILER_BYTES_MAX: usize = 32 * 1024;

/// Requests of one HTTP/1 connection that wait for their response. At the cap the next request is held back until a
/// response has made room; if none comes, the caller's own budget turns it into a gap.
pub const IN_FLIGHT_MAX: usize = 64;

/// Failures in a row, without an exchange between them, after which a parser says that it is lost.
pub const FAILURES_MAX: u8 = 4;

/// Bytes of one direction that the caller keeps for a parser that does not consume them; then it reports a gap.
pub const RETAINED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a request target after which a line with a known method is taken for HTTP without its version seen.
pub const SNIFF_TARGET_BYTES: usize = 1024;

/// A method token, in detection and in `http.request.method_original` (cut there).
pub const METHOD_BYTES_MAX: usize = 24;

/// `url.path`; cut.
pub const PATH_BYTES_MAX: usize = 1024;

/// `url.query`; redacted, then cut.
pub const QUERY_BYTES_MAX: usize = 1024;

/// `url.full`; redacted, then cut.
pub const URL_BYTES_MAX: usize = 2048;

/// Host names and addresses; a longer one is left out (RFC 1035 allows 253 characters).
pub const HOST_BYTES_MAX: usize = 255;

/// `user_agent.original`; cut.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// `x-request-id`; cut.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// Names of header fields that are told because the configuration lists them.
pub const CAPTURED_HEADERS_MAX: usize = 64;

/// Values of one of them, should it be repeated; others are left out.
pub const CAPTURED_VALUES_MAX: usize = 8;

/// One of their values; cut.
pub const CAPTURED_VALUE_BYTES_MAX: usize = 256;

/// `tracestate`; list members beyond it are left out whole (W3C asks for at least 512).
pub const TRACE_STATE_BYTES_MAX: usize = 512;

/// Commands of one Redis connection that wait for their reply with all that is known of them. Those above are counted as
/// dropped, and still take their replies, so that what follows is paired right.
///
/// Rationale: more than clients pipeline by habit; some 100 bytes each.
pub const REDIS_PIPELINE_MAX: usize = 16 * 1024;

/// Bytes of query text beyond 24 each that those hold together; above, commands have no text.
pub const REDIS_PIPELINE_TEXT_BYTES: usize = 64 * 1024;

/// Aggregates within aggregates in a reply. A deeper one is given up.
pub const REDIS_DEPTH_MAX: usize = 64;

/// A length or a count on the wire; a larger one is none. Redis allows 512 MiB in a value and 2^31 elements.
pub const REDIS_LENGTH_MAX: u64 = 1 << 32;

/// Bytes of a line reply that are looked at: enough for an error's prefix. More of it is passed over.
pub const REDIS_LINE_PEEK_BYTES: usize = 64;

/// An inline command; a longer one is given up (Redis allows 64 KiB).
pub const REDIS_INLINE_BYTES_MAX: usize = 4 * 1024;

/// A command's name; a longer one is `_OTHER`.
pub const REDIS_NAME_BYTES_MAX: usize = 32;

/// What is shown of one key; cut.
pub const REDIS_KEY_BYTES_MAX: usize = 64;

/// `db.query.text` of Redis; arguments beyond it are left out.
pub const REDIS_TEXT_BYTES_MAX: usize = 256;

/// Arguments shown in it, redacted ones included.
pub const REDIS_TEXT_ARGUMENTS_MAX: u32 = 16;

/// Exchanges that are held back until the first turn after loss is over; those above are dropped.
pub const REDIS_HELD_MAX: usize = 64;

/// `db.query.text`; cut.
pub const QUERY_TEXT_BYTES_MAX: usize = 2048;

/// `db.query.summary`; names that do not fit are left out (the conventions want at most 255 characters).
pub const QUERY_SUMMARY_BYTES_MAX: usize = 255;

/// Statements told apart in one simple query; the text of those beyond is not shown.
pub const STATEMENTS_MAX: usize = 64;

/// Bytes of a query or of a statement that is prepared that are read; what follows is not shown.
///
/// Rationale: it is held until it is there, and must stay far below [`RETAINED_BYTES_MAX`].
pub const QUERY_READ_BYTES_MAX: usize = 8 * 1024;

/// Bytes of an error that are read: its code is the third field.
pub const ERROR_READ_BYTES_MAX: usize = 512;

/// A name on the wire (statement, portal, database); a longer one is unknown. PostgreSQL itself keeps 63 bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Statements of one connection that wait for their completion. At the cap the next request is held back, as for
/// [`IN_FLIGHT_MAX`].
pub const PIPELINE_MAX: usize = 512;

/// Prepared statements of one connection; above it the oldest becomes unknown.
pub const PREPARED_STATEMENTS_MAX: usize = 256;

/// Bytes of their names, texts and summaries, likewise.
pub const PREPARED_BYTES_MAX: usize = 64 * 1024;

/// Named portals of one connection; likewise.
pub const PORTALS_MAX: usize = 16;

/// Calls without one understood message, after which a connection that is out of frame returns to detection.
pub const STRAY_SEGMENTS_MAX: u32 = 64;

/// A header block of HTTP/2 with its frames. Of a longer one nothing is read, and what it inserted into HPACK's table is
/// unknown. Must stay below [`RETAINED_BYTES_MAX`], since a block is read when it is whole.
pub const HEADER_BLOCK_BYTES_MAX: usize = 48 * 1024;

/// Streams of one HTTP/2 connection that are open at once. At the cap those go first whose end may have been missed, else
/// the new one is not followed; its response is counted as dropped.
pub const STREAMS_MAX: usize = 1024;

/// The message of a gRPC status; cut.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 256;
