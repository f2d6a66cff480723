//! Every row has a twin: the mnemonics of `src/x86` held against those of the generated programs (`examples/instruction_twins`), whose output natively and lifted
//! `cargo xtask test` compares.
//!
//! The fact a newcomer gets wrong: the list below is strict in both directions: a mnemonic that gets a twin must leave it.

#[path = "../examples/instruction_twins/select.rs"]
mod select;

use iced_x86::{Code, EncodingKind, Instruction, Mnemonic};
use std::collections::BTreeSet;

/// Rows without a generated twin, and why.
const WITHOUT: &[(&[Mnemonic], &str)] = {
    use Mnemonic::*;
    &[
        (&[Cpuid, Rdtsc, Rdtscp, Xgetbv], "the guest is shown another processor, another time"),
        (&[Rdsspd, Rdsspq], "nothing without a shadow stack, which the host may have"),
        (&[Int, Iret, Iretd, Iretq], "int 0x80 would be a system call with random arguments; iret goes where random data says"),
        (&[Fxrstor, Fxrstor64], "loads the state before every x87 and MMX twin"),
        (&[Fxsave, Fxsave64], "AMD's saves the last instruction's pointers only with an exception pending; tested in loader/src/helper/save.rs"),
        (&[Dpps, Dppd], "which of several NaNs a sum of products is differs between Intel's and AMD's; tested in tests/sse"),
        (&[Xsave, Xsave64, Xsaveopt, Xsaveopt64, Xsavec, Xsavec64, Xrstor, Xrstor64], "the host saves more components than the guest has; tested in loader/src/helper/save.rs"),
    ]
};

/// Mnemonics for which some legacy form has a row.
fn rows() -> BTreeSet<String> {
    let has_row = |code: &Code| {
        let form = code.op_code();
        let mut i = Instruction::default();
        i.set_code(*code);
        form.mode64() && form.encoding() == EncodingKind::Legacy && lift::x86::semantics(&i).is_some()
    };
    Code::values().filter(has_row).map(|c| format!("{:?}", c.mnemonic())).collect()
}

#[test]
fn every_mnemonic_with_a_row_has_a_twin_or_a_reason() {
    let twins: BTreeSet<String> = select::groups().values().flatten().map(|f| format!("{:?}", f.instruction.mnemonic())).collect();
    let without: BTreeSet<String> = WITHOUT.iter().flat_map(|(names, _)| names.iter().map(|m| format!("{m:?}"))).collect();
    let rows = rows();
    assert!(rows.len() > 500, "only {} rows were found", rows.len());
    let missing: Vec<_> = rows.difference(&twins).filter(|m| !without.contains(*m)).collect();
    assert!(missing.is_empty(), "rows without a twin: {missing:?}");
    let stale: Vec<_> = without.iter().filter(|m| twins.contains(*m) || !rows.contains(*m)).collect();
    assert!(stale.is_empty(), "listed as without a twin, but with one or without a row: {stale:?}");
}
