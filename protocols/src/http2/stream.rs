//! One stream on its way to an exchange.
//!
//! Times: `start` is the first byte of the request's HEADERS, `response_start` that of the final response's, `end` the last
//! byte of the frame that ends the response or resets the stream. Bytes are those of all HEADERS, CONTINUATION and DATA
//! frames of the stream with their headers; interim responses (1xx) count neither into times nor into bytes.

use super::{
    NAME,
    fields::{Field, Fields},
    framing::Framing,
    grpc::{self, Call, Ended},
};
use crate::{
    exchange::{Exchange, Outcome, Value},
    http::{self, CONNECTION_CLOSED, RESPONSE_TRUNCATED},
    protocol::{BootNanos, Direction, OpenContext},
    semconv::key,
};

/// A stream whose request was seen.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) exchange: Exchange,
    kind: Kind,
    /// Of the final response, if it is known.
    status: Option<u16>,
    pub(super) stage: Stage,
    /// The last byte of the request was seen.
    pub(super) request_ended: bool,
    is_connect: bool,
    /// The response has DATA.
    has_data: bool,
    /// It is told as HTTP and may be a call, whose status is elsewhere.
    may_be_call: bool,
    /// How often each direction had lost its way when the stream was last known to be as it is here.
    pub(super) request_losses: u32,
    pub(super) response_losses: u32,
}

#[derive(Debug)]
enum Kind {
    Http,
    Grpc(Call),
    /// Its content type is not known: the same request as a call, should it turn out to be one.
    Either(Box<Maybe>),
}

/// A call that may be none.
#[derive(Debug)]
struct Maybe {
    exchange: Exchange,
    call: Call,
    request: Framing,
    response: Framing,
}

/// What has passed of a frame of DATA.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// These bytes of the body.
    Bytes(&'a [u8]),
    /// So many bytes of it that are not here.
    Missing(u64),
    /// It has padding.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No final response yet.
    Waiting,
    /// The response has begun. If its status is not known it may have been an interim one.
    Responding,
    /// The response is over.
    Answered,
}

/// A frame's share of the segment it came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) first_at: BootNanos,
    pub(super) last_at: BootNanos,
    /// Of the frame, with its header.
    pub(super) bytes: u64,
    pub(super) ends_stream: bool,
}

/// Why a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its response is whole.
    Complete,
    /// RST_STREAM with this code.
    Reset { code: u32, by_client: bool, at: BootNanos },
    /// GOAWAY said that it will not be answered.
    Refused(BootNanos),
    /// The connection was closed.
    Closed(BootNanos),
    /// How is not known.
    Unknown,
}

impl Stream {
    pub(super) fn new(id: u32, context: OpenContext, fields: &Fields, seen: Seen) -> Self {
        let request = fields.request();
        let content_type = fields.get(Field::ContentType);
        let is_grpc = content_type.is_some_and(grpc::is_content_type);
        let may_be_grpc = content_type.is_none()
            && fields.is_partial
            && matches!(request.method, b"POST" | b"")
            && request.query.is_none();
        let (mut exchange, mut kind) = match is_grpc {
            true => (grpc::begin(context, &request, seen.first_at), Kind::Grpc(Call::new(fields))),
            false => (http::begin(NAME, context, &request, seen.first_at), Kind::Http),
        };
        exchange.request_bytes = seen.bytes;
        exchange.request_end = seen.last_at;
        if may_be_grpc {
            kind = Kind::Either(Box::new(Maybe {
                exchange: grpc::begin(context, &request, seen.first_at),
                call: Call::new(fields),
                request: Framing::default(),
                response: Framing::default(),
            }));
        }
        Self {
            id,
            exchange,
            kind,
            status: None,
            stage: Stage::Waiting,
            request_ended: seen.ends_stream,
            is_connect: request.method == b"CONNECT",
            has_data: false,
            may_be_call: false,
            request_losses: 0,
            response_losses: 0,
        }
    }

    /// Whether it is a call, as far as its request tells.
    pub(super) fn is_call(&self) -> Option<bool> {
        match self.kind {
            Kind::Http => Some(false),
            Kind::Grpc(_) => Some(true),
            Kind::Either(_) => None,
        }
    }

    /// A request that was sent by HTTP/1.1, whole, and is answered by HTTP/2 (RFC 7540, section 3.2).
    pub(super) fn upgraded(mut exchange: Exchange) -> Self {
        exchange.protocol = NAME;
        // What HTTP/1.1 said of it: 101.
        exchange.attributes.remove(key::HTTP_RESPONSE_STATUS_CODE);
        exchange.response_start = None;
        exchange.response_bytes = 0;
        Self {
            id: 1,
            exchange,
            kind: Kind::Http,
            status: None,
            stage: Stage::Waiting,
            request_ended: true,
            is_connect: false,
            has_data: false,
            may_be_call: false,
            request_losses: 0,
            response_losses: 0,
        }
    }

