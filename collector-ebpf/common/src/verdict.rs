//! What user space wants of a stream's bytes: the one thing that flows back into the kernel programs.

/// What is wanted of one stream. All zero: nothing but the usual.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whose it is.
    pub stream: u64,
    /// Of what is sent, calls that end at this position or before are reported without their bytes.
    pub sent_until: u64,
    /// Likewise of what is received.
    pub received_until: u64,
    /// Until then calls are not reported at all: `CLOCK_BOOTTIME`.
    pub quiet_until_ns: u64,
    /// When the stream last moved; written by the programs while it is quiet. After [`Verdict::IDLE_NS`] without a call
    /// it is quiet no more, since something new may begin.
    pub active_ns: u64,
    /// Bytes copied of one call at most, in place of the configured number if that is smaller.
    pub copy_bytes: u32,
    /// Zero.
    pub _pad: u32,
}

impl Verdict {
    /// See [`Verdict::active_ns`].
    pub const IDLE_NS: u64 = 1_000_000_000;
    /// Verdicts known at a time. Of two streams that share a slot the later one has it, and the other is reported as usual.
    pub const SLOTS: u32 = 16 * 1024;

    /// The slot of a stream's verdict.
    #[must_use]
    pub const fn slot(stream: u64) -> u32 {
        // Numbers of streams are times: neighbours must not crowd (Knuth's multiplicative hashing).
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        (stream.wrapping_mul(GOLDEN) >> (64 - Self::SLOTS.trailing_zeros())) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_spread() {
        let mut taken = [false; Verdict::SLOTS as usize];
        // As the programs number streams: time in nanoseconds and the processor.
        let streams = (0..1_000u64).map(|n| ((1_700_000_000_000 + n * 41_237) << 8) | (n % 4));
        let distinct = streams
            .filter(|&stream| !core::mem::replace(&mut taken[Verdict::slot(stream) as usize], true))
            .count();
        assert!(distinct > 900, "{distinct}");
    }
}
