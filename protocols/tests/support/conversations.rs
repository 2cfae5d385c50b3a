//! The conversations: small exchanges one by one, 64 at a time, and one with much data in many calls.

use spantap_protocols::{
    Direction::{self, ToClient, ToServer},
    http1::Http1,
    http2::Http2,
    postgresql::Postgresql,
    redis::Redis,
};

use super::{
    Call, Conversation,
    messages::{
        DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, command, data_row, entered, entered_name, frame,
        grpc, indexed, message, plain, plain_name, row_description,
    },
};

/// How many exchanges the deep ones have under way.
pub const DEPTH: usize = 64;

/// Small exchanges: each protocol one at a time, then [`DEPTH`] of them.
pub fn small() -> Vec<Conversation> {
    let mut all = Vec::new();
    for depth in [1, DEPTH] {
        let name = |one, deep| if depth == 1 { one } else { deep };
        all.push(http1(name("HTTP/1 GET", "HTTP/1 GET, 64 pipelined"), depth));
        all.push(http2(name("HTTP/2 GET", "HTTP/2 GET, 64 streams"), depth));
        all.push(grpc_unary(name("gRPC unary", "gRPC unary, 64 streams"), depth));
        let get = command(&["GET", "key:000000004711"]);
        all.push(redis(name("Redis GET", "Redis GET, 64 pipelined"), depth, &get, b"$3\r\nxxx\r\n"));
        let set = command(&["SET", "key:000000004711", "0123456789abcdef"]);
        all.push(redis(name("Redis SET", "Redis SET, 64 pipelined"), depth, &set, b"+OK\r\n"));
        if depth == 1 {
            all.push(postgresql_simple("PostgreSQL simple query"));
        }
        all.push(postgresql_prepared(
            name("PostgreSQL prepared", "PostgreSQL prepared, 64 pipelined"),
            depth,
        ));
    }
    all
}

/// Much data in calls of 4 KiB: what the calls cost that begin and end no exchange.
pub fn large() -> Vec<Conversation> {
    let piece = vec![b'x'; 4096];
    let pieces = |count| std::iter::repeat_n(call(ToClient, &piece), count);
    let mut all = Vec::new();

    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n";
    let mut round = vec![call(ToServer, HTTP1_REQUEST), call(ToClient, head)];
    round.extend(pieces(16));
    all.push(conversation("HTTP/1 body", &Http1, Vec::new(), round, 1));

    let head = b"POST /upload HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"1000\r\n", piece.as_slice(), b"\r\n"].concat();
    let mut round = vec![call(ToServer, head)];
    round.extend(std::iter::repeat_n(call(ToServer, &chunk), 16));
    round.extend([call(ToServer, b"0\r\n\r\n"), call(ToClient, HTTP1_RESPONSE)]);
    all.push(conversation("HTTP/1 chunked upload", &Http1, Vec::new(), round, 1));

    let mut body = http2("HTTP/2 body", 1);
    let mut answer = body.round.pop().expect("the answer");
    answer.bytes = [frame(HEADERS, END_HEADERS, 1, &[0x88]), frame(DATA, 0, 1, &piece[..100])].concat();
    let end = frame(DATA, END_STREAM, 1, b"");
    body.stream_ids = vec![(0, 5), (1, 5), (1, 15)];
    body.round.push(answer);
    for at in 0..4 {
        body.stream_ids.push((2 + 4 * at, 5));
        body.round.push(call(ToClient, &frame(DATA, 0, 1, &[b'x'; 16384])[..4105]));
        body.round.extend(pieces(3));
    }
    body.stream_ids.push((18, 5));
    body.round.push(call(ToClient, &end));
    all.push(body);

    let get = command(&["GET", "page"]);
    let mut round = vec![call(ToServer, &get), call(ToClient, b"$65536\r\n")];
    round.extend(pieces(16));
    round.push(call(ToClient, b"\r\n"));
    all.push(conversation("Redis value", &Redis, Vec::new(), round, 1));

    let mut row = postgresql_simple("PostgreSQL row");
    let answer = [row_description("page"), data_row(&[b'x'; 65536])].concat();
    row.round.truncate(1);
    row.round.extend(answer.chunks(4096).map(|piece| call(ToClient, piece)));
    row.round.push(call(ToClient, &[complete("SELECT 1"), ready()].concat()));
    all.push(row);
    all
}

