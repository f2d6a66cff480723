//! Instruction operands by width: reading, writing, read-modify-write, and width-generic arithmetic.

use super::Emit;
use iced_x86::{Instruction, OpKind};

/// Operand width of integer instructions. Values narrower than 64 bits are i32 on the WASM stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    W8,
    W16,
    W32,
    W64,
}

impl Width {
    pub fn from_bytes(n: usize) -> Self {
        match n {
            1 => Width::W8,
            2 => Width::W16,
            4 => Width::W32,
            8 => Width::W64,
            _ => unreachable!("integer operand of {n} bytes"),
        }
    }
    pub fn bytes(self) -> u32 {
        self.bits() / 8
    }
    pub fn bits(self) -> u32 {
        match self {
            Width::W8 => 8,
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        }
    }
    pub fn is_64(self) -> bool {
        self == Width::W64
    }
    /// All ones of this width, zero-extended.
    pub fn mask(self) -> i64 {
        if self.is_64() { -1 } else { (1_i64 << self.bits()) - 1 }
    }
}

/// Width-generic two-operand operations (i64 or i32 instruction by width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Add,
    Sub,
    Mul,
    And,
    Or,
    Xor,
    Shl,
    ShrU,
    ShrS,
    Rotl,
    Rotr,
    Eq,
    Ne,
    LtU,
    LtS,
    GeU,
    GeS,
    LeU,
    LeS,
    GtU,
    GtS,
}

impl Emit {
    /// Width of operand `k` (immediates take operand 0's).
    pub fn width(&self, i: &Instruction, k: u32) -> Width {
        match i.op_kind(k) {
            OpKind::Register => Width::from_bytes(i.op_register(k).size()),
            OpKind::Memory => Width::from_bytes(i.memory_size().size()),
            _ if k == 0 => Width::W64,
            _ => self.width(i, 0),
        }
    }

    /// Pushes operand `k`: register, memory or immediate (immediates at operand 0's width, sign-extended by the decoder, masked for narrow widths).
    pub fn operand(&mut self, i: &Instruction, k: u32) {
        match i.op_kind(k) {
            OpKind::Register => self.read(i.op_register(k)),
            OpKind::Memory => {
                let w = self.width(i, k);
                let off = self.address(i);
                self.load(w, off);
            }
            _ => {
                let w = self.width(i, 0);
                self.constant(w, i.immediate(k) as i64);
            }
        }
    }

    /// Pops into operand `k`.
    pub fn set_operand(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Register {
            return self.write(i.op_register(k));
        }
        let w = self.width(i, k);
        let t = self.wide_temp(w, 9);
        self.set(t);
        let off = self.address(i);
        self.get(t);
        self.store(w, off);
    }

    /// Reads operand 0, lets `f` turn it into the new value (both on the WASM stack), writes it back. A memory address is computed once.
    /// Narrow values may leave `f` with garbage above their width.
    pub fn modify(&mut self, i: &Instruction, f: impl FnOnce(&mut Self)) {
        if i.op0_kind() == OpKind::Register {
            self.read(i.op0_register());
            f(self);
            return self.write(i.op0_register());
        }
        let w = self.width(i, 0);
        let a = self.t32(10);
        let off = self.address(i);
        self.tee(a);
        self.load(w, off);
        f(self);
        let t = self.wide_temp(w, 9);
        self.set(t);
        self.get(a);
        self.get(t);
        self.store(w, off);
    }

    /// Scratch local of the WASM type of `w`.
    pub fn wide_temp(&mut self, w: Width, k: u8) -> u32 {
        if w.is_64() { self.t64(k) } else { self.t32(k) }
    }

    /// Pushes a constant at width `w` (masked for narrow widths).
    pub fn constant(&mut self, w: Width, v: i64) {
        match w {
            Width::W64 => self.c64(v),
            Width::W32 => self.c32(v as i32),
            _ => self.c32((v & w.mask()) as i32),
        }
    }

    /// Clears the bits above a narrow width.
    pub fn zero_extend(&mut self, w: Width) {
        if w < Width::W32 {
            self.c32(w.mask() as i32);
            self.s().i32_and();
        }
    }

    /// Sign-extends a narrow value within its i32.
    pub fn sign_extend(&mut self, w: Width) {
        match w {
            Width::W8 => {
                self.s().i32_extend8_s();
            }
            Width::W16 => {
                self.s().i32_extend16_s();
            }
            _ => {}
        }
    }

    /// A two-operand operation on the two values on the stack. Narrow widths compute in i32: the caller masks or sign-extends operands where it matters.
    pub fn alu(&mut self, w: Width, op: Alu) {
        let wide = w.is_64();
        let mut s = self.s();
        macro_rules! pick {
            ($($op:ident $wide:ident $narrow:ident;)*) => { match op { $(Alu::$op => if wide { s.$wide() } else { s.$narrow() },)* } };
        }
        pick! {
            Add i64_add i32_add; Sub i64_sub i32_sub; Mul i64_mul i32_mul; And i64_and i32_and; Or i64_or i32_or; Xor i64_xor i32_xor;
            Shl i64_shl i32_shl; ShrU i64_shr_u i32_shr_u; ShrS i64_shr_s i32_shr_s; Rotl i64_rotl i32_rotl; Rotr i64_rotr i32_rotr;
            Eq i64_eq i32_eq; Ne i64_ne i32_ne; LtU i64_lt_u i32_lt_u; LtS i64_lt_s i32_lt_s; GeU i64_ge_u i32_ge_u; GeS i64_ge_s i32_ge_s;
            LeU i64_le_u i32_le_u; LeS i64_le_s i32_le_s; GtU i64_gt_u i32_gt_u; GtS i64_gt_s i32_gt_s;
        };
    }

    /// Tests for zero: pops a value of `w`, pushes i32.
    pub fn eqz(&mut self, w: Width) {
        if w.is_64() {
            self.s().i64_eqz();
        } else {
            self.s().i32_eqz();
        }
    }

    /// Stack type of `w` → i32 (the low half), and an i32 → stack type of `w`, zero-extended.
    pub fn to_i32(&mut self, w: Width) {
        if w.is_64() {
            self.s().i32_wrap_i64();
        }
    }
    pub fn from_i32(&mut self, w: Width) {
        if w.is_64() {
            self.s().i64_extend_i32_u();
        }
    }

    /// i64 ↔ stack type of `w`.
    pub fn narrow(&mut self, w: Width) {
        if !w.is_64() {
            self.s().i32_wrap_i64();
        }
    }
    pub fn widen(&mut self, w: Width) {
        if !w.is_64() {
            self.s().i64_extend_i32_u();
        }
    }
}
