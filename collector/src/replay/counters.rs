//! What a replay took from its files, and what it left out, by reason.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Totals of a replay.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ReplayCounters {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl ReplayCounters {
            /// Each with its name, in a fixed order.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Packets in the files.
    frames,
    /// Of a link type that is not understood.
    unknown_link_frames,
    /// Neither IPv4 nor IPv6.
    not_ip_frames,
    /// IP, but not TCP.
    not_tcp_frames,
    /// Fragments of IP packets; they are not put together.
    fragment_frames,
    /// Headers that are cut off or contradict themselves.
    malformed_frames,
    /// TCP segments.
    segments,
    /// Segments whose sequence number cannot belong to their connection.
    stray_segments,
    /// Segments that came before others that precede them.
    reordered_segments,
    /// Segments with payload of connections that were over.
    late_segments,
    /// Connections seen.
    connections,
    /// Connections forgotten because there were too many.
    evicted_connections,
    /// Bytes of payload in order, whether captured or cut off.
    payload_bytes,
    /// Of those, bytes cut off by the snap length.
    cut_bytes,
    /// Bytes of payload that came more than once.
    repeated_bytes,
    /// Bytes of payload that the capture does not have.
    lost_bytes,
}
