//! Binary arithmetic (SDM vol. 1, 5.1.2): add sub cmp. (adc sbb inc dec neg mul imul div idiv: to come.)

use super::Semantics;
use crate::emit::{Alu, Emit, Lazy};
use iced_x86::{Instruction, Mnemonic};

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[(Mnemonic::Add, add), (Mnemonic::Sub, sub), (Mnemonic::Cmp, cmp)];

fn add(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let flags = e.live_flags.any();
    e.modify(i, |e| {
        if flags {
            let a = e.flag_a(w);
            e.tee(a);
        }
        e.operand(i, 1);
        e.alu(w, Alu::Add);
        if flags {
            e.zero_extend(w);
            let r = e.flag_r(w);
            e.tee(r);
        }
    });
    if flags {
        e.lazy = Lazy::Add(w);
    }
}

fn sub(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let flags = e.live_flags.any();
    e.modify(i, |e| {
        if flags {
            let a = e.flag_a(w);
            e.tee(a);
        }
        e.operand(i, 1);
        if flags {
            let b = e.flag_b(w);
            e.tee(b);
        }
        e.alu(w, Alu::Sub);
    });
    if flags {
        e.lazy = Lazy::Sub(w);
    }
}

fn cmp(e: &mut Emit, i: &Instruction) {
    if !e.live_flags.any() {
        return;
    }
    let w = e.width(i, 0);
    e.operand(i, 0);
    let a = e.flag_a(w);
    e.set(a);
    e.operand(i, 1);
    let b = e.flag_b(w);
    e.set(b);
    e.lazy = Lazy::Sub(w);
}
