//! Modules made at random: four functions that call each other, note what they do, throw, catch, branch and return, in both forms.

use crate::twins;
use std::fmt::Write;

/// How many modules of each form.
const MODULES: u64 = 250;

/// Tags, and whether they have a payload.
const TAGS: [(&str, bool); 3] = [("$e", true), ("$g", true), ("$n", false)];

struct Block {
    name: String,
    /// Branches to it bring nothing.
    is_empty: bool,
    /// The clause that runs in it, of which there is something to throw again: in the standard form the number of the local.
    caught: Option<usize>,
}

struct Maker {
    state: u64,
    is_old: bool,
    text: String,
    blocks: Vec<Block>,
    names: usize,
    left: u32,
}

impl Maker {
    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A condition that holds now and then.
    fn condition(&mut self) {
        let mask = [1, 2, 4, 3, 7, 16][self.below(6) as usize];
        let _ = writeln!(self.text, "local.get $x i32.const {mask} i32.and i32.eqz");
    }

    fn enter(&mut self, is_empty: bool) -> String {
        self.names += 1;
        let name = format!("$b{}", self.names);
        self.blocks.push(Block { name: name.clone(), is_empty, caught: None });
        name
    }

    fn statements(&mut self) {
        for _ in 0..=self.below(3) {
            if self.left > 0 && self.blocks.len() < 9 {
                self.left -= 1;
                self.statement();
            }
        }
    }

    fn inside(&mut self, head: &str) {
        let name = self.enter(true);
        self.put(&format!("{head} {name}"));
        self.statements();
        if head == "loop" {
            self.put(&format!("call $fuel br_if {name}"));
        }
        self.put("end");
        self.blocks.pop();
    }

    fn statement(&mut self) {
        let number = self.below(100);
        match self.below(16) {
            0 => self.put(&format!("i32.const {number} call $note")),
            1 => self.put(&format!("local.get $x i32.const 5 i32.mul i32.const {number} i32.add local.set $x")),
            2 | 3 => self.put(&format!("local.get $x i32.const {number} i32.add call $f{} local.set $x", number % 4)),
            4 => self.put(&format!("local.get $x local.get $x i32.const {number} i32.add i32.const 3 i32.and call_indirect (type $unary) local.set $x")),
            5 => self.inside("block"),
            6 => self.inside("loop"),
            7 => {
                self.condition();
                self.inside("if");
            }
            8 | 9 => {
                self.condition();
                self.put("if");
                self.throw();
                self.put("end");
            }
            10 => self.leave(),
            11 => self.throw_again(),
            _ if self.is_old => self.old_try(),
            _ => self.try_table(),
        }
    }

    fn throw(&mut self) {
        let (tag, payload) = TAGS[self.below(3) as usize];
        if payload {
            self.put("local.get $x");
        }
        self.put(&format!("throw {tag}"));
    }

    /// Out of some block, or of the function; now and then for sure, with code behind it that never runs.
    fn leave(&mut self) {
        let empty: Vec<String> = self.blocks.iter().filter(|b| b.is_empty).map(|b| b.name.clone()).collect();
        let certain = self.below(4) == 0;
        let at = self.below(empty.len() as u64 + 1) as usize;
        match empty.get(at) {
            // Behind a loop's beginning there would be no end.
            Some(name) if !self.text.contains(&format!("loop {name}\n")) => {
                if !certain {
                    self.condition();
                }
                self.put(&format!("{} {name}", if certain { "br" } else { "br_if" }));
            }
            _ => {
                self.condition();
                self.put("if local.get $x return end");
            }
        }
    }

    fn throw_again(&mut self) {
        let caught: Vec<(String, usize)> = self.blocks.iter().filter_map(|b| b.caught.map(|local| (b.name.clone(), local))).collect();
        if caught.is_empty() {
            return;
        }
        let (name, local) = caught[self.below(caught.len() as u64) as usize].clone();
        self.condition();
        if self.is_old {
            // The `if` is a block between.
            self.put(&format!("if rethrow {name} end"));
        } else {
            self.put(&format!("if local.get $k{local} throw_ref end"));
        }
    }

    /// Some of the tags, each at most once, and perhaps all others.
    fn clauses(&mut self) -> (Vec<usize>, bool) {
        let tags = (0..3).filter(|_| self.below(2) == 0).collect();
        (tags, self.below(3) == 0)
    }

    /// Behind a clause's beginning: the payload is noted or kept, and what the block gives is made.
    fn clause(&mut self, payload: bool, valued: bool) {
        if payload {
            let to = if self.below(2) == 0 { "local.set $x" } else { "call $note" };
            self.put(to);
        }
        self.statements();
        if valued {
            self.put("local.get $x i32.const 3 i32.xor");
        }
    }

    /// What a `try` begins with, and what its values are for.
    fn head(&mut self) -> (bool, &'static str) {
        let valued = self.below(2) == 0;
        if valued {
            self.put("i32.const 1000");
        }
        (valued, if valued { "(result i32)" } else { "" })
    }

    fn tail(&mut self, valued: bool) {
        if valued {
            self.put("i32.add local.set $x");
        }
    }

    fn old_try(&mut self) {
        let outside = self.blocks.len();
        let (valued, result) = self.head();
        let name = self.enter(!valued);
        self.put(&format!("try {name} {result}"));
        self.statements();
        if valued {
            self.put("local.get $x");
        }
        if self.below(4) == 0 {
            self.blocks.pop();
            let depth = self.below(outside as u64 + 1);
            self.put(&format!("delegate {depth}"));
        } else {
            let (tags, all) = self.clauses();
            self.blocks[outside].caught = Some(0);
            for tag in tags {
                self.put(&format!("catch {}", TAGS[tag].0));
                self.clause(TAGS[tag].1, valued);
            }
            if all {
                self.put("catch_all");
                self.clause(false, valued);
            }
            self.put("end");
            self.blocks.pop();
        }
        self.tail(valued);
    }