    /// More of the request: a piece of DATA, or trailers.
    pub(super) fn take_request(&mut self, seen: Seen) {
        self.exchange.request_bytes = self.exchange.request_bytes.saturating_add(seen.bytes);
        self.exchange.request_end = self.exchange.request_end.max(seen.last_at);
        self.request_ended |= seen.ends_stream;
    }

    /// A piece of the response's DATA.
    pub(super) fn take_data(&mut self, seen: Seen) {
        // Of a response whose head was missed nothing is told.
        if self.stage != Stage::Responding {
            return;
        }
        self.has_data = true;
        self.count_response(seen);
        if seen.ends_stream {
            self.stage = Stage::Answered;
        }
    }

    /// A header block of the response. False if it cannot be known which one it is: then nothing can be told of the
    /// stream. `doubtful` says that there may have been another before it.
    pub(super) fn take_response_fields(&mut self, fields: &Fields, seen: Seen, doubtful: bool) -> bool {
        let status = fields.status();
        match (self.stage, status) {
            (Stage::Answered, _) => return true,
            (Stage::Waiting, Some(100..=199)) => return true,
            // What had an unknown status was an interim response, too.
            (Stage::Responding, Some(100..=199)) if self.status.is_none() => {
                self.stage = Stage::Waiting;
                self.exchange.response_start = None;
                return true;
            }
            (Stage::Waiting, None) if seen.ends_stream && doubtful => return false,
            (Stage::Waiting, _) => self.begin_response(status, seen),
            (Stage::Responding, Some(_)) if self.status.is_none() => self.begin_response(status, seen),
            (Stage::Responding, None) if self.may_be_interim() => {
                if seen.ends_stream {
                    return false;
                }
                self.begin_response(None, seen);
            }
            (Stage::Responding, _) => self.count_response(seen),
        }
        self.settle_kind(fields);
        if status.is_some() && matches!(self.kind, Kind::Http) && http::captured::any() {
            let role = self.exchange.role;
            http::captured::push(
                &mut self.exchange.attributes,
                role,
                http::Head::Response,
                fields.captured(),
            );
        }
        match &mut self.kind {
            Kind::Grpc(call) => call.take_status(fields),
            Kind::Either(maybe) => maybe.call.take_status(fields),
            Kind::Http => {}
        }
        // What follows is the tunnel's.
        let tunnel = self.is_connect && status.is_some_and(|status| status / 100 == 2);
        self.request_ended |= tunnel;
        if seen.ends_stream || tunnel {
            self.stage = Stage::Answered;
        }
        true
    }

    fn begin_response(&mut self, status: Option<u16>, seen: Seen) {
        self.stage = Stage::Responding;
        self.status = status;
        self.exchange.response_start = Some(seen.first_at);
        self.exchange.response_bytes = 0;
        self.count_response(seen);
    }

    fn count_response(&mut self, seen: Seen) {
        self.exchange.response_bytes = self.exchange.response_bytes.saturating_add(seen.bytes);
        self.exchange.end = self.exchange.end.max(seen.last_at);
    }

    /// The response may show whether it is a call.
    fn settle_kind(&mut self, fields: &Fields) {
        if !matches!(self.kind, Kind::Either(_)) {
            return;
        }
        let content_type = fields.get(Field::ContentType);
        let is_grpc = match content_type {
            Some(value) => grpc::is_content_type(value),
            None if fields.get(Field::GrpcStatus).is_some() => true,
            None => return,
        };
        self.decide(is_grpc);
    }

    /// It is a call, or it is none.
    fn decide(&mut self, is_grpc: bool) {
        if let Kind::Either(maybe) = std::mem::replace(&mut self.kind, Kind::Http)
            && is_grpc
        {
            let Maybe { exchange, call, .. } = *maybe;
            let http = std::mem::replace(&mut self.exchange, exchange);
            self.exchange.request_end = http.request_end;
            self.exchange.request_bytes = http.request_bytes;
            self.exchange.response_start = http.response_start;
            self.exchange.response_bytes = http.response_bytes;
            self.exchange.end = http.end;
            self.kind = Kind::Grpc(call);
        }
    }

