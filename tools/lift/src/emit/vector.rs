//! xmm operands as vectors and as scalars, hiding how the register lives (`XmmClass`).

use super::{Emit, Form, XmmClass, cpu, guest};
use crate::registers::RegSet;
use core::mem::offset_of;
use iced_x86::{Instruction, OpKind};
use syscalls::abi::{CpuState, import, offset};

const FEMPTY: u64 = offset_of!(CpuState, fempty) as u64;
const _: () = assert!(offset_of!(CpuState, ftop) as u64 == FEMPTY + 2);

/// Offset in `CpuState` of the MMX register that is operand `k`: the low half of a physical x87 register.
fn mm(i: &Instruction, k: u32) -> u64 {
    (offset_of!(CpuState, st) + 16 * i.op_register(k).number()) as u64
}

impl Emit {
    /// Number of the xmm register that is operand `k`.
    pub fn xmm_number(i: &Instruction, k: u32) -> usize {
        i.op_register(k).number()
    }

    /// Pushes an xmm register as v128. Lanes a scalar class does not keep are zero: the class says nobody reads them.
    pub fn xmm(&mut self, n: usize) {
        let local = self.xmm_local(n);
        match self.xmm_class[n] {
            XmmClass::V128 => self.get(local),
            XmmClass::F64 => {
                self.s().v128_const(0).local_get(local).f64x2_replace_lane(0);
            }
            XmmClass::F32 => {
                self.s().v128_const(0).local_get(local).f32x4_replace_lane(0);
            }
        }
    }

    /// Pops v128 into an xmm register.
    pub fn set_xmm(&mut self, n: usize) {
        let local = self.xmm_local(n);
        match self.xmm_class[n] {
            XmmClass::V128 => {}
            XmmClass::F64 => {
                self.s().f64x2_extract_lane(0);
            }
            XmmClass::F32 => {
                self.s().f32x4_extract_lane(0);
            }
        }
        self.set(local);
        self.mark_xmm(n);
    }

    fn mark_xmm(&mut self, n: usize) {
        self.valid = self.valid.or(RegSet::xmm(n));
        self.dirty = self.dirty.or(RegSet::xmm(n));
    }

    /// Pushes operand `k` (vector register or memory) as v128; an MMX register or a shorter memory operand has zeros above. Alignment faults of aligned
    /// forms are not raised.
    pub fn vector(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Memory {
            let off = self.address(i);
            match i.memory_size().size() {
                8 => self.s().v128_load64_zero(guest(off)),
                4 => self.s().v128_load32_zero(guest(off)),
                _ => self.s().v128_load(guest(off)),
            };
        } else if i.op_register(k).is_mm() {
            self.c32(0);
            self.s().v128_load64_zero(cpu(mm(i, k), 3));
        } else {
            self.xmm(Self::xmm_number(i, k));
        }
    }

    /// Pops v128 into operand `k`.
    pub fn set_vector(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Memory {
            let t = self.tv(8);
            self.set(t);
            let off = self.address(i);
            self.get(t);
            self.s().v128_store(guest(off));
        } else if i.op_register(k).is_mm() {
            let t = self.tv(8);
            self.s().local_set(t).i32_const(0).local_get(t).v128_store64_lane(cpu(mm(i, k), 3), 0);
            self.s().i32_const(0).i32_const(0xffff).i32_store16(cpu(mm(i, k) + 8, 1));
        } else {
            self.set_xmm(Self::xmm_number(i, k));
        }
    }

    /// What any MMX instruction does to the x87 state: every register valid, TOP = 0 (`fempty` and `ftop` are neighbours).
    pub fn enter_mmx(&mut self) {
        self.s().i32_const(0).i32_const(0).i32_store(cpu(FEMPTY, 1));
    }

    /// Clears the vector register that is operand 0.
    pub fn clear_destination(&mut self, i: &Instruction) {
        if i.op0_register().is_mm() {
            self.s().v128_const(0);
            self.set_vector(i, 0);
        } else {
            self.zero_xmm(Self::xmm_number(i, 0));
        }
    }

    /// Pushes operand `k` as f64 (low lane of a register, or 8 bytes of memory).
    pub fn f64(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Memory {
            let off = self.address(i);
            self.s().f64_load(guest(off));
            return;
        }
        let n = Self::xmm_number(i, k);
        let local = self.xmm_local(n);
        self.get(local);
        match self.xmm_class[n] {
            XmmClass::F64 => {}
            XmmClass::V128 => {
                self.s().f64x2_extract_lane(0);
            }
            XmmClass::F32 => unreachable!("f64 access to an f32-class register"),
        }
    }