const HTTP1_REQUEST: &[u8] =
    b"GET /api/items/4711?page=2 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: curl/8\r\n\
    Accept: */*\r\nAccept-Encoding: gzip\r\nX-Request-Id: 0123456789abcdef\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

const HTTP1_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: 103\r\n\
    Connection: keep-alive\r\n\r\n\
    {\"id\":4711,\"name\":\"a thing\",\"price\":1999,\"stock\":12,\"page\":2,\"tags\":[\"a\",\"b\",\"c\",\"dd\"],\"ok\":true,\"n\":0}";

fn http1(name: &'static str, depth: usize) -> Conversation {
    let round =
        vec![call(ToServer, &HTTP1_REQUEST.repeat(depth)), call(ToClient, &HTTP1_RESPONSE.repeat(depth))];
    conversation(name, &Http1, Vec::new(), round, depth)
}

/// A request like that of HTTP/1; what repeats is in the table after the first one.
fn http2(name: &'static str, depth: usize) -> Conversation {
    let path = "/api/items/4711?page=2";
    let trace = plain_name("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let first = [
        indexed(2),
        indexed(6),
        plain(4, path),
        entered(1, "shop.example:8080"),
        entered(58, "curl/8"),
        entered_name("x-request-id", "0123456789abcdef"),
        trace.clone(),
    ];
    let again = [indexed(2), indexed(6), plain(4, path), indexed(64), indexed(63), indexed(62), trace];
    let response = [indexed(8), entered(31, "application/json"), entered(28, "100")];
    let response_again = [indexed(8), indexed(63), indexed(62)];
    let ask = |fields: &[Vec<u8>], id| frame(HEADERS, END_HEADERS | END_STREAM, id, &fields.concat());
    let answer = |fields: &[Vec<u8>], id| {
        [frame(HEADERS, END_HEADERS, id, &fields.concat()), frame(DATA, END_STREAM, id, &[b'x'; 100])]
            .concat()
    };
    streams(name, depth, (ask(&first, 1), answer(&response, 1)), |id| {
        (ask(&again, id), answer(&response_again, id))
    })
}

fn grpc_unary(name: &'static str, depth: usize) -> Conversation {
    let first = [
        indexed(3),
        indexed(6),
        entered(4, "/shop.Catalog/GetItem"),
        entered(1, "shop.example:8080"),
        entered(31, "application/grpc"),
        entered_name("te", "trailers"),
    ];
    let again = [indexed(3), indexed(6), indexed(65), indexed(64), indexed(63), indexed(62)];
    let response = [indexed(8), entered(31, "application/grpc")];
    let trailers = [entered_name("grpc-status", "0")];
    let response_again = [indexed(8), indexed(63)];
    let trailers_again = [indexed(62)];
    let ask = |fields: &[Vec<u8>], id| {
        [frame(HEADERS, END_HEADERS, id, &fields.concat()), frame(DATA, END_STREAM, id, &grpc(40))].concat()
    };
    let answer = |fields: &[Vec<u8>], trailers: &[Vec<u8>], id| {
        [
            frame(HEADERS, END_HEADERS, id, &fields.concat()),
            frame(DATA, 0, id, &grpc(90)),
            frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers.concat()),
        ]
        .concat()
    };
    streams(name, depth, (ask(&first, 1), answer(&response, &trailers, 1)), |id| {
        (ask(&again, id), answer(&response_again, &trailers_again, id))
    })
}

