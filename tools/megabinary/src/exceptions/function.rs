//! One body rewritten.
//!
//! Owns the numbers of labels, which grow by the blocks that are added. The fact a newcomer gets wrong: an exception needs no care for operands that lie below it. A branch drops them, and every handler is a label without values:
//!
//! ```text
//! try T                 block T                    a branch to the `try` of the source goes here
//!   …                     block                    its handler
//!   call f                  … call f
//!                           global.get thrown  br_if 0
//! catch t                   br 1  end
//!   …                     global.get thrown  i32.const t+1  i32.eq  if
//!                           i32.const 0  global.set thrown  global.get payload
//! end                       …  br 1  end
//!                         br OUTER  end            another tag: still in flight, to the next handler outside
//! ```
//!
//! The outermost handler of a function that may throw is a block around its body, behind which zeros are returned.

use super::Result;
use super::analyse::Throwing;
use super::scan::{Ending, Scan};
use super::types::Lowered;
use std::borrow::Cow;
use wasm_encoder as wasm;
use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BlockType, Instruction as I};
use wasmparser::{Catch, FuncType, FunctionBody, Operator, TryTable};

/// Numbers of the globals that hold an exception in flight.
#[derive(Clone, Copy)]
pub(super) struct Globals {
    pub thrown: u32,
    pub payload: u32,
}

/// What is the same for all functions.
pub(super) struct Context<'a> {
    pub throwing: &'a Throwing,
    pub globals: Globals,
    /// Whether each tag has a payload.
    pub tags: &'a [bool],
}

/// A label, counted from the function's own, 0, on.
type Label = u32;

/// Where exceptions go; none: there are none.
type Handler = Option<Label>;

struct Frame {
    /// Where a branch to this block of the source goes.
    label: Label,
    handler: Handler,
    kind: Kind,
}

enum Kind {
    Plain,
    /// A `try` with clauses: `outer` is the handler of what is thrown in those; `saved`: the first of two locals that keep what was caught.
    Try {
        outer: Handler,
        saved: u32,
        state: State,
    },
    Table {
        outer: Handler,
        catches: Vec<(Catch, Label)>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Body,
    Catch,
    CatchAll,
}

struct Writer<'a> {
    context: &'a Context<'a>,
    lowered: &'a mut Lowered,
    scan: &'a Scan,
    out: wasm::Function,
    frames: Vec<Frame>,
    /// How many blocks are open.
    depth: u32,
    /// How many `try` have begun.
    tries: usize,
    /// The first local that is new.
    locals: u32,
    results: &'a [wasmparser::ValType],
}

/// `may_throw`: whether exceptions leave it.
pub(super) fn write(body: &FunctionBody<'_>, scan: &Scan, ty: &FuncType, may_throw: bool, context: &Context<'_>, lowered: &mut Lowered) -> Result<wasm::Function> {
    let (mut locals, mut count) = (Vec::new(), ty.params().len() as u32);
    for local in body.get_locals_reader()? {
        let (n, ty) = local?;
        count += n;
        locals.push((n, lowered.val_type(ty)?));
    }
    let kept = if scan.has_rethrow { 2 * scan.depth } else { 0 };
    locals.extend([(kept, wasm::ValType::I32), (u32::from(scan.has_throw_ref), wasm::ValType::I64)].into_iter().filter(|(n, _)| *n > 0));
    let mut w = Writer { context, lowered, scan, out: wasm::Function::new(locals), frames: Vec::new(), depth: 1, tries: 0, locals: count, results: ty.results() };
    let handler = may_throw.then(|| w.open(BlockType::Empty));
    w.frames.push(Frame { label: 0, handler, kind: Kind::Plain });
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let (operator, at) = operators.read_with_offset()?;
        w.operator(operator, at)?;
    }
    Ok(w.out)
}