    /// Pops f64 into the low lane of an xmm register; the upper lane stays.
    pub fn set_f64(&mut self, n: usize) {
        let local = self.xmm_local(n);
        if self.xmm_class[n] == XmmClass::V128 {
            let t = self.tf64(8);
            self.s().local_set(t).local_get(local).local_get(t).f64x2_replace_lane(0);
        }
        self.set(local);
        self.mark_xmm(n);
    }

    /// Pops f64 into the low lane and clears the upper one (loads from memory).
    pub fn set_f64_zero(&mut self, n: usize) {
        let local = self.xmm_local(n);
        if self.xmm_class[n] == XmmClass::V128 {
            let t = self.tf64(8);
            self.s().local_set(t).v128_const(0).local_get(t).f64x2_replace_lane(0);
        }
        self.set(local);
        self.mark_xmm(n);
    }

    /// Pushes operand `k` as f32.
    pub fn f32(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Memory {
            let off = self.address(i);
            self.s().f32_load(guest(off));
            return;
        }
        let n = Self::xmm_number(i, k);
        let local = self.xmm_local(n);
        self.get(local);
        match self.xmm_class[n] {
            XmmClass::F32 => {}
            XmmClass::V128 => {
                self.s().f32x4_extract_lane(0);
            }
            XmmClass::F64 => unreachable!("f32 access to an f64-class register"),
        }
    }

    /// Pops f32 into lane 0; the others stay.
    pub fn set_f32(&mut self, n: usize) {
        let local = self.xmm_local(n);
        if self.xmm_class[n] == XmmClass::V128 {
            let t = self.tf32(8);
            self.s().local_set(t).local_get(local).local_get(t).f32x4_replace_lane(0);
        }
        self.set(local);
        self.mark_xmm(n);
    }

    /// Pops f32 into lane 0 and clears the others.
    pub fn set_f32_zero(&mut self, n: usize) {
        let local = self.xmm_local(n);
        if self.xmm_class[n] == XmmClass::V128 {
            let t = self.tf32(8);
            self.s().local_set(t).v128_const(0).local_get(t).f32x4_replace_lane(0);
        }
        self.set(local);
        self.mark_xmm(n);
    }

    /// The same class on both sides: copies a register whatever its class; else through v128.
    pub fn copy_xmm(&mut self, to: usize, from: usize) {
        if self.xmm_class[to] != self.xmm_class[from] {
            self.xmm(from);
            return self.set_xmm(to);
        }
        let (from, local) = (self.xmm_local(from), self.xmm_local(to));
        self.get(from);
        self.set(local);
        self.mark_xmm(to);
    }

    /// Clears a register.
    pub fn zero_xmm(&mut self, n: usize) {
        let local = self.xmm_local(n);
        match self.xmm_class[n] {
            XmmClass::V128 => self.s().v128_const(0),
            XmmClass::F64 => self.s().f64_const(0.0.into()),
            XmmClass::F32 => self.s().f32_const(0.0.into()),
        };
        self.set(local);
        self.mark_xmm(n);
    }

    /// The class in which a lane-independent operation on these operands runs (all xmm operands have the same one, or are vectors).
    pub fn common_class(&self, i: &Instruction) -> XmmClass {
        if i.op0_register().is_mm() {
            return XmmClass::V128;
        }
        self.xmm_class[Self::xmm_number(i, 0)]
    }

    /// Pushes operand `k` as v128 whose low `bytes` (2, 4, 8) are the operand: a register as it is, memory zero-extended.
    pub fn low(&mut self, i: &Instruction, k: u32, bytes: u32) {
        if i.op_kind(k) != OpKind::Memory {
            return self.vector(i, k);
        }
        let off = self.address(i);
        match bytes {
            8 => self.s().v128_load64_zero(guest(off)),
            4 => self.s().v128_load32_zero(guest(off)),
            _ => self.s().i32_load16_u(guest(off)).i32x4_splat(),
        };
    }

    /// Pushes the low 64 bits of a register as i64.
    pub fn xmm_i64(&mut self, n: usize) {
        let local = self.xmm_local(n);
        self.get(local);
        match self.xmm_class[n] {
            XmmClass::V128 => self.s().i64x2_extract_lane(0),
            XmmClass::F64 => self.s().i64_reinterpret_f64(),
            XmmClass::F32 => self.s().i32_reinterpret_f32().i64_extend_i32_u(),
        };
    }