    /// A piece of DATA's payload.
    pub(super) fn take_body(&mut self, direction: Direction, body: Body<'_>) {
        let Kind::Either(maybe) = &mut self.kind else { return };
        let framing = match direction {
            Direction::ToServer => &mut maybe.request,
            Direction::ToClient => &mut maybe.response,
        };
        match body {
            Body::Bytes(bytes) => framing.read(bytes),
            Body::Missing(missing) => framing.skip(missing),
            Body::Unclear => framing.give_up(),
        }
    }

    /// What a direction sent while it had lost its way may have been DATA of this stream.
    pub(super) fn lose_body(&mut self, direction: Direction) {
        self.take_body(direction, Body::Unclear);
    }

    /// The bodies decide, where nothing else has: whole messages both ways. If too little was seen of them, it is a call
    /// where all others are (`among_calls`): its content type is one that had been sent before.
    fn decide_by_framing(&mut self, among_calls: bool) {
        let Kind::Either(maybe) = &self.kind else { return };
        let answered = maybe.response.is_whole() || maybe.response.is_empty();
        let whole = maybe.request.is_whole() && answered;
        let refuted = maybe.request.is_refuted() || maybe.response.is_refuted();
        let possible = matches!(self.status, None | Some(200));
        self.may_be_call = possible && !whole && !refuted && !among_calls;
        self.decide(possible && (whole || (among_calls && !refuted)));
    }

    /// What was taken for the final response may have been an interim one.
    pub(super) fn may_be_interim(&self) -> bool {
        self.stage == Stage::Responding && self.status.is_none() && !self.has_data
    }

    /// The exchange, if there is anything to tell. `among_calls`: all that is known of the connection are calls.
    pub(super) fn finish(mut self, ending: Ending, among_calls: bool) -> Option<Exchange> {
        let begun = self.exchange.response_start.is_some();
        if self.may_be_interim() {
            return None;
        }
        self.decide_by_framing(among_calls);
        let mut ended = Ended::Response(self.status);
        let mut error = None;
        match ending {
            _ if self.stage == Stage::Answered => {}
            Ending::Complete => {}
            Ending::Reset { code, by_client, at } => {
                ended = Ended::Reset { code, by_client, after_ns: at.since(self.exchange.start) };
                error = Some(reset_name(code));
                self.exchange.end = at;
            }
            Ending::Refused(at) => {
                ended = Ended::Reset { code: REFUSED_STREAM, by_client: false, after_ns: 0 };
                error = Some(GOAWAY);
                self.exchange.end = at;
            }
            Ending::Closed(_) if begun => error = Some(RESPONSE_TRUNCATED),
            Ending::Closed(at) => {
                error = Some(CONNECTION_CLOSED);
                self.exchange.end = at;
            }
            Ending::Unknown if begun => {}
            Ending::Unknown => return None,
        }
        let exchange = &mut self.exchange;
        match self.kind {
            Kind::Grpc(call) => {
                if !matches!(ending, Ending::Closed(_) | Ending::Unknown) || self.stage == Stage::Answered {
                    call.finish(exchange, ended);
                }
            }
            Kind::Http | Kind::Either(_) => {
                if let Some(status) = self.status {
                    http::set_status(exchange, status);
                }
            }
        }
        // A call that was cancelled has a status, or none that is known, and need not be an error of the server's.
        let is_call = exchange.attributes.get(key::RPC_SYSTEM_NAME).is_some();
        if let Some(error) = error
            && (!is_call || matches!(ending, Ending::Closed(_)))
        {
            http::set_error(exchange, error);
        }
        if is_status_unknown(exchange) || (self.may_be_call && exchange.outcome == Outcome::Unset) {
            exchange.attributes.push(key::SPANTAP_STATUS_UNKNOWN, Value::Bool(true));
        }
        Some(self.exchange)
    }
}

/// Nothing tells how it ended: neither a status nor an error.
fn is_status_unknown(exchange: &Exchange) -> bool {
    let known = [key::RPC_RESPONSE_STATUS_CODE, key::HTTP_RESPONSE_STATUS_CODE];
    let said = known.iter().any(|key| exchange.attributes.get(key).is_some());
    !said && exchange.outcome == Outcome::Unset
}

/// `error.type` of a request that the server said it would not answer.
const GOAWAY: &str = "goaway";
const REFUSED_STREAM: u32 = 7;

/// `error.type` of a stream that was reset: the code's name in RFC 9113, section 7.
fn reset_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "no_error",
        "protocol_error",
        "internal_error",
        "flow_control_error",
        "settings_timeout",
        "stream_closed",
        "frame_size_error",
        "refused_stream",
        "cancel",
        "compression_error",
        "connect_error",
        "enhance_your_calm",
        "inadequate_security",
        "http_1_1_required",
    ];
    NAMES.get(code as usize).copied().unwrap_or("_OTHER")
}
