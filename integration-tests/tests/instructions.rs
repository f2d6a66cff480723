//! Instruction twins: every form of every row, with random operands, through the whole pipeline. The programs are generated (`tools/lift/examples/instruction_twins.rs`) and
//! print one checksum per form, so the first differing line names the instruction.

use integration_tests::{twin, twin_with};

macro_rules! twins { ($($name:ident)*) => {
    $(#[test] fn $name() { twin(&[concat!("/usr/local/lib/twins/x86_", stringify!($name)), STATES]); })*
    /// The same rows through the other form and the other compiler.
    mod resumable {
        $(#[test] fn $name() { super::twin_with(&["--form", "resumable"], &[concat!("/usr/local/lib/twins/x86_", stringify!($name)), super::STATES]); })*
    }
} }

/// States per form.
const STATES: &str = "100";

twins! {
    arithmetic bit divide exchange locked logical mmx multiply shift sse_float sse_integer stack stop string transfer x87
}
