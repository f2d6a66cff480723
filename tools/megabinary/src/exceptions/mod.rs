//! Exceptions of a WASI program, lowered: a module with `try`, `throw` and `exnref` in, one that does the same without them out.
//!
//! Owns both forms of the exception-handling proposal, the standard one (`try_table`, `throw_ref`) and the older one (`try`, `catch`, `delegate`, `rethrow`) that most compilers still make. The fact a newcomer gets wrong: nothing is unwound. An
//! exception in flight is two globals, the number of its tag (from 1 on; 0: there is none) and its payload; `throw` sets them and branches, and behind each call that can throw stands a look at the first, so that neither the compiler nor the runtime has to
//! know that there is such a thing.
//!
//! Tags have at most one parameter, an `i32`: C++'s and longjmp's are so. A caught exception (`exnref`) is an `i64`, tag above payload, 0 being null. Types that differ in nothing but these two become one, and an indirect call to the wrong one of them
//! no longer traps.

mod analyse;
mod function;
mod scan;
mod types;
mod write;

use crate::merge::MergeError;
use crate::wasi;
use scan::Scan;
use std::borrow::Cow;
use thiserror::Error;
use types::Lowered;
use wasm_encoder::reencode;
use wasmparser::{BinaryReaderError, FunctionBody, Parser, Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures};

/// Why a module with exceptions is not taken.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("is not a valid module: {0}")]
    Invalid(#[from] BinaryReaderError),
    #[error("tag {tag} has parameters other than one i32: only exceptions that are one number can be lowered, as those of C, C++ and longjmp are")]
    Payload { tag: usize },
    #[error("imports {from}.{field}, a tag: an exception from outside cannot be caught")]
    Import { from: String, field: String },
    #[error("imports {from}.{field}, which takes or gives a caught exception: nothing from outside knows any")]
    ImportedType { from: String, field: String },
    #[error("keeps caught exceptions in a table: only locals, globals, parameters and results can hold them")]
    Table,
    #[error("cannot be written without its exceptions: {0}")]
    Encode(String),
    /// It came too close to a limit of the standard's implementations: what was lowered is larger.
    #[error("has too much in it to be lowered: {0}")]
    Lowered(BinaryReaderError),
}

type Result<T> = std::result::Result<T, Refused>;

impl From<reencode::Error<Refused>> for Refused {
    fn from(e: reencode::Error<Refused>) -> Self {
        match e {
            reencode::Error::UserError(refused) => refused,
            reencode::Error::ParseError(e) => Refused::Invalid(e),
            other => Refused::Encode(other.to_string()),
        }
    }
}

/// The module without exceptions; one that has none as it is, byte for byte. Equal modules give equal bytes.
pub(crate) fn lower<'a>(name: &str, module: &'a [u8]) -> std::result::Result<Cow<'a, [u8]>, MergeError> {
    let validated = |module: &[u8]| Validator::new_with_features(wasi::features()).validate_all(module).map(drop);
    if validated(module).is_ok() {
        return Ok(module.into());
    }
    let lowered = Module::read(module).and_then(Module::write).and_then(|lowered| validated(&lowered).map(|()| lowered).map_err(Refused::Lowered));
    lowered.map(Cow::from).map_err(|refused| MergeError::Wasi { name: name.into(), reason: refused.to_string() })
}

fn features() -> WasmFeatures {
    wasi::features() | WasmFeatures::EXCEPTIONS | WasmFeatures::LEGACY_EXCEPTIONS
}

/// A valid module, taken apart.
struct Module<'a> {
    sections: Vec<Payload<'a>>,
    bodies: Vec<(FunctionBody<'a>, Scan)>,
    lowered: Lowered,
    /// Type of each function, imported ones first, as an index of a lowered type.
    functions: Vec<u32>,
    imported: u32,
    globals: u32,
    /// Whether each tag has a payload.
    tags: Vec<bool>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut validator = Validator::new_with_features(features());
        let mut found = Vec::new();
        let mut m = Module { sections: Vec::new(), bodies: Vec::new(), lowered: Lowered::default(), functions: Vec::new(), imported: 0, globals: 0, tags: Vec::new() };
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            if let ValidPayload::Func(validator, body) = validator.payload(&payload)? {
                found.push((validator, body));
                continue;
            }
            m.declare(&payload)?;
            m.sections.push(payload);
        }
        let mut allocations = wasmparser::FuncValidatorAllocations::default();
        for (validator, body) in found {
            let mut validator = validator.into_validator(allocations);
            let scan = Scan::of(&body, &mut validator, &m.lowered)?;
            allocations = validator.into_allocations();
            m.bodies.push((body, scan));
        }
        Ok(m)
    }

    /// Remembers what code is read with.
    fn declare(&mut self, payload: &Payload<'a>) -> Result<()> {
        match payload {
            Payload::TypeSection(section) => {
                for ty in section.clone().into_iter_err_on_gc_types() {
                    self.lowered.add(&ty?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let import = import?;
                    let (from, field) = (import.module.to_owned(), import.name.to_owned());
                    match import.ty {
                        TypeRef::Func(ty) if self.lowered.is_changed(ty) => return Err(Refused::ImportedType { from, field }),
                        TypeRef::Func(ty) => self.functions.push(self.lowered.index(ty)),
                        TypeRef::Global(_) => self.globals += 1,
                        TypeRef::Tag(_) => return Err(Refused::Import { from, field }),
                        _ => {}
                    }
                }
                self.imported = self.functions.len() as u32;
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    self.functions.push(self.lowered.index(ty?));
                }
            }
            Payload::TagSection(section) => {
                for (tag, ty) in section.clone().into_iter().enumerate() {
                    match self.lowered.of(ty?.func_type_idx).params() {
                        [] => self.tags.push(false),
                        [ValType::I32] => self.tags.push(true),
                        _ => return Err(Refused::Payload { tag }),
                    }
                }
            }
            Payload::GlobalSection(section) => self.globals += section.count(),
            _ => {}
        }
        Ok(())
    }
}
