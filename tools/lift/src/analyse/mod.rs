//! What the emitter must know about a function before it emits: flag liveness, register liveness within and between functions, stack depth, xmm classes; and dominators of any graph.

mod arguments;
pub mod classes;
pub mod dominators;
pub mod flags;
pub mod liveness;
pub mod locals;
pub mod preserving;
pub mod returns;
pub mod stack;
