//! What a server sends without being asked: messages, and confirmations, of which one command gets several.

use super::{
    commands::{Channels, Kind},
    wire::{Header, Number, header},
};

/// What an array or a push is, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A message to a subscriber.
    Message,
    /// A subscription, or the end of one: part of the reply to this kind of command.
    Confirmation(Kind),
    /// Anything else.
    Other,
}

/// How many subscriptions a connection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscriptions {
    plain: u64,
    patterns: u64,
    shards: u64,
    /// They were confirmed by arrays: it speaks RESP2, where messages look like replies.
    resp2: bool,
}

impl Subscriptions {
    /// Those of a connection whose earlier ones are unknown, after a confirmation: known if none are left.
    pub(super) fn first_known(kind: Kind, total: u64, resp2: bool) -> Option<Self> {
        let others = matches!(kind, Kind::Unsubscribe(Channels::Plain | Channels::Pattern));
        (others && total == 0).then_some(Self { resp2, ..Self::default() })
    }

    /// Takes note of a confirmation that says that so many are left: of channels and patterns together, or of shards.
    pub(super) fn confirm(&mut self, kind: Kind, total: u64, resp2: bool) {
        let (Kind::Subscribe(channels) | Kind::Unsubscribe(channels)) = kind else { return };
        match channels {
            Channels::Plain => self.plain = total.saturating_sub(self.patterns),
            Channels::Pattern => self.patterns = total.saturating_sub(self.plain),
            Channels::Shard => self.shards = total,
        }
        self.resp2 = resp2;
    }

    /// How many there are of a sort.
    pub(super) fn count(&self, channels: Channels) -> u64 {
        match channels {
            Channels::Plain => self.plain,
            Channels::Pattern => self.patterns,
            Channels::Shard => self.shards,
        }
    }

    /// Messages may come in the form of replies.
    pub(super) fn may_get_arrays(&self) -> bool {
        self.resp2 && self.plain + self.patterns + self.shards > 0
    }
}

/// Says what begins here; `None` if that is not here yet.
pub(super) fn word(bytes: &[u8]) -> Option<Word> {
    let (length, count) = match header(bytes) {
        // An empty array, or none: nothing follows that could be waited for.
        Header::Whole(_, Number::Of(..=0)) => return Some(Word::Other),
        Header::Whole(length, Number::Of(count)) => (length, count),
        Header::Partial => return None,
        _ => return Some(Word::Other),
    };
    let rest = bytes.get(length..).unwrap_or_default();
    let (length, size) = match rest.first() {
        None => return None,
        Some(b'$') => match header(rest) {
            Header::Whole(length, Number::Of(size)) => (length, size),
            Header::Partial => return None,
            _ => return Some(Word::Other),
        },
        Some(_) => return Some(Word::Other),
    };
    let size = usize::try_from(size).ok().filter(|size| *size <= LONGEST).unwrap_or(0);
    let word = rest.get(length..length + size)?;
    let known = WORDS.iter().find(|(name, words, _)| name.as_bytes() == word && *words == count);
    Some(known.map_or(Word::Other, |(_, _, word)| *word))
}

/// `punsubscribe` and its kin.
const LONGEST: usize = 12;

/// The words, and of how many elements they are the first.
/// <https://redis.io/docs/latest/develop/pubsub/#format-of-pushed-messages>
const WORDS: &[(&str, i64, Word)] = &[
    ("message", 3, Word::Message),
    ("pmessage", 4, Word::Message),
    ("smessage", 3, Word::Message),
    ("subscribe", 3, Word::Confirmation(Kind::Subscribe(Channels::Plain))),
    ("psubscribe", 3, Word::Confirmation(Kind::Subscribe(Channels::Pattern))),
    ("ssubscribe", 3, Word::Confirmation(Kind::Subscribe(Channels::Shard))),
    ("unsubscribe", 3, Word::Confirmation(Kind::Unsubscribe(Channels::Plain))),
    ("punsubscribe", 3, Word::Confirmation(Kind::Unsubscribe(Channels::Pattern))),
    ("sunsubscribe", 3, Word::Confirmation(Kind::Unsubscribe(Channels::Shard))),
];

/// Whether this is a line that `MONITOR` gets: `+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"`. `None` if too little
/// of it is here.
pub(super) fn is_monitored(bytes: &[u8]) -> Option<bool> {
    let line = bytes.get(1..).unwrap_or_default();
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut expected = [Some(b'.'), None, None, None, None, None, None, Some(b' '), Some(b'[')].into_iter();
    let fits = digits >= 9;
    for (byte, wanted) in line.get(digits..).unwrap_or_default().iter().zip(expected.by_ref()) {
        let right = fits && wanted.map_or(byte.is_ascii_digit(), |wanted| wanted == *byte);
        if !right {
            return Some(false);
        }
    }
    if digits > 12 {
        return Some(false);
    }
    expected.next().is_none().then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_told_by_their_first_word() {
        let message = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n";
        assert_eq!(word(message), Some(Word::Message));
        assert!((0..15).all(|length| word(&message[..length]).is_none()));
        assert_eq!(
            word(b">3\r\n$12\r\npunsubscribe\r\n"),
            Some(Word::Confirmation(Kind::Unsubscribe(Channels::Pattern)))
        );
        for other in [
            &b"*2\r\n$7\r\nmessage\r\n"[..],
            b"*3\r\n:1\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*0\r\n+",
            b"*-1\r\n+",
            b"*3\r\n$9000\r\nab",
        ] {
            assert_eq!(word(other), Some(Word::Other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn lines_of_monitor_are_told_from_replies() {
        let line = b"+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n";
        assert_eq!(is_monitored(line), Some(true));
        assert!((1..19).all(|length| is_monitored(&line[..length]).is_none()));
        for other in
            [&b"+OK\r\n"[..], b"+1\r\n", b"+1339518083\r\n", b"+1339518083.107412\r\n", b"+1234567890123456"]
        {
            assert_eq!(is_monitored(other), Some(false), "{}", String::from_utf8_lossy(other));
        }
    }
}
