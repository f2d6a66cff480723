//! What the driver must know of a form: its text, its defined flags, the registers of its operand.

use crate::program::{Entry, Operand, places};
use crate::select::{Form, has_memory, vector};
use iced_x86::{Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register};
use lift::emit::Flags;

pub(crate) fn entry(form: &Form) -> Entry {
    let i = &form.instruction;
    let mut text = String::new();
    NasmFormatter::new().format(i, &mut text);
    let bytes = form.bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let undefined = i.rflags_undefined() & !Flags::left_by(i).0;
    Entry { name: format!("{text} [{bytes}]"), bytes: form.bytes.clone(), kind: form.kind, xmm: vector(i), flags: places(!undefined), operand: operand(i) }
}

fn operand(i: &Instruction) -> Operand {
    let memory = has_memory(i);
    let number = |r: Register| if memory && r != Register::None { r.full_register().number() as i32 } else { -1 };
    let bits = matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc) && i.op1_kind() == OpKind::Register;
    // Operands that are not named.
    let base = match i.mnemonic() {
        Mnemonic::Xlatb => Register::RBX,
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu => Register::RDI,
        _ => i.memory_base(),
    };
    Operand {
        base: if i.mnemonic() == Mnemonic::Leave { 5 } else { number(base) },
        index: if i.mnemonic() == Mnemonic::Xlatb { -1 } else { number(i.memory_index()) },
        bit_offset: if bits { number(i.op1_register()) } else { -1 },
        displacement: if memory { i.memory_displacement64() } else { 0 },
        bytes: i.memory_size().size(),
    }
}
