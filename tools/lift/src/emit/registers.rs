//! Registers as locals: validity, dirtiness, and moving them to and from `CpuState`.

use super::{Emit, Form, Local, XmmClass, cpu};
use crate::analyse::classes::Upper;
use crate::registers::RegSet;
use iced_x86::Register;
use syscalls::abi::{import, offset, structured};
use wasm_encoder::ValType;

/// rsp's number.
pub(super) use syscalls::abi::structured::RSP;

impl Emit {
    /// The local of a general register: the parameter, if it is one of structured functions (but rsp, whose parameter stays as it was at entry).
    pub(super) fn gpr_local(&mut self, n: usize) -> u32 {
        match structured::parameter(n) {
            Some(parameter) if self.form == Form::Structured && n != RSP => parameter as u32,
            _ => self.local(Local::Gpr(n as u8), ValType::I64),
        }
    }

    pub(super) fn xmm_local(&mut self, n: usize) -> u32 {
        match self.xmm_class[n] {
            XmmClass::V128 => self.local(Local::Xmm(n as u8), ValType::V128),
            XmmClass::F64 => self.local(Local::XmmF64(n as u8), ValType::F64),
            XmmClass::F32 => self.local(Local::XmmF32(n as u8), ValType::F32),
        }
    }

    /// CpuState → local, without bookkeeping.
    pub(super) fn load_register(&mut self, bit: usize) {
        if bit < 16 {
            let local = self.gpr_local(bit);
            self.cpu_load64(offset::gpr(bit));
            self.set(local);
            return;
        }
        let n = bit - 16;
        let local = self.xmm_local(n);
        self.c32(0);
        match self.xmm_class[n] {
            XmmClass::V128 => self.s().v128_load(cpu(offset::xmm(n), 4)),
            XmmClass::F64 => self.s().f64_load(cpu(offset::xmm(n), 3)),
            XmmClass::F32 => self.s().f32_load(cpu(offset::xmm(n), 2)),
        };
        self.set(local);
    }

    /// Local → CpuState, without bookkeeping. A scalar-class register whose upper lanes are not known to be zero leaves those in `CpuState` alone.
    pub(super) fn store_register(&mut self, bit: usize) {
        if bit < 16 {
            if bit == RSP && self.stack.is_some() {
                return self.flush_rsp();
            }
            let local = self.gpr_local(bit);
            return self.cpu_store64(offset::gpr(bit), |e| e.get(local));
        }
        let n = bit - 16;
        let local = self.xmm_local(n);
        self.c32(0);
        if self.xmm_class[n] == XmmClass::V128 || self.uppers[n] == Upper::Zero {
            self.xmm(n);
            self.s().v128_store(cpu(offset::xmm(n), 4));
            return;
        }
        self.get(local);
        if self.xmm_class[n] == XmmClass::F64 {
            self.s().f64_store(cpu(offset::xmm(n), 3));
        } else {
            self.s().f32_store(cpu(offset::xmm(n), 2));
        }
    }

    /// Makes registers valid in their locals.
    pub fn ensure(&mut self, regs: RegSet) {
        for bit in regs.minus(self.valid).iter() {
            if bit == RSP && self.stack.is_some() {
                continue;
            }
            self.load_register(bit);
        }
        self.valid = self.valid.or(regs);
    }

    /// Puts zero, which says nothing, into the locals of registers that mean nothing. They count as clean: nobody looks at `CpuState` either.
    pub fn clear(&mut self, regs: RegSet) {
        for bit in regs.iter() {
            if bit < 16 {
                self.c64(0);
                self.set_gpr64(bit);
            } else {
                self.zero_xmm(bit - 16);
                self.uppers[bit - 16] = Upper::Zero;
            }
        }
        self.dirty = self.dirty.minus(regs);
    }

    /// Stores registers and marks them clean.
    pub fn flush(&mut self, regs: RegSet) {
        for bit in regs.iter() {
            self.store_register(bit);
        }
        self.dirty = self.dirty.minus(regs);
    }

    /// Stores rsp, whatever its form.
    pub fn flush_rsp(&mut self) {
        if self.stack.is_some() {
            self.cpu_store64(offset::gpr(RSP), |e| e.rsp64());
        } else if self.dirty.has(RSP) || self.form == Form::Structured {
            let local = self.gpr_local(RSP);
            self.cpu_store64(offset::gpr(RSP), |e| e.get(local));
        }
    }

    /// Pushes rsp as i64.
    pub fn rsp64(&mut self) {
        if self.stack.is_some() {
            self.rsp32();
            self.s().i64_extend_i32_u();
        } else {
            let local = self.gpr_local(RSP);
            self.get(local);
        }
    }

