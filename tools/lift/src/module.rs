//! Assembles emitted bodies into the two modules of a shard (ARCHITECTURE.md, "The guest ABI").

use crate::emit::Body;
use syscalls::abi::{import, section, structured};
use wasm::ValType::{I32, I64};
use wasm_encoder as wasm;

/// Type indices, the same in both modules.
const TYPE_SYSCALL: u32 = 0;
const TYPE_HELPER: u32 = 1;
/// The type of the form's functions.
pub const TYPE_FUNCTION: u32 = 2;

/// A module under construction.
pub struct ModuleBuilder {
    types: wasm::TypeSection,
    functions: wasm::FunctionSection,
    code: wasm::CodeSection,
    count: u32,
}

impl ModuleBuilder {
    pub fn structured() -> Self {
        let of = |registers: &[usize]| registers.iter().map(|r| if *r == structured::RSP { I32 } else { I64 }).collect::<Vec<_>>();
        Self::new(&of(&structured::PARAMETERS), &of(&structured::RESULTS))
    }

    pub fn resumable() -> Self {
        Self::new(&[I32], &[I64])
    }

    fn new(params: &[wasm::ValType], results: &[wasm::ValType]) -> Self {
        let mut types = wasm::TypeSection::new();
        types.ty().function([], []);
        types.ty().function([I32, I64, I64], [I64]);
        types.ty().function(params.to_vec(), results.to_vec());
        Self { types, functions: wasm::FunctionSection::new(), code: wasm::CodeSection::new(), count: 0 }
    }

    /// Adds a function of the form's type.
    pub fn function(&mut self, body: &Body) {
        let mut f = wasm::Function::new(body.0.iter().map(|t| (1, *t)));
        f.raw(body.1.iter().copied());
        f.instructions().end();
        self.functions.function(TYPE_FUNCTION);
        self.code.function(&f);
        self.count += 1;
    }

    /// The module; the first `table_entries` functions go to the table in order; `sections` are custom sections (name, bytes).
    pub fn finish(self, table_entries: u32, sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut m = wasm::Module::new();
        m.section(&self.types);
        m.section(&imports());
        m.section(&self.functions);
        let mut elements = wasm::ElementSection::new();
        let slots: Vec<u32> = (0..table_entries).map(|k| import::FUNCTIONS + k).collect();
        elements.active(None, &wasm::ConstExpr::global_get(import::SLOT_BASE_INDEX), wasm::Elements::Functions(slots.into()));
        m.section(&elements);
        m.section(&self.code);
        for (name, data) in sections {
            m.section(&wasm::CustomSection { name: (*name).into(), data: data.into() });
        }
        m.finish()
    }
}

fn imports() -> wasm::ImportSection {
    let memory = |pages: u64, shared: bool| wasm::MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared, page_size_log2: None };
    let mut s = wasm::ImportSection::new();
    s.import(import::LINUX, import::SYSCALL, wasm::EntityType::Function(TYPE_SYSCALL));
    s.import(import::X86, import::HELPER, wasm::EntityType::Function(TYPE_HELPER));
    s.import(import::MODULE, import::MEM, memory(65536, true));
    s.import(import::MODULE, import::CPU, memory(1, false));
    s.import(import::MODULE, import::CODEMAP, memory(65536, true));
    let table = wasm::TableType { element_type: wasm::RefType::FUNCREF, minimum: 1, maximum: None, table64: false, shared: false };
    s.import(import::MODULE, import::TABLE, table);
    let global = |val_type| wasm::GlobalType { val_type, mutable: false, shared: false };
    s.import(import::MODULE, import::SLOT_BASE, global(I32));
    s.import(import::MODULE, import::ANY, global(I64));
    s
}

/// `vkernel.entries`: pc and slot of every structured function.
pub fn entries_section(pcs: impl Iterator<Item = u64>) -> (&'static str, Vec<u8>) {
    let mut data = Vec::new();
    for (slot, pc) in pcs.enumerate() {
        data.extend((pc as u32).to_le_bytes());
        data.extend((slot as u32).to_le_bytes());
    }
    (section::ENTRIES, data)
}

/// `vkernel.blocks`: pc, slot and block number of every resumable block, sorted by pc; of several copies of one pc the first stands.
pub fn blocks_section(functions: &[Vec<u64>]) -> (&'static str, Vec<u8>) {
    let mut rows: Vec<(u32, u32, u32)> = Vec::new();
    for (slot, blocks) in functions.iter().enumerate() {
        rows.extend(blocks.iter().enumerate().map(|(k, pc)| (*pc as u32, slot as u32, k as u32)));
    }
    rows.sort_unstable();
    rows.dedup_by_key(|r| r.0);
    let data = rows.iter().flat_map(|(a, b, c)| [a, b, c]).flat_map(|v| v.to_le_bytes()).collect();
    (section::BLOCKS, data)
}
