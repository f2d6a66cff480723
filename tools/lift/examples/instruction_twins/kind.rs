//! What the driver (`integration-tests/programs/x86/driver.c`) prepares for a piece of code and compares after it.

/// The numbers are known to the driver.
#[allow(dead_code, reason = "each generator makes some kinds")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain = 0,
    /// rsi, rdi and rcx are operands without being named.
    String = 1,
    /// rsp points into the data.
    Stack = 2,
    /// As `Stack`, with flags on top of it.
    FlagsOnStack = 3,
    /// The x87 state is random before and compared after.
    X87 = 4,
    Stop = 5,
    /// MXCSR is random before and compared after.
    Mxcsr = 6,
    /// As `Mxcsr`, with all exceptions masked.
    Float = 7,
    /// Several instructions: rsi, rdi and rsp point into the data, rbp is an index; the x87 is as with `X87`.
    Block = 8,
}
