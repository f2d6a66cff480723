//! Lazy flags: the operands of the last flag-setting instruction are kept, a condition is built where it is consumed.
//!
//! Rows choose a `Lazy` kind after putting operands into the flag locals (`flag_operands`), or compute single flags with `set_flag` and say `Lazy::Locals`.

use super::{Alu, Emit, Local, Width};
use crate::function::is_breakpoint;
use iced_x86::{ConditionCode, Instruction, RflagsBits};
use syscalls::abi::offset;
use wasm_encoder::ValType;

/// One arithmetic flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    Cf,
    Pf,
    Af,
    Zf,
    Sf,
    Of,
}

impl Flag {
    pub const ALL: [Flag; 6] = [Flag::Cf, Flag::Pf, Flag::Af, Flag::Zf, Flag::Sf, Flag::Of];

    fn state_offset(self) -> u64 {
        match self {
            Flag::Cf => offset::CF,
            Flag::Pf => offset::PF,
            Flag::Af => offset::AF,
            Flag::Zf => offset::ZF,
            Flag::Sf => offset::SF,
            Flag::Of => offset::OF,
        }
    }
    fn bit(self) -> u32 {
        match self {
            Flag::Cf => RflagsBits::CF,
            Flag::Pf => RflagsBits::PF,
            Flag::Af => RflagsBits::AF,
            Flag::Zf => RflagsBits::ZF,
            Flag::Sf => RflagsBits::SF,
            Flag::Of => RflagsBits::OF,
        }
    }
}

/// A set of arithmetic flags (iced's `RflagsBits`, the six arithmetic ones only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Flags = Flags(0);
    pub const ALL: Flags = Flags(RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF);

    pub fn has(self, f: Flag) -> bool {
        self.0 & f.bit() != 0
    }
    pub fn any(self) -> bool {
        self.0 != 0
    }
    pub fn or(self, o: Flags) -> Flags {
        Flags(self.0 | o.0)
    }
    pub fn without(self, o: Flags) -> Flags {
        Flags(self.0 & !o.0)
    }
    /// Flags the instruction reads: a breakpoint shows all to a handler.
    pub fn read_by(i: &Instruction) -> Flags {
        if is_breakpoint(i) { Flags::ALL } else { Flags(i.rflags_read() & Self::ALL.0) }
    }
    /// Flags the instruction leaves with a new (or undefined) value, whatever its operands: shifts by a variable count may leave them alone and do not count.
    pub fn killed_by(i: &Instruction) -> Flags {
        use iced_x86::{Mnemonic::*, OpKind};
        let variable_count = matches!(i.mnemonic(), Shl | Shr | Sar | Sal | Rol | Ror | Rcl | Rcr | Shld | Shrd) && i.op_kind(i.op_count() - 1) == OpKind::Register
            || i.has_rep_prefix()
            || i.has_repne_prefix();
        // The kernel gives back the flags it was given, whatever the instruction itself does to them.
        let kept = variable_count || i.mnemonic() == Syscall || is_breakpoint(i);
        if kept { Flags::NONE } else { Flags(i.rflags_modified() & Self::ALL.0).without(Self::left_by(i)) }
    }
    /// Flags the manual calls undefined after `i`, and every processor leaves as they were.
    pub fn left_by(i: &Instruction) -> Flags {
        use iced_x86::Mnemonic::*;
        if matches!(i.mnemonic(), Bt | Bts | Btr | Btc) { Flags(i.rflags_undefined() & Self::ALL.0) } else { Flags::NONE }
    }
    /// Backward step: flags live before `i` when `live` are live after it. Calls preserve none (SysV).
    pub fn before(i: &Instruction, live: Flags) -> Flags {
        if i.is_call_near() || i.is_call_near_indirect() {
            return Flags::NONE;
        }
        live.without(Self::killed_by(i)).or(Self::read_by(i)).or(Self::kept_by(i, live))
    }
    /// A conditional flag writer needs the old values of the live flags it may leave.
    fn kept_by(i: &Instruction, live: Flags) -> Flags {
        if Self::killed_by(i) == Flags::NONE { live } else { Flags::NONE }
    }
}

