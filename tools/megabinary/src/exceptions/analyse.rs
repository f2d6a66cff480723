//! Which functions may throw: those that let an exception of their own out, or one of a function they call. Imported ones do not.

use super::{Module, Result};
use std::collections::{BTreeMap, BTreeSet};
use wasmparser::{ConstExpr, ElementItems, Operator, Payload, TableInit};

pub(super) struct Throwing {
    functions: Vec<bool>,
    /// Lowered types of functions that may throw and that a table may hold.
    indirect: BTreeSet<u32>,
}

impl Throwing {
    pub(super) fn of_function(&self, function: u32) -> bool {
        self.functions[function as usize]
    }

    /// Whether a call through a table may throw.
    pub(super) fn of_type(&self, lowered: u32) -> bool {
        self.indirect.contains(&lowered)
    }

    pub(super) fn of(m: &Module<'_>) -> Result<Self> {
        let addresses = addresses(m)?;
        let mut callers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut users: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut todo = Vec::new();
        for (function, (_, scan)) in (m.imported..).zip(&m.bodies) {
            scan.leaving.calls.iter().for_each(|f| callers.entry(*f).or_default().push(function));
            scan.leaving.indirect.iter().for_each(|t| users.entry(*t).or_default().push(function));
            if scan.leaving.itself {
                todo.push(function);
            }
        }
        let mut t = Throwing { functions: vec![false; m.functions.len()], indirect: BTreeSet::new() };
        while let Some(function) = todo.pop() {
            if std::mem::replace(&mut t.functions[function as usize], true) {
                continue;
            }
            todo.extend(callers.get(&function).into_iter().flatten());
            let ty = m.functions[function as usize];
            if addresses.contains(&function) && t.indirect.insert(ty) {
                todo.extend(users.get(&ty).into_iter().flatten());
            }
        }
        Ok(t)
    }
}

/// Functions that a table may come to hold.
fn addresses(m: &Module<'_>) -> Result<BTreeSet<u32>> {
    let mut found: BTreeSet<u32> = m.bodies.iter().flat_map(|(_, scan)| &scan.addresses).copied().collect();
    for section in &m.sections {
        match section {
            Payload::ElementSection(section) => {
                for element in section.clone() {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                found.insert(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                named(&expression?, &mut found)?;
                            }
                        }
                    }
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    named(&global?.init_expr, &mut found)?;
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    if let TableInit::Expr(expression) = table?.init {
                        named(&expression, &mut found)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn named(expression: &ConstExpr<'_>, found: &mut BTreeSet<u32>) -> Result<()> {
    for operator in expression.get_operators_reader() {
        if let Operator::RefFunc { function_index } = operator? {
            found.insert(function_index);
        }
    }
    Ok(())
}
