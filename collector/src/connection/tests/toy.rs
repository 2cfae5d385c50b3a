//! A protocol for these tests: `Q<id>:<length>\n` and `length` bytes `x` ask, `R<id>:<length>\n` and a body answer.
//!
//! Ids grow. A response is held back (0) while its id is above that of the last request, or that one is not whole.

use spantap_protocols::{
    Attributes, BootNanos, Direction, Exchange, Gap, OpenContext, Outcome, Parser, Protocol, Role, Segment,
    Sniff,
};

pub(crate) struct Toy;

pub(crate) static TOY: &[&dyn Protocol] = &[&Toy];

impl Protocol for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn sniff(&self, head: &[u8], expected: Option<Direction>) -> Sniff {
        let direction = match head.first() {
            Some(b'Q') => Direction::ToServer,
            Some(b'R') => Direction::ToClient,
            _ => return Sniff::Reject,
        };
        if expected.is_some_and(|expected| expected != direction) {
            return Sniff::Reject;
        }
        match head_of(head) {
            Head::Whole { .. } => Sniff::Match(direction),
            Head::Part => Sniff::NeedMore,
            Head::Bad => Sniff::Reject,
        }
    }

    fn open(&self, context: OpenContext) -> Box<dyn Parser> {
        Box::new(ToyParser {
            context,
            last_request: None,
            open: Vec::new(),
            sides: [Side::default(), Side::default()],
            bad: 0,
            dropped: 0,
        })
    }
}

struct ToyParser {
    context: OpenContext,
    last_request: Option<u64>,
    open: Vec<Half>,
    sides: [Side; 2],
    bad: u32,
    dropped: u64,
}

#[derive(Default)]
struct Side {
    body: Option<Half>,
    seeking: bool,
}

#[derive(Clone, Debug)]
struct Half {
    id: u64,
    bytes: u64,
    left: u64,
    first: BootNanos,
    last: BootNanos,
}

enum Head {
    Whole { id: u64, length: u64, bytes: usize },
    Part,
    Bad,
}

fn head_of(bytes: &[u8]) -> Head {
    let Some(end) = bytes.iter().take(32).position(|byte| *byte == b'\n') else {
        let plain = bytes.iter().skip(1).all(|byte| byte.is_ascii_digit() || *byte == b':');
        return if bytes.len() < 32 && plain { Head::Part } else { Head::Bad };
    };
    let text = std::str::from_utf8(&bytes[1..end]).unwrap_or_default();
    match text.split_once(':').map(|(id, length)| (id.parse(), length.parse())) {
        Some((Ok(id), Ok(length))) => Head::Whole { id, length, bytes: end + 1 },
        _ => Head::Bad,
    }
}

impl ToyParser {
    fn finish(&mut self, direction: Direction, half: Half, out: &mut Vec<Exchange>) {
        match direction {
            Direction::ToServer => self.open.push(half),
            Direction::ToClient => {
                let Some(at) = self.open.iter().position(|open| open.id == half.id) else { return };
                let request = self.open.remove(at);
                out.push(exchange(self.context.role, &request, Some(&half)));
            }
        }
    }

    fn advance(&mut self, direction: Direction, count: u64, last: BootNanos, out: &mut Vec<Exchange>) {
        let side = &mut self.sides[direction as usize];
        let Some(mut half) = side.body.take() else { return };
        half.left -= count;
        half.bytes += count;
        half.last = half.last.max(last);
        if half.left == 0 {
            self.finish(direction, half, out);
        } else {
            self.sides[direction as usize].body = Some(half);
        }
    }
}

impl Parser for ToyParser {
    fn on_segment(&mut self, segment: Segment<'_>, out: &mut Vec<Exchange>) -> usize {
        let Segment { direction, bytes, first_at, last_at, .. } = segment;
        assert!(!bytes.is_empty() && first_at <= last_at);
        let asking = self.sides[0].body.is_some();
        let side = &mut self.sides[direction as usize];
        let letter = if direction == Direction::ToServer { b'Q' } else { b'R' };
        if let Some(half) = &side.body {
            let count = half.left.min(bytes.len() as u64);
            self.advance(direction, count, last_at, out);
            return count as usize;
        }
        if side.seeking {
            let skip = bytes.iter().position(|byte| *byte == letter).unwrap_or(bytes.len());
            side.seeking = skip == bytes.len();
            if skip > 0 {
                return skip;
            }
        }
        let head = if bytes[0] == letter { head_of(bytes) } else { Head::Bad };
        match head {
            Head::Part => 0,
            Head::Bad => {
                self.bad += 1;
                side.seeking = true;
                1
            }
            Head::Whole { id, length, bytes } => {
                let early = self.last_request.is_none_or(|last| id > last) || asking;
                if direction == Direction::ToClient && early {
                    return 0;
                }
                if direction == Direction::ToServer {
                    self.last_request = Some(id);
                }
                let half = Half { id, bytes: bytes as u64, left: length, first: first_at, last: first_at };
                side.body = Some(half);
                self.advance(direction, 0, first_at, out);
                bytes
            }
        }
    }

    fn on_gap(&mut self, gap: Gap, out: &mut Vec<Exchange>) {
        assert!(gap.missing > 0);
        let side = &mut self.sides[gap.direction as usize];
        let left = side.body.as_ref().map_or(0, |half| half.left);
        if gap.missing <= left {
            self.advance(gap.direction, gap.missing, gap.last_at, out);
        } else {
            *side = Side { body: None, seeking: true };
            self.dropped += 1;
        }
    }

    fn on_close(&mut self, at: BootNanos, out: &mut Vec<Exchange>) {
        for open in std::mem::take(&mut self.open) {
            let mut exchange = exchange(self.context.role, &open, None);
            (exchange.end, exchange.outcome) = (at, Outcome::Error("connection_closed".into()));
            out.push(exchange);
        }
    }

    fn lost(&self) -> bool {
        self.bad >= 3
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn skippable(&self, direction: Direction) -> u64 {
        self.sides[direction as usize].body.as_ref().map_or(0, |half| half.left)
    }

    fn in_flight(&self) -> usize {
        self.open.len()
    }
}

fn exchange(role: Role, request: &Half, response: Option<&Half>) -> Exchange {
    Exchange {
        protocol: "toy",
        role,
        start: request.first,
        request_end: request.last,
        response_start: response.map(|half| half.first),
        end: response.map_or(request.last, |half| half.last),
        request_bytes: request.bytes,
        response_bytes: response.map_or(0, |half| half.bytes),
        operation: compact_str::format_compact!("{}", request.id),
        target: None,
        attributes: Attributes::new(),
        outcome: Outcome::Unset,
        trace: None,
        metric: None,
    }
}