    /// Pushes rsp as i32.
    pub fn rsp32(&mut self) {
        match self.stack {
            Some(s) => {
                let base = self.frame_base();
                self.get(base);
                self.c32(s.delta + s.bias);
                self.s().i32_add();
            }
            None => {
                let local = self.gpr_local(RSP);
                self.get(local);
                self.s().i32_wrap_i64();
            }
        }
    }

    /// Pops rsp as i32. With a static stack it is known already: this is another local for it, which need not be kept across calls.
    pub fn set_rsp32(&mut self) {
        match self.stack {
            Some(s) => {
                let base = self.frame_base();
                self.c32(s.delta + s.bias);
                self.s().i32_sub().local_set(base);
            }
            None => {
                let local = self.gpr_local(RSP);
                self.s().i64_extend_i32_u().local_set(local);
                self.dirty = self.dirty.or(RegSet::RSP);
            }
        }
    }

    /// Pushes an i64 that nobody looks at.
    pub fn any(&mut self) {
        self.s().global_get(import::ANY_INDEX);
    }

    /// Pushes rsp's parameter of a structured function: where rsp was at entry, at the return address.
    pub fn entry_rsp(&mut self) {
        const PARAMETER: u32 = structured::parameter(RSP).expect("rsp is a parameter") as u32;
        self.get(PARAMETER);
    }

    /// Local holding entry rsp - bias (static stack only).
    pub fn frame_base(&mut self) -> u32 {
        self.local(Local::FrameBase, ValType::I32)
    }

    /// Pushes the i32 address for `[rsp]`; returns the constant offset to add (memarg).
    pub fn rsp_address(&mut self) -> u64 {
        match self.stack {
            Some(s) => {
                let base = self.frame_base();
                self.get(base);
                (s.delta + s.bias) as u64 | self.own_stack()
            }
            None => {
                let local = self.gpr_local(RSP);
                self.get(local);
                self.s().i32_wrap_i64();
                self.own_stack()
            }
        }
    }

    /// rsp += bytes.
    pub fn rsp_add(&mut self, bytes: i32) {
        if let Some(s) = &mut self.stack {
            s.delta += bytes;
            return;
        }
        let local = self.gpr_local(RSP);
        self.get(local);
        self.c64(i64::from(bytes));
        self.s().i64_add().local_set(local);
        self.dirty = self.dirty.or(RegSet::RSP);
    }

    /// Pushes a full 64-bit general register as i64.
    pub fn gpr64(&mut self, n: usize) {
        if n == RSP {
            return self.rsp64();
        }
        let local = self.gpr_local(n);
        self.get(local);
    }

    /// Pops i64 into a full register.
    pub fn set_gpr64(&mut self, n: usize) {
        assert!(n != RSP || self.stack.is_none(), "rsp written in a function with static stack");
        let local = self.gpr_local(n);
        self.set(local);
        self.dirty = self.dirty.or(RegSet::gpr(n));
        self.valid = self.valid.or(RegSet::gpr(n));
    }

    /// Pushes a general register: i64 for 64-bit ones, else i32 zero-extended from its width.
    pub fn read(&mut self, reg: Register) {
        self.gpr64(reg.full_register().number());
        match reg.size() {
            8 => {}
            4 => {
                self.s().i32_wrap_i64();
            }
            2 => {
                self.s().i32_wrap_i64().i32_const(0xffff).i32_and();
            }
            _ => {
                self.s().i32_wrap_i64();
                if is_high_byte(reg) {
                    self.s().i32_const(8).i32_shr_u();
                }
                self.s().i32_const(0xff).i32_and();
            }
        }
    }

    /// Pops a value (i64 for 64-bit registers, else i32; upper garbage allowed) into a general register with x86 merging rules.
    pub fn write(&mut self, reg: Register) {
        let n = reg.full_register().number();
        match reg.size() {
            8 => {}
            4 => {
                self.s().i64_extend_i32_u();
            }
            size => {
                let (mask, shift) = if size == 2 {
                    (0xffff_i64, 0)
                } else if is_high_byte(reg) {
                    (0xff00, 8)
                } else {
                    (0xff, 0)
                };
                self.s().i64_extend_i32_u();
                if shift > 0 {
                    self.s().i64_const(shift).i64_shl();
                }
                self.s().i64_const(mask).i64_and();
                self.gpr64(n);
                self.s().i64_const(!mask).i64_and().i64_or();
            }
        }
        self.set_gpr64(n);
    }
}

fn is_high_byte(reg: Register) -> bool {
    matches!(reg, Register::AH | Register::BH | Register::CH | Register::DH)
}
