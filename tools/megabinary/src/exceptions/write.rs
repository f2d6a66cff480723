//! The lowered module: sections that are copied, functions that are rewritten, and what is new: two globals, and functions before exported ones.

use super::analyse::Throwing;
use super::function::{self, Context, Globals};
use super::types::Lowered;
use super::{Module, Result};
use wasm_encoder as wasm;
use wasm_encoder::reencode::Reencode;
use wasmparser::{ExternalKind, FuncType, Payload};

impl Module<'_> {
    /// Custom sections go: they name places in code that moved.
    pub(super) fn write(mut self) -> Result<Vec<u8>> {
        let throwing = Throwing::of(&self)?;
        let globals = Globals { thrown: self.globals, payload: self.globals + 1 };
        let context = Context { throwing: &throwing, globals, tags: &self.tags };
        let mut code = wasm::CodeSection::new();
        for (function, (body, scan)) in (self.imported..).zip(&self.bodies) {
            let ty = self.lowered.types.get(self.functions[function as usize]).clone();
            let may_throw = throwing.of_function(function);
            code.function(&function::write(body, scan, &ty, may_throw, &context, &mut self.lowered)?);
        }
        let mut out = Sections { doors: Doors { first: self.functions.len() as u32, of: Vec::new() }, ..Sections::default() };
        for section in std::mem::take(&mut self.sections) {
            out.copy(section, &mut self.lowered, &throwing)?;
        }
        for _ in 0..2 {
            out.globals.global(wasm::GlobalType { val_type: wasm::ValType::I32, mutable: true, shared: false }, &wasm::ConstExpr::i32_const(0));
        }
        for &function in &out.doors.of {
            let ty = self.functions[function as usize];
            out.functions.function(ty);
            code.function(&door(function, self.lowered.types.get(ty), globals));
        }
        Ok(out.finish(&self.lowered, &code))
    }
}

/// Functions that stand before exported ones: whoever calls from outside knows no exceptions, so one that gets there ends the program.
#[derive(Default)]
struct Doors {
    first: u32,
    /// The function behind each.
    of: Vec<u32>,
}

impl Doors {
    fn before(&mut self, function: u32) -> u32 {
        let known = self.of.iter().position(|f| *f == function);
        self.first
            + known.unwrap_or_else(|| {
                self.of.push(function);
                self.of.len() - 1
            }) as u32
    }
}

fn door(function: u32, ty: &FuncType, globals: Globals) -> wasm::Function {
    let mut door = wasm::Function::new([]);
    let mut i = door.instructions();
    for parameter in 0..ty.params().len() as u32 {
        i.local_get(parameter);
    }
    i.call(function).global_get(globals.thrown).if_(wasm::BlockType::Empty).unreachable().end().end();
    door
}

#[derive(Default)]
struct Sections {
    imports: wasm::ImportSection,
    functions: wasm::FunctionSection,
    tables: wasm::TableSection,
    memories: wasm::MemorySection,
    globals: wasm::GlobalSection,
    exports: wasm::ExportSection,
    start: Option<wasm::StartSection>,
    elements: wasm::ElementSection,
    data_count: Option<wasm::DataCountSection>,
    data: wasm::DataSection,
    doors: Doors,
}

impl Sections {
    fn copy(&mut self, section: Payload<'_>, lowered: &mut Lowered, throwing: &Throwing) -> Result<()> {
        match section {
            Payload::ImportSection(section) => lowered.parse_import_section(&mut self.imports, section)?,
            Payload::FunctionSection(section) => lowered.parse_function_section(&mut self.functions, section)?,
            Payload::TableSection(section) => lowered.parse_table_section(&mut self.tables, section)?,
            Payload::MemorySection(section) => lowered.parse_memory_section(&mut self.memories, section)?,
            Payload::GlobalSection(section) => lowered.parse_global_section(&mut self.globals, section)?,
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    let index = match export.kind {
                        ExternalKind::Tag => continue,
                        ExternalKind::Func if throwing.of_function(export.index) => self.doors.before(export.index),
                        _ => export.index,
                    };
                    self.exports.export(export.name, export.kind.into(), index);
                }
            }
            Payload::StartSection { func, .. } => {
                let function_index = if throwing.of_function(func) { self.doors.before(func) } else { func };
                self.start = Some(wasm::StartSection { function_index });
            }
            Payload::ElementSection(section) => lowered.parse_element_section(&mut self.elements, section)?,
            Payload::DataCountSection { count, .. } => self.data_count = Some(wasm::DataCountSection { count }),
            Payload::DataSection(section) => lowered.parse_data_section(&mut self.data, section)?,
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, lowered: &Lowered, code: &wasm::CodeSection) -> Vec<u8> {
        let mut module = wasm::Module::new();
        module.section(&lowered.types.section()).section(&self.imports).section(&self.functions).section(&self.tables);
        module.section(&self.memories).section(&self.globals).section(&self.exports);
        if let Some(start) = &self.start {
            module.section(start);
        }
        module.section(&self.elements);
        if let Some(count) = &self.data_count {
            module.section(count);
        }
        module.section(code).section(&self.data);
        module.finish()
    }
}