/// Where the flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lazy {
    /// In `CpuState`.
    State,
    /// In the flag locals.
    Locals,
    /// a - b of width w: operands a, b (zero-extended) in the flag operand locals.
    Sub(Width),
    /// a + b = r: a and r in the flag operand locals.
    Add(Width),
    /// Logic: r; CF = OF = 0.
    Logic(Width),
    /// ZF, SF, PF from r; CF, OF, AF in the flag locals.
    Result(Width),
    /// comisd and friends: the operands in the floating-point flag operand locals; OF = SF = AF = 0.
    Compare(Precision),
}

/// Format of the operands of a pending floating-point comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Double,
    Single,
}

/// Index of a flag operand local.
const A: u8 = 0;
const B: u8 = 1;
const R: u8 = 2;

impl Emit {
    fn flag_operand(&mut self, w: Width, k: u8) -> u32 {
        if w.is_64() { self.local(Local::FlagOperand64(k), ValType::I64) } else { self.local(Local::FlagOperand32(k), ValType::I32) }
    }
    /// Local for a (first operand), b (second), r (result) of width class `w`. Values must be zero-extended to their width.
    pub fn flag_a(&mut self, w: Width) -> u32 {
        self.flag_operand(w, A)
    }
    pub fn flag_b(&mut self, w: Width) -> u32 {
        self.flag_operand(w, B)
    }
    pub fn flag_r(&mut self, w: Width) -> u32 {
        self.flag_operand(w, R)
    }
    pub fn flag_local(&mut self, f: Flag) -> u32 {
        self.local(Local::Flag(f), ValType::I32)
    }
    /// Pops i32 0/1 into a flag local. The row must finally set `lazy` to `Locals` or `Result`.
    pub fn set_flag(&mut self, f: Flag) {
        let l = self.flag_local(f);
        self.set(l);
    }
    /// The helper wrote flags to `CpuState`.
    pub fn flags_in_state(&mut self) {
        self.lazy = Lazy::State;
    }

    /// Pushes a - b of the pending subtraction, zero-extended.
    fn difference(&mut self, w: Width) {
        let (a, b) = (self.flag_a(w), self.flag_b(w));
        self.get(a);
        self.get(b);
        self.alu(w, Alu::Sub);
        self.zero_extend(w);
    }

    /// Pushes the value whose ZF/SF/PF are asked for.
    fn result(&mut self, w: Width) {
        if matches!(self.lazy, Lazy::Sub(_)) {
            self.difference(w);
        } else {
            let r = self.flag_r(w);
            self.get(r);
        }
    }

    /// Pops a value, pushes i32 1 if it is negative at width `w`.
    pub fn is_negative(&mut self, w: Width) {
        self.sign_extend(w);
        self.constant(w.max(Width::W32), 0);
        self.alu(w, Alu::LtS);
    }

    /// Pops a value, pushes PF.
    pub fn parity(&mut self, w: Width) {
        self.narrow_value(w);
        self.s().i32_const(0xff).i32_and().i32_popcnt().i32_const(1).i32_and().i32_const(1).i32_xor();
    }

    fn narrow_value(&mut self, w: Width) {
        if w.is_64() {
            self.s().i32_wrap_i64();
        }
    }

    /// Pushes one flag as i32 0/1.
    pub fn flag(&mut self, f: Flag) {
        match self.lazy {
            Lazy::State => self.cpu_load32(f.state_offset()),
            Lazy::Locals => {
                let l = self.flag_local(f);
                self.get(l);
            }
            Lazy::Sub(w) | Lazy::Add(w) | Lazy::Logic(w) | Lazy::Result(w) => self.lazy_flag(f, w),
            Lazy::Compare(p) => self.compared_flag(f, p),
        }
    }

