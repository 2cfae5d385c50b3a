//! What the connection layer took in, passed on and left out, by reason.
//!
//! The byte counters are a balance sheet: [`Counters::seen_bytes`] is always [`Counters::parsed_bytes`] plus the sum of
//! the named reasons ([`Counters::left_out_bytes`]) plus what is still retained ([`super::Usage::retained_bytes`]).

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Totals since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Counters {
            /// Each with its name, in a fixed order.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }

            /// Adds those of another table (shard).
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

counters! {
    /// Connections that were announced.
    open_events,
    /// Connections that a process asked for and did not get.
    failed_connects,
    /// Those of them of which no exchange was made: nobody knows what would have been spoken, or the process gave up.
    failed_connects_unknown,
    /// Calls that moved bytes.
    data_events,
    /// Connections and TLS sessions that ended.
    close_events,
    /// Processes that began, ended or loaded code.
    process_events,
    /// Exchanges that parsers finished.
    exchanges,
    /// Messages that parsers saw but could not report.
    dropped_messages,
    /// Messages whose head was longer than what was copied: header fields behind the cut were not seen.
    cut_heads,
    /// Streams in which a protocol was recognised.
    detected_streams,
    /// Streams that returned to detection because their parser was lost.
    revoked_streams,
    /// Streams that were found to carry TLS records or to lie below a TLS session.
    ciphertext_streams,
    /// Those of them below a TLS session whose plaintext is seen.
    ciphertext_streams_read,
    /// Streams dropped because there were too many.
    evicted_streams,
    /// Exchanges that were open on them.
    evicted_exchanges,
    /// Exchanges that were open when there was nothing more to see: the end of the agent, or of a recording.
    exchanges_open_at_end,
    /// Streams ended after being idle for too long.
    expired_streams,
    /// Connections forgotten because there were too many.
    evicted_connections,
    /// Connections forgotten after being idle for too long.
    expired_connections,
    /// Calls whose bytes came ahead of others and were held until those came.
    reordered_events,
    /// Gaps of any kind.
    gaps,
    /// Bytes that the positions say have passed, but no event carried. Not part of `seen_bytes`.
    missing_bytes,
    /// Bytes that the positions say have passed while the kernel side was asked to leave the stream alone: of no known
    /// protocol. Not part of `seen_bytes` either.
    unwanted_bytes,
    /// Bytes that events reported, whether copied or not.
    seen_bytes,
    /// Bytes that parsers consumed.
    parsed_bytes,
    /// Bytes of events that were not copied; parsers were told of a gap.
    uncopied_bytes,
    /// Bytes at positions that had passed already.
    overlap_bytes,
    /// Bytes of TLS records, or below a TLS session whose plaintext is seen.
    ciphertext_bytes,
    /// Bytes that no protocol recognised, or that came while detection rested.
    unknown_bytes,
    /// Bytes before a gap of which the parser could make nothing.
    incomplete_bytes,
    /// Bytes dropped because one direction retained too many.
    direction_budget_bytes,
    /// Bytes dropped because all streams together retained too many.
    total_budget_bytes,
    /// Bytes that were still unconsumed when their stream ended or expired.
    unfinished_bytes,
    /// Bytes that were retained by an evicted stream.
    evicted_bytes,
    /// Bytes that were written into TLS sessions whose socket was closed.
    unsent_bytes,
}

impl Counters {
    /// Positions are claims: their differences can add up to anything.
    pub(super) fn add_missing(&mut self, bytes: u64) {
        self.missing_bytes = self.missing_bytes.saturating_add(bytes);
    }

    /// Bytes left out on request.
    pub(super) fn add_unwanted(&mut self, bytes: u64) {
        self.unwanted_bytes = self.unwanted_bytes.saturating_add(bytes);
    }

    /// Bytes that were seen but reached no parser: the sum of all reasons.
    #[must_use]
    pub fn left_out_bytes(&self) -> u64 {
        self.uncopied_bytes
            + self.overlap_bytes
            + self.ciphertext_bytes
            + self.unknown_bytes
            + self.incomplete_bytes
            + self.direction_budget_bytes
            + self.total_budget_bytes
            + self.unfinished_bytes
            + self.evicted_bytes
            + self.unsent_bytes
    }
}
