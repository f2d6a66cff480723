//! The same look at AArch64's instructions, whose register x28 is what GS is on x86-64.
//!
//! Owns which bits of an instruction are a register that it writes. Knows no instruction by name but the few that have no such bits, or have them elsewhere: what is not known to leave x28 alone is refused. The fact a newcomer gets wrong: where an address in the CPU state
//! depends on a register (the x87's are reached by number), its displacement is in that register, too, so such an access cannot be held to any limit here.

use std::mem::size_of;
use syscalls::abi::{CpuState, Links};

/// The register that code leaves alone: lifted code x28; that of WASI programs, which has no CPU state, none.
#[derive(Clone, Copy)]
pub(super) struct Reserved(u32);

impl Reserved {
    pub(super) const LIFTED: Reserved = Reserved(28);
    pub(super) const NONE: Reserved = Reserved(32);
}

/// Is it one that lifted code can need? Data between functions counts as code, as it does on x86-64.
pub(super) fn is_sound(Reserved(base): Reserved, i: u32) -> bool {
    match i >> 25 & 0xf {
        // Not allocated: udf stops.
        0b0000 => i >> 16 == 0,
        // Immediates: all write their first field.
        0b1000 | 0b1001 => rd(i) != base,
        0b1010 | 0b1011 => is_sound_branch(base, i),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => is_sound_access(base, i),
        // Registers: a conditional comparison writes flags alone, and has other bits there.
        0b0101 | 0b1101 => i & 0x1fe0_0000 == 0x1a40_0000 || rd(i) != base,
        0b0111 | 0b1111 => !writes_general(i) || rd(i) != base,
        // SVE and SME.
        _ => false,
    }
}

fn rd(i: u32) -> u32 {
    i & 0x1f
}

fn rn(i: u32) -> u32 {
    i >> 5 & 0x1f
}

/// Branches, and what the processor does besides computing.
fn is_sound_branch(base: u32, i: u32) -> bool {
    // b, bl; cbz, cbnz; tbz, tbnz; b.cond.
    let jump = i & 0x7c00_0000 == 0x1400_0000 || i & 0x7e00_0000 == 0x3400_0000 || i & 0x7e00_0000 == 0x3600_0000 || i & 0xff00_0010 == 0x5400_0000;
    // br, blr, ret.
    let register = matches!(i & 0xffff_fc1f, 0xd61f_0000 | 0xd63f_0000 | 0xd65f_0000);
    // Hints (nop, bti, yield), barriers, brk.
    let hint = i & 0xffff_f01f == 0xd503_201f;
    let barrier = i & 0xffff_f01f == 0xd503_301f;
    let stop = i & 0xffe0_001f == 0xd420_0000;
    jump || register && rn(i) != base || hint || barrier || stop
}

/// Loads and stores.
fn is_sound_access(base: u32, i: u32) -> bool {
    let vector = i >> 26 & 1 == 1;
    let kind = i >> 28 & 3;
    // Loads of literals have no base; structures of vectors are no accesses of the CPU state's.
    if kind == 1 && i >> 24 & 1 == 0 {
        return vector || rd(i) != base;
    }
    let pair = kind == 2;
    // Exclusive and ordered accesses, compare and swap: what they load into or say how it went by.
    let exclusive = kind == 0 && !vector;
    let atomic = kind == 3 && i >> 21 & 1 == 1 && i >> 24 & 1 == 0 && i >> 10 & 3 == 0 && !vector;
    let second = i >> 10 & 0x1f;
    let status = i >> 16 & 0x1f;
    let data = vector || rd(i) != base && !((pair || exclusive && i >> 21 & 1 == 1) && second == base);
    let others = !(exclusive || atomic) || status != base && rn(i) != base;
    if rn(i) != base {
        return data && others;
    }
    data && others && kind >= 2 && is_within(i, pair, vector)
}

/// Does an access based on x28 stay in the CPU state, or read the links behind it? It may not change its base.
fn is_within(i: u32, pair: bool, vector: bool) -> bool {
    let size = i >> 30;
    let (offset, bytes, writes) = if pair {
        // Neither before nor behind the access is the base changed.
        if i >> 23 & 3 != 2 && i >> 23 & 3 != 0 {
            return false;
        }
        let each = if vector { 4 << size } else { 4 << (size >> 1) };
        let offset = (i as i32) << 10 >> 25;
        (i64::from(offset) * each, 2 * each, i >> 22 & 1 == 0)
    } else {
        let wide = vector && i >> 23 & 1 == 1 && size == 0;
        let bytes: i64 = if wide { 16 } else { 1 << size };
        let writes = if vector { i >> 22 & 1 == 0 } else { i >> 22 & 3 == 0 };
        let offset = match (i >> 24 & 1, i >> 21 & 1, i >> 10 & 3) {
            (1, ..) => i64::from(i >> 10 & 0xfff) * bytes,
            // A register of the x87 by its number: `by_number` on x86-64.
            (0, 1, 2) => return true,
            // Unscaled; the others change the base.
            (0, 0, 0) => i64::from((i as i32) << 11 >> 23),
            _ => return false,
        };
        (offset, bytes, writes)
    };
    let limit = if writes { size_of::<CpuState>() } else { Links::AT as usize + size_of::<Links>() };
    offset >= 0 && offset + bytes <= limit as i64
}

