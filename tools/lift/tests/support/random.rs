//! Random numbers that like edges. Not for anything but tests.

/// xorshift64*.
pub(crate) struct Random(u64);

const EDGES: [u64; 24] = [
    0,
    1,
    2,
    7,
    8,
    0xf,
    0x10,
    0x1f,
    0x20,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// A register value: an edge of some width, a small number, or anything.
    pub(crate) fn value(&mut self) -> u64 {
        match self.below(8) {
            0..=2 => self.pick(&EDGES),
            3 => self.below(300),
            4 => self.below(1 << 32),
            5 => (self.below(300) as i64 - 150) as u64,
            _ => self.next(),
        }
    }
}