impl Writer<'_> {
    fn operator(&mut self, operator: Operator<'_>, at: usize) -> Result<()> {
        match operator {
            Operator::Block { blockty } => {
                let blockty = self.lowered.block_type(blockty)?;
                self.enter(I::Block(blockty));
            }
            Operator::Loop { blockty } => {
                let blockty = self.lowered.block_type(blockty)?;
                self.enter(I::Loop(blockty));
            }
            Operator::If { blockty } => {
                let blockty = self.lowered.block_type(blockty)?;
                self.enter(I::If(blockty));
            }
            Operator::Try { blockty } => self.try_(blockty)?,
            Operator::TryTable { try_table } => self.try_table(&try_table)?,
            Operator::Catch { tag_index } => {
                self.end_clause();
                self.test(tag_index);
                self.caught(State::Catch);
                self.push_payload(tag_index);
            }
            Operator::CatchAll => {
                self.end_clause();
                self.caught(State::CatchAll);
            }
            Operator::Delegate { .. } => {
                self.frames.pop();
                self.close();
            }
            Operator::End => self.end(),
            Operator::Throw { tag_index } => {
                if self.context.tags[tag_index as usize] {
                    self.out.instruction(&I::GlobalSet(self.context.globals.payload));
                }
                self.out.instruction(&I::I32Const(number(tag_index))).instruction(&I::GlobalSet(self.context.globals.thrown));
                self.raise(self.handler());
            }
            Operator::ThrowRef => self.throw_ref(),
            Operator::Rethrow { relative_depth } => {
                if let Kind::Try { saved, .. } = self.frame(relative_depth).kind {
                    let Globals { thrown, payload } = self.context.globals;
                    self.out.instructions().local_get(saved).global_set(thrown).local_get(saved + 1).global_set(payload);
                }
                self.raise(self.handler());
            }
            Operator::Br { relative_depth } => {
                let to = self.branch(relative_depth);
                self.out.instruction(&I::Br(to));
            }
            Operator::BrIf { relative_depth } => {
                let to = self.branch(relative_depth);
                self.out.instruction(&I::BrIf(to));
            }
            Operator::BrTable { targets } => {
                let listed = targets.targets().map(|t| Ok(self.branch(t?))).collect::<Result<Vec<_>>>()?;
                let default = self.branch(targets.default());
                self.out.instruction(&I::BrTable(Cow::Owned(listed), default));
            }
            Operator::RefIsNull if self.scan.exception_tests.contains(&at) => {
                self.out.instruction(&I::I64Eqz);
            }
            Operator::Call { function_index } => {
                self.copy(operator)?;
                if self.context.throwing.of_function(function_index) {
                    self.look();
                }
            }
            Operator::CallIndirect { type_index, .. } => {
                self.copy(operator)?;
                if self.context.throwing.of_type(self.lowered.index(type_index)) {
                    self.look();
                }
            }
            other => self.copy(other)?,
        }
        Ok(())
    }

    fn copy(&mut self, operator: Operator<'_>) -> Result<()> {
        let instruction = self.lowered.instruction(operator)?;
        self.out.instruction(&instruction);
        Ok(())
    }

    fn frame(&self, relative_depth: u32) -> &Frame {
        &self.frames[self.frames.len() - 1 - relative_depth as usize]
    }

    fn handler(&self) -> Handler {
        self.frame(0).handler
    }

    /// A label as instructions at this place count it.
    fn relative(&self, label: Label) -> u32 {
        self.depth - 1 - label
    }

    fn branch(&self, relative_depth: u32) -> u32 {
        self.relative(self.frame(relative_depth).label)
    }

    /// Begins a block of ours.
    fn open(&mut self, ty: BlockType) -> Label {
        self.out.instruction(&I::Block(ty));
        self.depth += 1;
        self.depth - 1
    }

    fn close(&mut self) {
        self.out.instruction(&I::End);
        self.depth -= 1;
    }

    /// Begins a block of the source that catches nothing.
    fn enter(&mut self, block: I<'_>) {
        self.out.instruction(&block);
        self.depth += 1;
        self.frames.push(Frame { label: self.depth - 1, handler: self.handler(), kind: Kind::Plain });
    }

    fn try_(&mut self, blockty: wasmparser::BlockType) -> Result<()> {
        let ending = self.scan.endings[self.tries];
        self.tries += 1;
        let outer = match ending {
            Ending::Delegate(relative_depth) => self.frame(relative_depth).handler,
            _ => self.handler(),
        };
        let ty = self.lowered.block_type(blockty)?;
        let label = self.open(ty);
        if ending != Ending::Catches {
            self.frames.push(Frame { label, handler: outer, kind: Kind::Plain });
            return Ok(());
        }
        let around = self.frames.iter().filter(|f| matches!(f.kind, Kind::Try { .. })).count() as u32;
        let kind = Kind::Try { outer, saved: self.locals + 2 * around, state: State::Body };
        let handler = Some(self.open_handler(blockty));
        self.frames.push(Frame { label, handler, kind });
        Ok(())
    }

    fn try_table(&mut self, table: &TryTable) -> Result<()> {
        let labels = |c: &Catch| match *c {
            Catch::One { label, .. } | Catch::OneRef { label, .. } | Catch::All { label } | Catch::AllRef { label } => (*c, self.frame(label).label),
        };
        let kind = Kind::Table { outer: self.handler(), catches: table.catches.iter().map(labels).collect() };
        let ty = self.lowered.block_type(table.ty)?;
        let label = self.open(ty);
        let handler = Some(self.open_handler(table.ty));
        self.frames.push(Frame { label, handler, kind });
        Ok(())
    }

    /// The block around a body, behind which its handler is: it takes what the body takes, and nothing comes out of it.
    fn open_handler(&mut self, blockty: wasmparser::BlockType) -> Label {
        let ty = match blockty {
            wasmparser::BlockType::FuncType(ty) if !self.lowered.of(ty).params().is_empty() => {
                let takes = FuncType::new(self.lowered.of(ty).params().to_vec(), []);
                BlockType::FunctionType(self.lowered.types.index(&takes))
            }
            _ => BlockType::Empty,
        };
        self.open(ty)
    }

    /// Ends the body of a `try`, or the clause before the next: done with it.
    fn end_clause(&mut self) {
        let done = self.branch(0);
        self.out.instruction(&I::Br(done));
        self.close();
        if let Some(Frame { handler, kind: Kind::Try { outer, .. }, .. }) = self.frames.last_mut() {
            *handler = *outer;
        }
    }

    /// Begins what happens if this is the exception.
    fn test(&mut self, tag: u32) {
        self.out.instructions().global_get(self.context.globals.thrown).i32_const(number(tag)).i32_eq().if_(BlockType::Empty);
        self.depth += 1;
    }

    /// Begins a clause: the exception is no longer in flight, but kept for `rethrow`.
    fn caught(&mut self, now: State) {
        let Globals { thrown, payload } = self.context.globals;
        if let Some(Frame { kind: Kind::Try { saved, state, .. }, .. }) = self.frames.last_mut() {
            *state = now;
            if self.scan.has_rethrow {
                self.out.instructions().global_get(thrown).local_set(*saved).global_get(payload).local_set(*saved + 1);
            }
        }
        self.land();
    }

    /// Nothing is in flight any more.
    fn land(&mut self) {
        self.out.instructions().i32_const(0).global_set(self.context.globals.thrown);
    }

    fn push_payload(&mut self, tag: u32) {
        if self.context.tags[tag as usize] {
            self.out.instruction(&I::GlobalGet(self.context.globals.payload));
        }
    }

    fn push_reference(&mut self) {
        let Globals { thrown, payload } = self.context.globals;
        self.out.instructions().global_get(thrown).i64_extend_i32_u().i64_const(32).i64_shl().global_get(payload).i64_extend_i32_u().i64_or();
    }

    /// Behind a call.
    fn look(&mut self) {
        self.out.instruction(&I::GlobalGet(self.context.globals.thrown));
        match self.handler() {
            Some(label) => {
                let to = self.relative(label);
                self.out.instruction(&I::BrIf(to));
            }
            // Not that there is one.
            None => {
                self.out.instructions().if_(BlockType::Empty).unreachable().end();
            }
        }
    }

    /// On to a handler, with an exception in flight.
    fn raise(&mut self, to: Handler) {
        match to {
            Some(label) => {
                let to = self.relative(label);
                self.out.instruction(&I::Br(to));
            }
            None => {
                self.out.instruction(&I::Unreachable);
            }
        }
    }

    fn throw_ref(&mut self) {
        let Globals { thrown, payload } = self.context.globals;
        let kept = if self.scan.has_rethrow { 2 * self.scan.depth } else { 0 };
        let reference = self.locals + kept;
        let mut i = self.out.instructions();
        i.local_tee(reference).i64_eqz().if_(BlockType::Empty).unreachable().end();
        i.local_get(reference).i32_wrap_i64().global_set(payload).local_get(reference).i64_const(32).i64_shr_u().i32_wrap_i64().global_set(thrown);
        self.raise(self.handler());
    }

    fn end(&mut self) {
        let Some(Frame { label, kind, handler }) = self.frames.pop() else { return };
        match kind {
            Kind::Plain if self.frames.is_empty() => {
                if handler.is_some() {
                    self.out.instruction(&I::Return);
                    self.close();
                    for ty in self.results {
                        self.out.instruction(&zero(*ty));
                    }
                }
                self.close();
            }
            Kind::Plain => self.close(),
            Kind::Try { outer, state, .. } => {
                if state != State::CatchAll {
                    let done = self.relative(label);
                    self.out.instruction(&I::Br(done));
                    self.close();
                    self.raise(outer);
                }
                self.close();
            }
            Kind::Table { outer, catches } => {
                let done = self.relative(label);
                self.out.instruction(&I::Br(done));
                self.close();
                self.table(&catches, outer);
                self.close();
            }
        }
    }

    /// The clauses of a `try_table`, of which the first that fits is taken.
    fn table(&mut self, catches: &[(Catch, Label)], outer: Handler) {
        for &(catch, label) in catches {
            let tag = match catch {
                Catch::One { tag, .. } | Catch::OneRef { tag, .. } => Some(tag),
                Catch::All { .. } | Catch::AllRef { .. } => None,
            };
            if let Some(tag) = tag {
                self.test(tag);
                self.push_payload(tag);
            }
            if matches!(catch, Catch::OneRef { .. } | Catch::AllRef { .. }) {
                self.push_reference();
            }
            self.land();
            self.raise(Some(label));
            match tag {
                Some(_) => self.close(),
                None => return,
            }
        }
        self.raise(outer);
    }
}

/// How a tag is called in flight.
fn number(tag: u32) -> i32 {
    tag as i32 + 1
}

fn zero(ty: wasmparser::ValType) -> I<'static> {
    match ty {
        wasmparser::ValType::I32 => I::I32Const(0),
        wasmparser::ValType::I64 => I::I64Const(0),
        wasmparser::ValType::F32 => I::F32Const(0.0f32.into()),
        wasmparser::ValType::F64 => I::F64Const(0.0f64.into()),
        wasmparser::ValType::V128 => I::V128Const(0),
        wasmparser::ValType::Ref(r) if r.is_extern_ref() => I::RefNull(wasm::HeapType::EXTERN),
        wasmparser::ValType::Ref(_) => I::RefNull(wasm::HeapType::FUNC),
    }
}