    fn lazy_flag(&mut self, f: Flag, w: Width) {
        match f {
            Flag::Zf => {
                self.result(w);
                self.eqz(w);
            }
            Flag::Sf => {
                self.result(w);
                self.is_negative(w);
            }
            Flag::Pf => {
                self.result(w);
                self.parity(w);
            }
            _ if matches!(self.lazy, Lazy::Logic(_)) => self.c32(0),
            _ if matches!(self.lazy, Lazy::Result(_)) => {
                let l = self.flag_local(f);
                self.get(l);
            }
            Flag::Cf => {
                // Sub: a < b; Add: r < a.
                let (x, y) = if matches!(self.lazy, Lazy::Sub(_)) { (self.flag_a(w), self.flag_b(w)) } else { (self.flag_r(w), self.flag_a(w)) };
                self.get(x);
                self.get(y);
                self.alu(w, Alu::LtU);
            }
            Flag::Of => self.overflow(w),
            Flag::Af => {
                self.third_operand(w);
                let a = self.flag_a(w);
                self.get(a);
                self.alu(w, Alu::Xor);
                self.result(w);
                self.alu(w, Alu::Xor);
                self.narrow_value(w);
                self.s().i32_const(4).i32_shr_u().i32_const(1).i32_and();
            }
        }
    }

    /// Pushes b: kept for Sub, r - a for Add.
    fn third_operand(&mut self, w: Width) {
        if matches!(self.lazy, Lazy::Sub(_)) {
            let b = self.flag_b(w);
            self.get(b);
        } else {
            let (a, r) = (self.flag_a(w), self.flag_r(w));
            self.get(r);
            self.get(a);
            self.alu(w, Alu::Sub);
        }
    }

    /// OF. Sub: (a ^ b) & (a ^ (a - b)); Add: (a ^ r) & (b ^ r).
    fn overflow(&mut self, w: Width) {
        let a = self.flag_a(w);
        let sub = matches!(self.lazy, Lazy::Sub(_));
        self.get(a);
        if sub {
            self.third_operand(w);
        } else {
            self.result(w);
        }
        self.alu(w, Alu::Xor);
        if sub {
            self.get(a);
        } else {
            self.third_operand(w);
        }
        self.result(w);
        self.alu(w, Alu::Xor);
        self.alu(w, Alu::And);
        self.is_negative(w);
    }

    /// Puts the given flags into the flag locals; `lazy` becomes `Locals`.
    pub fn flags_to_locals(&mut self, flags: Flags) {
        if self.lazy == Lazy::Locals {
            return;
        }
        for f in Flag::ALL {
            let in_place = matches!(self.lazy, Lazy::Result(_)) && matches!(f, Flag::Cf | Flag::Of | Flag::Af);
            if flags.has(f) && !in_place {
                self.flag(f);
                self.set_flag(f);
            }
        }
        self.lazy = Lazy::Locals;
    }

    /// Puts the given flags into `CpuState` (`lazy` unchanged).
    pub fn flags_to_state(&mut self, flags: Flags) {
        if self.lazy == Lazy::State {
            return;
        }
        for f in Flag::ALL {
            if flags.has(f) {
                self.cpu_store32(f.state_offset(), |e| e.flag(f));
            }
        }
    }

    /// Pushes i32 0/1: does the condition hold?
    pub fn condition(&mut self, cc: ConditionCode) {
        let fused = match self.lazy {
            Lazy::Sub(w) => self.compare(cc, w),
            Lazy::Logic(w) => self.compare_zero(cc, w),
            Lazy::Compare(p) => self.compare_floats(cc, p),
            _ => false,
        };
        if fused {
            return;
        }
        use ConditionCode as C;
        let (positive, negate) = match cc {
            C::ne => (C::e, true),
            C::ae => (C::b, true),
            C::a => (C::be, true),
            C::ge => (C::l, true),
            C::g => (C::le, true),
            C::ns => (C::s, true),
            C::no => (C::o, true),
            C::np => (C::p, true),
            c => (c, false),
        };
        match positive {
            C::e => self.flag(Flag::Zf),
            C::b => self.flag(Flag::Cf),
            C::s => self.flag(Flag::Sf),
            C::o => self.flag(Flag::Of),
            C::p => self.flag(Flag::Pf),
            C::be => {
                self.flag(Flag::Cf);
                self.flag(Flag::Zf);
                self.s().i32_or();
            }
            C::l => self.less(),
            C::le => {
                self.less();
                self.flag(Flag::Zf);
                self.s().i32_or();
            }
            _ => unreachable!("condition code of an unconditional instruction"),
        }
        if negate {
            self.s().i32_eqz();
        }
    }