    fn try_table(&mut self) {
        let depth = self.blocks.len();
        let (valued, result) = self.head();
        let name = self.enter(!valued);
        self.put(&format!("block {name} {result}"));
        let (tags, all) = self.clauses();
        let mut clauses: Vec<_> = tags.iter().map(|t| (format!("catch{{}} {}", TAGS[*t].0), TAGS[*t].1)).collect();
        if all {
            clauses.push(("catch_all{}".to_owned(), false));
        }
        let clauses: Vec<_> = clauses.into_iter().map(|(text, payload)| (text, payload, self.below(2) == 0)).collect();
        let mut listed = String::new();
        for (i, (_, payload, kept)) in clauses.iter().enumerate().rev() {
            let types = [(*payload).then_some("i32"), kept.then_some("exnref")].into_iter().flatten().collect::<Vec<_>>().join(" ");
            self.put(&format!("block {name}c{i} (result {types})"));
        }
        for (i, (text, _, kept)) in clauses.iter().enumerate() {
            let _ = write!(listed, "({} {name}c{i})", text.replace("{}", if *kept { "_ref" } else { "" }));
        }
        let body = self.enter(!valued);
        self.put(&format!("try_table {body} {result} {listed}"));
        self.statements();
        if valued {
            self.put("local.get $x");
        }
        self.put(&format!("end br {name}"));
        self.blocks.pop();
        for (i, (_, payload, kept)) in clauses.iter().enumerate() {
            self.put("end");
            if *kept {
                self.put(&format!("local.set $k{depth}"));
                self.blocks[depth].caught = Some(depth);
            }
            self.clause(*payload, valued);
            self.blocks[depth].caught = None;
            if i + 1 < clauses.len() {
                self.put(&format!("br {name}"));
            }
        }
        if clauses.is_empty() {
            self.put("unreachable");
        }
        self.put("end");
        self.blocks.pop();
        self.tail(valued);
    }
}

/// Text without blocks in parentheses, which is how the older form is written for `wat`.
fn module(seed: u64, is_old: bool) -> String {
    let mut m = Maker { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, is_old, text: String::new(), blocks: Vec::new(), names: 0, left: 0 };
    m.put(
        r#"(module (memory (export "memory") 1) (func (export "_start"))
        (tag $e (param i32)) (tag $g (param i32)) (tag $n) (type $unary (func (param i32) (result i32)))
        (table 4 funcref) (elem (i32.const 0) $f0 $f1 $f2 $f3)
        (global $notes (mut i32) (i32.const 0)) (global $left (mut i32) (i32.const 40))
        (func $note (param i32)
            (i32.store8 (i32.and (global.get $notes) (i32.const 1023)) (local.get 0))
            (global.set $notes (i32.add (global.get $notes) (i32.const 1))))
        (func $fuel (result i32)
            (global.set $left (i32.sub (global.get $left) (i32.const 1)))
            (i32.gt_s (global.get $left) (i32.const 0)))"#,
    );
    for i in 0..4 {
        m.left = 14;
        let export = if i == 0 { "(export \"f\")" } else { "" };
        let kept: String = if is_old { String::new() } else { (0..10).map(|k| format!("(local $k{k} exnref)")).collect() };
        m.put(&format!("(func $f{i} {export} (param $x i32) (result i32) {kept} call $fuel i32.eqz if i32.const {i} return end"));
        m.statements();
        m.put("local.get $x)");
    }
    m.put(")");
    m.text
}

#[test]
fn random_modules_of_the_older_form_do_what_they_do_in_node() {
    let texts: Vec<_> = (1..=MODULES).map(|seed| module(seed, true)).collect();
    let modules: Vec<_> = texts.iter().map(|t| wat::parse_str(t).unwrap_or_else(|e| panic!("{e}\n{t}"))).collect();
    twins(&texts, &modules, &crate::under_node(&modules));
}

#[test]
fn random_modules_of_the_standard_form_do_what_they_do_in_wasmtime() {
    let texts: Vec<_> = (1..=MODULES).map(|seed| module(seed, false)).collect();
    crate::standard(&texts);
}

/// Some bytes of each are others: whatever it is then, it is refused with a reason, or lowered to what is valid.
#[test]
fn changed_modules_are_refused_or_still_lowered() {
    let mut taken = 0;
    for seed in 1..=40 {
        let mut m = Maker { state: seed * 77 + 1, is_old: false, text: String::new(), blocks: Vec::new(), names: 0, left: 0 };
        let whole = wat::parse_str(module(seed, seed % 2 == 0)).unwrap();
        for _ in 0..250 {
            let mut changed = whole.clone();
            for _ in 0..=m.below(2) {
                let at = m.below(changed.len() as u64) as usize;
                changed[at] = m.below(256) as u8;
            }
            match megabinary::read_wasi("m", &changed) {
                Ok((lowered, _)) => {
                    wasmparser::Validator::new_with_features(megabinary::wasi_features()).validate_all(&lowered).unwrap();
                    taken += 1;
                }
                Err(e) => assert!(!e.to_string().contains("too much in it") || e.to_string().contains("too many"), "{e}"),
            }
        }
    }
    assert!(taken > 500, "{taken} modules were still valid");
}
