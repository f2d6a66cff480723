//! xmm operands as vectors and as scalars, hiding how the register lives (`XmmClass`).

use super::{Emit, XmmClass, guest};
use crate::registers::RegSet;
use iced_x86::{Instruction, OpKind};

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

    /// Pushes operand `k` (xmm register or 16 bytes of memory) as v128. Alignment faults of aligned forms are not raised.
    pub fn vector(&mut self, i: &Instruction, k: u32) {
        if i.op_kind(k) == OpKind::Memory {
            let off = self.address(i);
            self.s().v128_load(guest(off));
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
        } else {
            self.set_xmm(Self::xmm_number(i, k));
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
}
