//! The state both sides start from and end in.

use super::{Options, Random};
use iced_x86::RflagsBits;
use std::fmt::Write;
use syscalls::abi::StopKind;

/// Guest addresses of the data both sides may touch; rsp starts within.
pub const DATA: u64 = 0x20_0000;
pub const DATA_LEN: usize = 0x4000;

/// Registers, flags, memory, and how the run ended.
#[derive(Clone)]
pub struct State {
    pub gpr: [u64; 16],
    /// The arithmetic flags and DF, as iced's `RflagsBits` (not the places they have in RFLAGS).
    pub flags: u32,
    pub xmm: [[u64; 2]; 16],
    pub mxcsr: u32,
    pub x87: X87,
    pub memory: Vec<u8>,
    pub stop: StopKind,
}

/// The x87 state as fxsave keeps it: `st[k]` is ST(k), `tags` has one bit per *physical* register, 1 = in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct X87 {
    pub control: u16,
    /// With TOP in bits 11..13.
    pub status: u16,
    pub tags: u8,
    pub st: [[u8; 16]; 8],
}

impl X87 {
    pub const EMPTY: X87 = X87 { control: 0x37f, status: 0, tags: 0, st: [[0; 16]; 8] };

    pub fn top(&self) -> u16 {
        self.status >> 11 & 7
    }
}

impl State {
    pub fn random(r: &mut Random) -> State {
        let mut gpr = [0; 16];
        gpr.iter_mut().for_each(|g| *g = r.value());
        gpr[4] = DATA + 0x3000;
        let flags = r.next() as u32 & super::COMPARED_FLAGS & !RflagsBits::DF;
        let mut xmm = [[0; 2]; 16];
        xmm.iter_mut().flatten().for_each(|x| *x = r.value());
        let memory = (0..DATA_LEN / 8).flat_map(|_| r.value().to_le_bytes()).collect();
        State { gpr, flags, xmm, mxcsr: 0x1f80, x87: X87::EMPTY, memory, stop: StopKind::None }
    }

    /// The memory at a guest address, for hooks.
    pub fn at(&mut self, address: u64, len: usize) -> &mut [u8] {
        let from = (address - DATA) as usize;
        &mut self.memory[from..from + len]
    }

    /// Says what differs, one line each: self (native), then other (lifted).
    pub fn difference(&self, other: &State, flags: u32, options: &Options<'_>) -> Option<String> {
        const NAMES: [&str; 16] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
        let mut s = String::new();
        let mut say = |name: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| writeln!(s, "  {name}: {a:x?} {b:x?}").expect("a String takes all");
        if self.stop != other.stop {
            say("stop", &self.stop, &other.stop);
        }
        for (k, name) in NAMES.iter().enumerate() {
            if self.gpr[k] != other.gpr[k] {
                say(name, &self.gpr[k], &other.gpr[k]);
            }
            if self.xmm[k] != other.xmm[k] {
                say(&format!("xmm{k}"), &self.xmm[k], &other.xmm[k]);
            }
        }
        if (self.flags ^ other.flags) & flags != 0 {
            say("flags", &flag_names(self.flags & flags), &flag_names(other.flags & flags));
        }
        if options.mxcsr && self.mxcsr != other.mxcsr {
            say("mxcsr", &self.mxcsr, &other.mxcsr);
        }
        if options.x87 && self.x87 != other.x87 {
            say("x87", &self.x87, &other.x87);
        }
        if let Some(k) = (0..DATA_LEN).find(|k| self.memory[*k] != other.memory[*k]) {
            let to = (k + 16).min(DATA_LEN);
            say(&format!("memory at {:#x}", DATA + k as u64), &&self.memory[k..to], &&other.memory[k..to]);
        }
        (!s.is_empty()).then_some(s)
    }
}

fn flag_names(flags: u32) -> String {
    let all =
        [(RflagsBits::CF, "cf"), (RflagsBits::PF, "pf"), (RflagsBits::AF, "af"), (RflagsBits::ZF, "zf"), (RflagsBits::SF, "sf"), (RflagsBits::OF, "of"), (RflagsBits::DF, "df")];
    all.iter().filter(|(b, _)| flags & b != 0).map(|(_, n)| *n).collect::<Vec<_>>().join(" ")
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gpr {:x?} flags [{}] xmm {:x?} mxcsr {:x}", self.gpr, flag_names(self.flags), self.xmm, self.mxcsr)
    }
}