/// The preface, one exchange that fills the tables, and rounds of `depth` streams.
fn streams(
    name: &'static str,
    depth: usize,
    first: (Vec<u8>, Vec<u8>),
    each: impl Fn(u32) -> (Vec<u8>, Vec<u8>),
) -> Conversation {
    let settings = frame(SETTINGS, 0, 0, b"");
    let opening = vec![
        call(ToServer, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings.as_slice()].concat()),
        call(ToClient, &[settings, frame(SETTINGS, 1, 0, b"")].concat()),
        call(ToServer, &frame(SETTINGS, 1, 0, b"")),
        call(ToServer, &first.0),
        call(ToClient, &first.1),
    ];
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    for at in 0..depth {
        let (request, response) = each(2 * u32::try_from(at).expect("a small depth") + 1);
        requests.extend(request);
        responses.extend(response);
    }
    let stream_ids = [&requests, &responses]
        .iter()
        .enumerate()
        .flat_map(|(call, bytes)| id_offsets(bytes).map(move |at| (call, at)))
        .collect();
    let round = vec![call(ToServer, &requests), call(ToClient, &responses)];
    let streams = u32::try_from(depth).expect("a small depth");
    Conversation {
        stream_ids,
        streams,
        opens_with_an_exchange: true,
        ..conversation(name, &Http2, opening, round, depth)
    }
}

/// Where the numbers of the streams stand in frames.
fn id_offsets(frames: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let [_, b, c, ..] = *frames.get(at..)? else { return None };
        let here = at + 5;
        at += 9 + usize::from(u16::from_be_bytes([b, c]));
        Some(here)
    })
}

fn redis(name: &'static str, depth: usize, request: &[u8], reply: &[u8]) -> Conversation {
    let round = vec![call(ToServer, &request.repeat(depth)), call(ToClient, &reply.repeat(depth))];
    conversation(name, &Redis, Vec::new(), round, depth)
}

fn postgresql_opening() -> Vec<Call> {
    let startup = message(0, b"\0\x03\0\0user\0bench\0database\0bench\0\0");
    let accepted = [message(b'R', &[0; 4]), message(b'S', b"server_version\x0015.8\0"), ready()].concat();
    vec![call(ToServer, &startup), call(ToClient, &accepted)]
}

fn postgresql_simple(name: &'static str) -> Conversation {
    let query = message(b'Q', b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\0");
    let answer = [row_description("abalance"), data_row(b"-1234"), complete("SELECT 1"), ready()].concat();
    let round = vec![call(ToServer, &query), call(ToClient, &answer)];
    conversation(name, &Postgresql, postgresql_opening(), round, 1)
}

/// A statement that was prepared once, executed `depth` times before each `Sync`.
fn postgresql_prepared(name: &'static str, depth: usize) -> Conversation {
    let mut opening = postgresql_opening();
    let text = b"P0_1\0SELECT abalance FROM pgbench_accounts WHERE aid = $1\0\0\0";
    opening.push(call(ToServer, &[message(b'P', text), sync()].concat()));
    opening.push(call(ToClient, &[message(b'1', b""), ready()].concat()));
    let bind = message(b'B', b"\0P0_1\0\0\0\0\x01\0\0\0\x044711\0\0");
    let execute = [bind, message(b'D', b"P\0"), message(b'E', b"\0\0\0\0\0")].concat();
    let row =
        [message(b'2', b""), row_description("abalance"), data_row(b"-1234"), complete("SELECT 1")].concat();
    let round = vec![
        call(ToServer, &[execute.repeat(depth), sync()].concat()),
        call(ToClient, &[row.repeat(depth), ready()].concat()),
    ];
    conversation(name, &Postgresql, opening, round, depth)
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn conversation(
    name: &'static str,
    protocol: &'static dyn spantap_protocols::Protocol,
    opening: Vec<Call>,
    round: Vec<Call>,
    exchanges: usize,
) -> Conversation {
    Conversation {
        name,
        protocol,
        opening,
        round,
        exchanges,
        stream_ids: Vec::new(),
        streams: 0,
        opens_with_an_exchange: false,
    }
}

fn call(direction: Direction, bytes: &[u8]) -> Call {
    Call { direction, bytes: bytes.to_vec() }
}
