mod code;
mod host_instruction;
pub mod intrinsics;
mod narrow_load;
mod selector;
mod state;
pub mod trampoline;

pub use self::code::FuncTranslator;
pub use self::trampoline::FuncTrampoline;