    /// Pushes the low 32 bits of a register as i32.
    pub fn xmm_i32(&mut self, n: usize) {
        let local = self.xmm_local(n);
        self.get(local);
        match self.xmm_class[n] {
            XmmClass::V128 => self.s().i32x4_extract_lane(0),
            XmmClass::F64 => self.s().i64_reinterpret_f64().i32_wrap_i64(),
            XmmClass::F32 => self.s().i32_reinterpret_f32(),
        };
    }

    /// Pops i64 into the low half of a register and clears the upper one.
    pub fn set_xmm_i64_zero(&mut self, n: usize) {
        match self.xmm_class[n] {
            XmmClass::V128 => {
                let t = self.t64(8);
                self.s().local_set(t).v128_const(0).local_get(t).i64x2_replace_lane(0);
            }
            XmmClass::F64 => {
                self.s().f64_reinterpret_i64();
            }
            XmmClass::F32 => {
                self.s().i32_wrap_i64().f32_reinterpret_i32();
            }
        }
        let local = self.xmm_local(n);
        self.set(local);
        self.mark_xmm(n);
    }

    /// Pops i32 into lane 0 of a register and clears the others.
    pub fn set_xmm_i32_zero(&mut self, n: usize) {
        match self.xmm_class[n] {
            XmmClass::V128 => {
                let t = self.t32(8);
                self.s().local_set(t).v128_const(0).local_get(t).i32x4_replace_lane(0);
            }
            XmmClass::F64 => {
                self.s().i64_extend_i32_u().f64_reinterpret_i64();
            }
            XmmClass::F32 => {
                self.s().f32_reinterpret_i32();
            }
        }
        let local = self.xmm_local(n);
        self.set(local);
        self.mark_xmm(n);
    }

    /// Pops v128 into `CpuState.scratch[k]` (operands of helpers).
    pub fn set_scratch(&mut self, k: usize) {
        let t = self.tv(8);
        self.set(t);
        self.c32(0);
        self.get(t);
        self.s().v128_store(cpu(offset::scratch(k), 4));
    }

    /// Pushes `CpuState.scratch[k]`.
    pub fn scratch(&mut self, k: usize) {
        self.c32(0);
        self.s().v128_load(cpu(offset::scratch(k), 4));
    }

    /// Pushes the flat guest address of the memory operand as zero-extended i64 (for helpers).
    pub fn address_for_helper(&mut self, i: &Instruction) {
        let off = self.address(i);
        if off > 0 {
            self.c32(off as i32);
            self.s().i32_add();
        }
        self.s().i64_extend_i32_u();
    }

    /// Runs one instruction of `syscalls::abi::float` on the two i64 that `operands` pushes; leaves the i64 result. It is no host function to the driver: what it changes is flags of MXCSR, and raising them again
    /// changes nothing.
    pub fn float(&mut self, operation: u32, operands: impl FnOnce(&mut Self)) {
        self.c32(operation as i32);
        operands(self);
        self.s().call(import::HELPER_INDEX);
    }

    /// An integer on the stack (i64 if `wide`) that the resumable form's compiler does not know, even if it is a constant: Cranelift looks through locals and stores, not through atomic loads.
    pub fn opaque(&mut self, wide: bool) {
        if self.form == Form::Structured {
            return;
        }
        let place = cpu(offset::scratch(3), if wide { 3 } else { 2 });
        let value = if wide { self.t64(8) } else { self.t32(8) };
        self.set(value);
        self.s().i32_const(0).local_get(value);
        if wide {
            self.s().i64_store(place).i32_const(0).i64_atomic_load(place);
        } else {
            self.s().i32_store(place).i32_const(0).i32_atomic_load(place);
        }
    }

    /// Rearranges the bytes of the two v128 on the stack.
    pub fn shuffle(&mut self, lanes: [u8; 16]) {
        self.s().i8x16_shuffle(lanes);
    }
}

impl Emit {
    /// Pops i32 into general register operand `k`, 32 or 64 bits wide, zero-extended.
    pub fn set_general(&mut self, i: &Instruction, k: u32) {
        let reg = i.op_register(k);
        if reg.size() == 8 {
            self.s().i64_extend_i32_u();
        }
        self.write(reg);
    }

    /// Pops an i32 and a zero base: the x87 tag bits (`CpuState.fempty`).
    pub fn store_x87_empty(&mut self) {
        self.s().i32_store16(cpu(FEMPTY, 1));
    }
}