/// Of floating-point and vector instructions, those that write a general register: conversions to integers, moves of scalars and of lanes.
fn writes_general(i: u32) -> bool {
    let scalar = i & 0x7f20_0000 == 0x1e20_0000 && i >> 10 & 0x3f == 0 && matches!(i >> 16 & 7, 0 | 1 | 4 | 5 | 6);
    let fixed = i & 0x7f20_0000 == 0x1e00_0000 && matches!(i >> 16 & 7, 0 | 1);
    let lane = i & 0xbfe0_fc00 == 0x0e00_3c00 || i & 0xbfe0_fc00 == 0x0e00_2c00;
    scalar || fixed || lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_state_may_be_used_and_the_links_read() {
        let good = [
            (0xf940_1b80, "ldr x0, [x28, #48]"),
            (0xf900_0380, "str x0, [x28]"),
            (0xf942_0788, "ldr x8, [x28, #1032]"),
            (0xad48_0780, "ldp q0, q1, [x28, #256]"),
            (0xb809_c380, "stur w0, [x28, #156]"),
            (0x8b29_4388, "add x8, x28, w9, uxtw"),
            (0xaa1c_03e0, "mov x0, x28"),
            (0xf828_6b8a, "str x10, [x28, x8]"),
            (0x4e60_d41c, "fadd v28.2d, v0.2d, v0.2d"),
            (0x3dc0_001c, "ldr q28, [x0]"),
            (0xd503_39bf, "dmb ishld"),
            (0xd63f_0100, "blr x8"),
            (0xc85f_fc01, "ldaxr x1, [x0]"),
            (0xc802_fc01, "stlxr w2, x1, [x0]"),
            (0xf8e1_0002, "ldaddal x1, x2, [x0]"),
            (0xfa5c_0800, "ccmp x0, #28, #0, eq"),
        ];
        for (i, text) in good {
            assert!(is_sound(Reserved::LIFTED, i), "{text}");
        }
    }

    #[test]
    fn the_base_stays_what_it_is_and_the_links_are_not_written() {
        let bad = [
            (0xaa00_03fc, "mov x28, x0"),
            (0x9100_439c, "add x28, x28, #16"),
            (0xf840_881c, "ldtr x28, [x0, #8]"),
            (0xf940_001c, "ldr x28, [x0]"),
            (0xa940_701b, "ldp x27, x28, [x0]"),
            (0xf900_001c, "str x28, [x0]"),
            (0xf902_0380, "str x0, [x28, #1024]"),
            (0xf942_1780, "ldr x0, [x28, #1064]"),
            (0xf800_8f80, "str x0, [x28, #8]!"),
            (0xf840_8780, "ldr x0, [x28], #8"),
            (0xa9be_0780, "stp x0, x1, [x28, #-32]!"),
            (0xf85f_8380, "ldur x0, [x28, #-8]"),
            (0xf840_6f81, "ldr x1, [x28, #6]!"),
            (0xc85f_ff80, "ldaxr x0, [x28]"),
            (0xc81c_fc01, "stlxr w28, x1, [x0]"),
            (0x9e66_001c, "fmov x28, d0"),
            (0x4e08_3c1c, "mov x28, v0.d[0]"),
            (0xd61f_0380, "br x28"),
        ];
        for (i, text) in bad {
            assert!(!is_sound(Reserved::LIFTED, i), "{text}");
        }
    }

    #[test]
    fn the_kernel_and_system_registers_are_out_of_reach() {
        for (i, text) in [(0xd400_0001, "svc #0"), (0xd51b_d040, "msr tpidr_el0, x0"), (0xd53b_d040, "mrs x0, tpidr_el0"), (0xd50b_7520, "ic ivau, x0"), (0x0420_3000, "sve")] {
            assert!(!is_sound(Reserved::LIFTED, i) && !is_sound(Reserved::NONE, i), "{text}");
        }
    }

    #[test]
    fn code_of_wasi_programs_may_use_every_register() {
        for i in [0xaa00_03fc, 0xf940_001c, 0xf800_8f80, 0xf862_6b81] {
            assert!(is_sound(Reserved::NONE, i), "{i:08x}");
        }
    }
}
