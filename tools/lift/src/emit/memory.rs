//! Effective addresses and guest memory access.

use super::{Emit, Form, OWN_STACK, guest, guest_byte, operand::Width};
use iced_x86::{Instruction, OpKind, Register};
use syscalls::abi::offset;

/// Displacements below this fold into the memarg offset: the guest's lowest and highest 64 KiB are never mapped, so a sum that wraps faults either way.
const FOLD_LIMIT: i64 = 0x1_0000;

impl Emit {
    /// Pushes the i32 address of the instruction's memory operand; returns the memarg offset to use with it.
    pub fn address(&mut self, i: &Instruction) -> u64 {
        if i.is_ip_rel_memory_operand() {
            self.c32(i.ip_rel_memory_address() as i32);
            if let Some(base) = segment_base(i) {
                self.cpu_load64(base);
                self.s().i32_wrap_i64().i32_add();
            }
            return 0;
        }
        let mut disp = i64::from(i.memory_displacement64() as i32);
        let mut parts = 0;
        if let Some(base) = segment_base(i) {
            self.cpu_load64(base);
            self.s().i32_wrap_i64();
            parts += 1;
        }
        // fs:[-8] and the like: no folding, thread pointers have data on both sides.
        let segment = parts > 0;
        let mut own = 0;
        if i.memory_base() != Register::None {
            if i.memory_base().full_register() == Register::RSP && !segment {
                own = self.own_stack();
            }
            if i.memory_base().full_register() == Register::RSP && self.stack.is_some() {
                disp += (self.rsp_address() & !OWN_STACK) as i64;
            } else {
                self.gpr64(i.memory_base().full_register().number());
                self.s().i32_wrap_i64();
            }
            parts += 1;
            if parts > 1 {
                self.s().i32_add();
            }
        }
        if i.memory_index() != Register::None {
            self.gpr64(i.memory_index().full_register().number());
            self.s().i32_wrap_i64();
            let scale = i.memory_index_scale().trailing_zeros();
            if scale > 0 {
                self.c32(scale as i32);
                self.s().i32_shl();
            }
            parts += 1;
            if parts > 1 {
                self.s().i32_add();
            }
        }
        if parts == 0 {
            self.c32(disp as i32);
            return 0;
        }
        if (0..FOLD_LIMIT).contains(&disp) && !segment {
            return disp as u64 | own;
        }
        self.c32(disp as i32);
        self.s().i32_add();
        own
    }

    /// The mark of an access based on rsp. Only LLVM asks for it.
    pub(super) fn own_stack(&self) -> u64 {
        if self.form == Form::Structured { OWN_STACK } else { 0 }
    }

    /// Reads what an instruction reads of memory and forgets it: Go's check for nil is a `test` that nothing looks at, gcc's probe of a stack an `or` with 0. LLVM leaves out no load but one of the own stack, so this is none.
    pub fn touch(&mut self, i: &Instruction) {
        if (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory) {
            let offset = self.address(i) & !OWN_STACK;
            self.load(Width::from_bytes(i.memory_size().size()), offset);
            self.s().drop();
        }
    }

    /// Pushes the full 64-bit effective address without segment base (lea).
    pub fn address64(&mut self, i: &Instruction) {
        if i.is_ip_rel_memory_operand() {
            self.c64(i.ip_rel_memory_address() as i64);
            return;
        }
        let mut parts = 0;
        if i.memory_base() != Register::None {
            self.gpr64(i.memory_base().full_register().number());
            parts += 1;
        }
        if i.memory_index() != Register::None {
            self.gpr64(i.memory_index().full_register().number());
            let scale = i.memory_index_scale().trailing_zeros();
            if scale > 0 {
                self.c64(i64::from(scale));
                self.s().i64_shl();
            }
            parts += 1;
            if parts > 1 {
                self.s().i64_add();
            }
        }
        let disp = i.memory_displacement64() as i64;
        let disp = if parts > 0 { i64::from(disp as i32) } else { disp };
        if parts == 0 {
            self.c64(disp);
        } else if disp != 0 {
            self.c64(disp);
            self.s().i64_add();
        }
        if i.memory_base().size() == 4 || i.memory_index().size() == 4 {
            self.c64(0xffff_ffff);
            self.s().i64_and();
        }
    }

    /// Pops an i32 address, pushes the value there: i64 for W64, else i32 zero-extended.
    pub fn load(&mut self, w: Width, offset: u64) {
        let m = guest(offset);
        match w {
            Width::W8 => self.s().i32_load8_u(guest_byte(offset)),
            Width::W16 => self.s().i32_load16_u(m),
            Width::W32 => self.s().i32_load(m),
            Width::W64 => self.s().i64_load(m),
        };
    }

    /// Pops value and address (address below), stores the low `w` bits.
    pub fn store(&mut self, w: Width, offset: u64) {
        let m = guest(offset);
        match w {
            Width::W8 => self.s().i32_store8(guest_byte(offset)),
            Width::W16 => self.s().i32_store16(m),
            Width::W32 => self.s().i32_store(m),
            Width::W64 => self.s().i64_store(m),
        };
    }

    /// Pushes an i64 onto the guest stack; the value is on the WASM stack.
    pub fn push64(&mut self) {
        let t = self.t64(8);
        self.set(t);
        self.rsp_add(-8);
        let off = self.rsp_address();
        self.get(t);
        self.store(Width::W64, off);
    }

    /// Pops from the guest stack onto the WASM stack (i64); rsp is already advanced when the value is used.
    pub fn pop64(&mut self) {
        let t = self.t64(8);
        let off = self.rsp_address();
        self.load(Width::W64, off);
        self.set(t);
        self.rsp_add(8);
        self.get(t);
    }
}

/// Where in `CpuState` the base of an operand's segment is, if it has one: fs and gs alone do.
fn segment_base(i: &Instruction) -> Option<u64> {
    match i.segment_prefix() {
        Register::FS => Some(offset::FS_BASE),
        Register::GS => Some(offset::GS_BASE),
        _ => None,
    }
}
