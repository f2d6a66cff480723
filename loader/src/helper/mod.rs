//! `x86.helper`: what lifted code does not do inline.
use crate::native::Context;

/// Runs one operation.
pub fn run(_context: &mut Context, _op: u32, _a: u64, _b: u64) -> u64 {
    0
}

/// Host code that may fault on guest memory.
pub(crate) fn fixups() -> Vec<crate::fault::Fixup> {
    Vec::new()
}