    fn less(&mut self) {
        self.flag(Flag::Sf);
        self.flag(Flag::Of);
        self.s().i32_xor();
    }

    /// A comparison directly on the operands of a pending subtraction.
    fn compare(&mut self, cc: ConditionCode, w: Width) -> bool {
        use ConditionCode as C;
        let (op, signed) = match cc {
            C::e => (Alu::Eq, false),
            C::ne => (Alu::Ne, false),
            C::b => (Alu::LtU, false),
            C::ae => (Alu::GeU, false),
            C::be => (Alu::LeU, false),
            C::a => (Alu::GtU, false),
            C::l => (Alu::LtS, true),
            C::ge => (Alu::GeS, true),
            C::le => (Alu::LeS, true),
            C::g => (Alu::GtS, true),
            _ => return false,
        };
        for local in [self.flag_a(w), self.flag_b(w)] {
            self.get(local);
            if signed {
                self.sign_extend(w);
            }
        }
        self.alu(w, op);
        true
    }

    /// A comparison of a logic result with zero.
    fn compare_zero(&mut self, cc: ConditionCode, w: Width) -> bool {
        use ConditionCode as C;
        let op = match cc {
            C::e | C::be => Alu::Eq,
            C::ne | C::a => Alu::Ne,
            C::l | C::s => Alu::LtS,
            C::ge | C::ns => Alu::GeS,
            C::le => Alu::LeS,
            C::g => Alu::GtS,
            _ => return false,
        };
        let r = self.flag_r(w);
        self.get(r);
        self.sign_extend(w);
        self.constant(w.max(Width::W32), 0);
        self.alu(w, op);
        true
    }

    /// Locals for the operands of a floating-point comparison.
    pub fn float_flag_operands(&mut self, p: Precision) -> (u32, u32) {
        match p {
            Precision::Double => (self.local(Local::FlagOperandF64(A), ValType::F64), self.local(Local::FlagOperandF64(B), ValType::F64)),
            Precision::Single => (self.local(Local::FlagOperandF32(A), ValType::F32), self.local(Local::FlagOperandF32(B), ValType::F32)),
        }
    }

    /// Pushes one flag of a floating-point comparison: unordered 111, greater 000, less 001, equal 100 (ZF PF CF).
    fn compared_flag(&mut self, f: Flag, p: Precision) {
        let cc = match f {
            Flag::Cf => ConditionCode::b,
            Flag::Zf => ConditionCode::e,
            Flag::Pf => ConditionCode::p,
            _ => return self.c32(0),
        };
        self.compare_floats(cc, p);
    }

    /// A condition directly on the operands; an unordered pair makes b, be, e and p true.
    fn compare_floats(&mut self, cc: ConditionCode, p: Precision) -> bool {
        use ConditionCode as C;
        let (a, b) = self.float_flag_operands(p);
        let double = p == Precision::Double;
        let mut s = self.s();
        s.local_get(a).local_get(b);
        match cc {
            C::a | C::be if double => s.f64_gt(),
            C::a | C::be => s.f32_gt(),
            C::ae | C::b if double => s.f64_ge(),
            C::ae | C::b => s.f32_ge(),
            C::e | C::ne if double => s.f64_lt().local_get(a).local_get(b).f64_gt().i32_or(),
            C::e | C::ne => s.f32_lt().local_get(a).local_get(b).f32_gt().i32_or(),
            C::p | C::np if double => s.drop().local_get(a).f64_eq().local_get(b).local_get(b).f64_eq().i32_and(),
            C::p | C::np => s.drop().local_get(a).f32_eq().local_get(b).local_get(b).f32_eq().i32_and(),
            // Signed conditions see SF = OF = 0: nobody uses them after a floating-point comparison.
            _ => {
                s.drop().drop();
                return false;
            }
        };
        if matches!(cc, C::be | C::b | C::e | C::p) {
            s.i32_eqz();
        }
        true
    }
}
