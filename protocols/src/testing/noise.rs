//! Numbers without any sense, always the same for a seed.

/// Marsaglia's xorshift64.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Spread over all bits, and never zero, which would stay zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next one below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The upper bits are the better ones.
        (self.number() >> 16) % limit
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.number().to_le_bytes()).flatten().take(length).collect()
    }
}
