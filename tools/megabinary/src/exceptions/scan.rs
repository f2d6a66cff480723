//! One function looked through before it is written: how each of its old `try` blocks ends, and what can throw out of it.

use super::Result;
use super::types::{self, Lowered};
use std::collections::BTreeSet;
use wasmparser::{Catch, FuncValidator, FunctionBody, Operator, ValidatorResources};

/// How a `try` ends, which its beginning does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Catches,
    /// What is thrown in it is thrown where this label, counted from outside, is.
    Delegate(u32),
    Nothing,
}

/// What can throw.
#[derive(Default)]
pub(super) struct Sources {
    /// An instruction.
    pub itself: bool,
    /// Functions that are called.
    pub calls: BTreeSet<u32>,
    /// Lowered types of functions that are called through tables.
    pub indirect: BTreeSet<u32>,
}

impl Sources {
    fn append(&mut self, mut other: Sources) {
        self.itself |= other.itself;
        self.calls.append(&mut other.calls);
        self.indirect.append(&mut other.indirect);
    }
}

#[derive(Default)]
pub(super) struct Scan {
    /// Of each `try`, in the order of their beginnings.
    pub endings: Vec<Ending>,
    /// How many of them are in one another.
    pub depth: u32,
    pub has_rethrow: bool,
    pub has_throw_ref: bool,
    /// Where `ref.is_null` asks for an exception: offsets in the module.
    pub exception_tests: BTreeSet<usize>,
    /// Whose exceptions leave the function.
    pub leaving: Sources,
    /// Functions that a table may come to hold.
    pub addresses: BTreeSet<u32>,
}

struct Frame {
    /// The frame whose `leaving` is told what can throw here: itself, or one outside.
    sink: usize,
    leaving: Sources,
    /// Which `try` it is.
    number: Option<usize>,
    catches_all: bool,
}

struct Scanner<'a> {
    scan: Scan,
    frames: Vec<Frame>,
    lowered: &'a Lowered,
}

impl Scan {
    /// Validates the body, too.
    pub(super) fn of(body: &FunctionBody<'_>, validator: &mut FuncValidator<ValidatorResources>, lowered: &Lowered) -> Result<Scan> {
        let mut locals = body.get_locals_reader()?;
        for _ in 0..locals.get_count() {
            let at = locals.original_position();
            let (count, ty) = locals.read()?;
            validator.define_locals(at, count, ty)?;
        }
        let mut s = Scanner { scan: Scan::default(), frames: Vec::new(), lowered };
        s.frames.push(Frame { sink: 0, leaving: Sources::default(), number: None, catches_all: false });
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, at) = operators.read_with_offset()?;
            let operand = validator.get_operand_type(0).flatten();
            validator.op(at, &operator)?;
            if matches!(operator, Operator::RefIsNull) && operand.is_some_and(types::is_exception) {
                s.scan.exception_tests.insert(at);
            }
            s.operator(&operator);
        }
        operators.finish()?;
        Ok(s.scan)
    }
}

impl Scanner<'_> {
    /// An instruction that was found valid.
    fn operator(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => self.enter(),
            Operator::Try { .. } => {
                self.scan.endings.push(Ending::Nothing);
                self.enter_catching(Some(self.scan.endings.len() - 1), false);
                self.scan.depth = self.scan.depth.max(self.frames.iter().filter(|f| f.number.is_some()).count() as u32);
            }
            Operator::TryTable { try_table } => {
                let all = try_table.catches.iter().any(|c| matches!(c, Catch::All { .. } | Catch::AllRef { .. }));
                self.enter_catching(None, all);
            }
            Operator::Catch { .. } => self.catch(false),
            Operator::CatchAll => self.catch(true),
            Operator::Delegate { relative_depth } => {
                let frame = self.leave();
                if let Some(number) = frame.number {
                    self.scan.endings[number] = Ending::Delegate(*relative_depth);
                }
                let sink = self.frames[self.frames.len() - 1 - *relative_depth as usize].sink;
                self.frames[sink].leaving.append(frame.leaving);
            }
            Operator::End => {
                let frame = self.leave();
                match self.frames.last() {
                    None => self.scan.leaving.append(frame.leaving),
                    Some(outer) if !frame.catches_all => {
                        let sink = outer.sink;
                        self.frames[sink].leaving.append(frame.leaving);
                    }
                    Some(_) => {}
                }
            }
            Operator::Throw { .. } => self.sources().itself = true,
            Operator::ThrowRef => {
                self.scan.has_throw_ref = true;
                self.sources().itself = true;
            }
            Operator::Rethrow { .. } => {
                self.scan.has_rethrow = true;
                self.sources().itself = true;
            }
            Operator::Call { function_index } => {
                self.sources().calls.insert(*function_index);
            }
            Operator::CallIndirect { type_index, .. } => {
                let ty = self.lowered.index(*type_index);
                self.sources().indirect.insert(ty);
            }
            // Whose frame is gone catches nothing.
            Operator::ReturnCall { function_index } => {
                self.frames[0].leaving.calls.insert(*function_index);
            }
            Operator::ReturnCallIndirect { type_index, .. } => {
                let ty = self.lowered.index(*type_index);
                self.frames[0].leaving.indirect.insert(ty);
            }
            Operator::RefFunc { function_index } => {
                self.scan.addresses.insert(*function_index);
            }
            _ => {}
        }
    }

    fn enter(&mut self) {
        let sink = self.frames[self.frames.len() - 1].sink;
        self.frames.push(Frame { sink, leaving: Sources::default(), number: None, catches_all: false });
    }

    /// Begins what can catch.
    fn enter_catching(&mut self, number: Option<usize>, catches_all: bool) {
        self.frames.push(Frame { sink: self.frames.len(), leaving: Sources::default(), number, catches_all });
    }

    fn leave(&mut self) -> Frame {
        self.frames.pop().expect("a valid body ends as many blocks as it begins")
    }

    /// From here on the `try` catches nothing more: what its clauses throw is thrown outside of it.
    fn catch(&mut self, all: bool) {
        let at = self.frames.len() - 1;
        let outside = self.frames[at - 1].sink;
        let frame = &mut self.frames[at];
        (frame.sink, frame.catches_all) = (outside, frame.catches_all | all);
        if let Some(number) = frame.number {
            self.scan.endings[number] = Ending::Catches;
        }
    }

    /// Of the frame that gets what is thrown here.
    fn sources(&mut self) -> &mut Sources {
        let sink = self.frames[self.frames.len() - 1].sink;
        &mut self.frames[sink].leaving
    }
}
