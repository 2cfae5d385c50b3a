//! Everything the kernel side leaves out, by reason, in one list. What it passes on is counted by who receives it.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// One of the kernel side's counters; its number is its index in the per-CPU array.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)+];

            /// The name under which it is exported.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)+ }
            }
        }
    };
}

counters! {
    /// Records lost because the ring buffer was full.
    RingFull = "ring_full",
    /// Bytes of payload that those records would have carried or counted.
    RingFullBytes = "ring_full_bytes",
    /// Payloads that could not be read (the page was not resident); their bytes are a gap.
    PayloadFault = "payload_fault",
    /// Kernel structs that could not be read.
    KernelReadFailed = "kernel_read_failed",
    /// Calls of 32-bit processes, whose numbers mean other calls.
    CompatCall = "compat_call",
    /// Calls whose entry time had been overwritten by another thread; their return time stands in.
    EntryTimeLost = "entry_time_lost",
    /// Receives that only peeked; the bytes come again.
    Peeked = "peeked",
    /// Bytes that moved unseen between two calls (sendfile, splice, io_uring); reported as gaps.
    UnseenBytes = "unseen_bytes",
    /// Calls on streams of no known protocol, not reported for a while as the agent asked.
    UnwantedCalls = "unwanted_calls",
    /// Bytes that those calls moved.
    UnwantedBytes = "unwanted_bytes",
    /// Calls whose position overlapped that of another thread's call on the same socket.
    PositionConflict = "position_conflict",
    /// Connections that could not be remembered.
    ConnectionTableFull = "connection_table_full",
    /// TLS calls that could not be remembered between entry and return.
    TlsCallLost = "tls_call_lost",
    /// TLS plaintext reported before its session was bound to a socket.
    TlsUnbound = "tls_unbound",
}
