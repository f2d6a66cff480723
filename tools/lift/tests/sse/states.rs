//! Machine states: what goes in, what comes out.

use iced_x86::{Instruction, OpKind};

/// Guest and host address of the memory operands' page.
pub(crate) const DATA: u64 = 0x2000_0000;
pub(crate) const DATA_BYTES: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) gpr: [u64; 16],
    pub(crate) xmm: [u128; 16],
    /// Low 80 bits of the physical x87 registers; TOP is 0.
    pub(crate) st: [u128; 8],
    /// One bit per empty x87 register.
    pub(crate) empty: u8,
    pub(crate) flags: u32,
    pub(crate) mxcsr: u32,
    pub(crate) memory: [u8; DATA_BYTES],
    /// Lifted only: bit cc = condition cc (in encoding order) holds.
    pub(crate) conditions: u16,
}

impl Default for State {
    fn default() -> Self {
        Self { gpr: [0; 16], xmm: [0; 16], st: [0xffff << 64; 8], empty: 0xff, flags: 0x202, mxcsr: 0x1f80, memory: [0; DATA_BYTES], conditions: 0 }
    }
}

impl State {
    /// The sixteen conditions, in encoding order, from the flags.
    pub(crate) fn conditions(&self) -> u16 {
        let f = |bit: u32| self.flags >> bit & 1 == 1;
        let (cf, pf, zf, sf, of) = (f(0), f(2), f(6), f(7), f(11));
        let positive = [of, cf, zf, cf || zf, sf, pf, sf != of, sf != of || zf];
        positive.iter().enumerate().fold(0, |c, (k, p)| c | u16::from(*p) << (2 * k) | u16::from(!*p) << (2 * k + 1))
    }

    pub(crate) fn describe(&self, i: &Instruction) -> String {
        let mut s = format!("mxcsr {:#x}", self.mxcsr);
        for k in 0..i.op_count() {
            match i.op_kind(k) {
                OpKind::Register if i.op_register(k).is_xmm() => {
                    let n = i.op_register(k).number();
                    s += &format!(" xmm{n} {}", crate::hex(self.xmm[n]));
                }
                OpKind::Register if i.op_register(k).is_mm() => s += &format!(" {:?} {:016x}", i.op_register(k), self.st[i.op_register(k).number()] as u64),
                OpKind::Register => s += &format!(" {:?} {:#x}", i.op_register(k), self.gpr[i.op_register(k).full_register().number()]),
                OpKind::Memory => s += &format!(" memory {}", crate::hex(u128::from_le_bytes(self.memory[16..32].try_into().expect("16 bytes")))),
                _ => {}
            }
        }
        s
    }
}

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
}

/// Doubles at every border.
const DOUBLES: [u64; 24] = [
    0,
    1 << 63,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_1234,
    0xfff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0xfff4_0000_dead_beef,
    1,
    0x800f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x41df_ffff_ffc0_0000,
    0x41e0_0000_0000_0000,
    0xc1e0_0000_0000_0000,
    0xc1e0_0000_0020_0000,
    0x43e0_0000_0000_0000,
    0xc3e0_0000_0000_0000,
    0x43df_ffff_ffff_ffff,
    0x3fe0_0000_0000_0000,
    0x4004_0000_0000_0000,
    0xc1df_ffff_fff0_0000,
];

/// Singles at every border.
const SINGLES: [u32; 24] = [
    0,
    1 << 31,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_1234,
    0xffc0_0000,
    0x7f80_0001,
    0xffa0_beef,
    1,
    0x807f_ffff,
    0x0080_0000,
    0x7f7f_ffff,
    0x4eff_ffff,
    0x4f00_0000,
    0xcf00_0000,
    0xcf00_0001,
    0x5f00_0000,
    0xdf00_0000,
    0x3f00_0000,
    0x4020_0000,
    0xbfc0_0000,
    0x5eff_ffff,
];

/// Integers at lane borders, as repeated bytes and as counts.
const INTEGERS: [u64; 16] = [
    0,
    u64::MAX,
    0x8080_8080_8080_8080,
    0x7f7f_7f7f_7f7f_7f7f,
    0x8000_8000_8000_8000,
    0x7fff_7fff_7fff_7fff,
    0x8000_0000_8000_0000,
    0x7fff_ffff_7fff_ffff,
    1 << 63,
    i64::MAX as u64,
    7,
    16,
    31,
    32,
    64,
    1 << 32,
];

fn half(r: &mut Random) -> u64 {
    match r.below(8) {
        0 | 1 => DOUBLES[r.below(DOUBLES.len())],
        2 | 3 => u64::from(SINGLES[r.below(SINGLES.len())]) | u64::from(SINGLES[r.below(SINGLES.len())]) << 32,
        4 => INTEGERS[r.below(INTEGERS.len())],
        // Moderate numbers, so that sums and conversions are ordinary.
        5 => (f64::from(r.next() as i32) / 1000.0).to_bits(),
        6 => u64::from(((r.next() as i32 >> 8) as f32 / 100.0).to_bits()) | u64::from((f32::from(r.next() as i16) / 4.0).to_bits()) << 32,
        _ => r.next(),
    }
}

/// The states an instruction is tried on.
pub(crate) fn all(i: &Instruction) -> Vec<State> {
    let mut r = Random(0x9e37_79b9_7f4a_7c15 ^ i.code() as u64 ^ u64::from(i.next_ip() as u32) << 20);
    let mut states: Vec<State> = (0..150).map(|n| state(&mut r, n)).collect();
    // Rounding modes, then flush-to-zero and denormals-are-zero with the default mode.
    for (n, s) in states.iter_mut().enumerate() {
        s.mxcsr |= [0, 0x2000, 0x4000, 0x6000, 0x8000, 0x40, 0x8040, 0][n % 8];
    }
    states
}

fn state(r: &mut Random, n: u32) -> State {
    let mut s = State { flags: 0, ..State::default() };
    for x in &mut s.xmm {
        *x = u128::from(half(r)) << 64 | u128::from(half(r));
    }
    for m in &mut s.st {
        *m = 0x7fff << 64 | u128::from(half(r));
    }
    // Equal operands, and equal lanes.
    if n % 11 == 3 {
        s.xmm[2] = s.xmm[1];
    }
    if n % 11 == 5 {
        s.xmm[1] = s.xmm[0];
    }
    for g in &mut s.gpr {
        *g = half(r);
    }
    for chunk in s.memory.chunks_mut(8) {
        chunk.copy_from_slice(&half(r).to_le_bytes());
    }
    if n % 13 == 6 {
        s.memory[16..32].copy_from_slice(&s.xmm[1].to_le_bytes());
    }
    // Explicit string lengths on both sides of 16.
    if n.is_multiple_of(2) {
        s.gpr[0] = (r.next() % 40).wrapping_sub(20);
        s.gpr[2] = (r.next() % 40).wrapping_sub(20);
    }
    s.gpr[7] = DATA;
    s.flags = r.next() as u32 & 0x8d5 | 0x202;
    s
}
