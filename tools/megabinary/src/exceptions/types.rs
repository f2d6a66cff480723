//! Types without exceptions: an exception that was caught is an `i64`. Owns the numbers of the lowered types, and everything else of a module that is only copied.

use super::Refused;
use crate::reindex::Types;
use std::collections::BTreeSet;
use wasm_encoder as wasm;
use wasm_encoder::reencode::{self, Error, Reencode};
use wasmparser::{AbstractHeapType, FuncType, HeapType, Operator, RefType, ValType};

#[derive(Default)]
pub(super) struct Lowered {
    pub types: Types,
    /// Of each type of the module's.
    indices: Vec<u32>,
    /// Those that exceptions stand in.
    changed: BTreeSet<u32>,
}

impl Lowered {
    pub(super) fn add(&mut self, ty: &FuncType) {
        if ty.params().iter().chain(ty.results()).copied().any(is_exception) {
            self.changed.insert(self.indices.len() as u32);
        }
        let lowered = |types: &[ValType]| types.iter().map(|t| if is_exception(*t) { ValType::I64 } else { *t }).collect::<Vec<_>>();
        let index = self.types.index(&FuncType::new(lowered(ty.params()), lowered(ty.results())));
        self.indices.push(index);
    }

    pub(super) fn index(&self, ty: u32) -> u32 {
        self.indices[ty as usize]
    }

    /// Whether a type of the module's is another one lowered.
    pub(super) fn is_changed(&self, ty: u32) -> bool {
        self.changed.contains(&ty)
    }

    /// A type of the module's, lowered.
    pub(super) fn of(&self, ty: u32) -> &FuncType {
        self.types.get(self.index(ty))
    }
}

pub(super) fn is_exception(ty: ValType) -> bool {
    matches!(ty, ValType::Ref(r) if is_heap(r.heap_type()))
}

fn is_heap(ty: HeapType) -> bool {
    matches!(ty, HeapType::Abstract { ty: AbstractHeapType::Exn | AbstractHeapType::NoExn, .. })
}

impl Reencode for Lowered {
    type Error = Refused;

    fn type_index(&mut self, ty: u32) -> Result<u32, Error<Refused>> {
        Ok(self.index(ty))
    }

    fn val_type(&mut self, ty: ValType) -> Result<wasm::ValType, Error<Refused>> {
        if is_exception(ty) { Ok(wasm::ValType::I64) } else { reencode::utils::val_type(self, ty) }
    }

    fn val_types(&mut self, types: Vec<ValType>) -> Result<Vec<wasm::ValType>, Error<Refused>> {
        types.into_iter().map(|ty| self.val_type(ty)).collect()
    }

    /// Values go through `val_type`: this is what tables and their segments hold.
    fn ref_type(&mut self, ty: RefType) -> Result<wasm::RefType, Error<Refused>> {
        if is_heap(ty.heap_type()) { Err(Error::UserError(Refused::Table)) } else { reencode::utils::ref_type(self, ty) }
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<wasm::Instruction<'a>, Error<Refused>> {
        match operator {
            Operator::RefNull { hty } if is_heap(hty) => Ok(wasm::Instruction::I64Const(0)),
            other => reencode::utils::instruction(self, other),
        }
    }
}
