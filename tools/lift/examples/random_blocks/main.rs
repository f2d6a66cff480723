//! Random basic blocks for `cargo xtask suite blocks`: instructions that follow each other, each working on what the ones before left in registers, flags and memory.
//!
//! `generate SEED COUNT` prints a block a line: its name and its instructions in hexadecimal. `assemble FILE` reads such lines and prints a program for `integration-tests/programs/x86/driver.c`, `show FILE` the
//! instructions as text. The fact a newcomer gets wrong: lines are the interface: whoever shrinks a block leaves out words of its line and knows no instruction.

#[path = "../../tests/support/forms.rs"]
mod forms;
mod generate;
#[path = "../instruction_twins/kind.rs"]
mod kind;
#[path = "../instruction_twins/program.rs"]
mod program;
#[path = "../../tests/support/random.rs"]
mod random;

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind};
use kind::Kind;
use lift::emit::Flags;
use program::{Entry, Operand, places};
use random::Random;
use std::io::Error;

/// What `forms` expects beside it.
mod native {
    pub(crate) const GUEST_CODE: u64 = 0x1000;
}

fn decode(bytes: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, native::GUEST_CODE, DecoderOptions::NONE).into_iter().collect()
}

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::other("usage: random_blocks generate SEED COUNT | assemble FILE | show FILE");
    let text = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", seed, count] => {
            let (seed, count): (u64, u64) = (seed.parse().map_err(Error::other)?, count.parse().map_err(Error::other)?);
            let pools = generate::Pools::new();
            (seed..seed + count).map(|seed| format!("{seed} {}\n", line(&pools.block(seed)))).collect()
        }
        ["assemble", file] => {
            let mut source = String::new();
            let entries: Vec<Entry> = std::fs::read_to_string(file)?.lines().filter_map(entry).collect();
            program::program(&entries, &mut source).map_err(Error::other)?;
            source
        }
        ["show", file] => std::fs::read_to_string(file)?.lines().map(|l| format!("{}\n", shown(l))).collect(),
        _ => return Err(usage()),
    };
    print!("{text}");
    Ok(())
}

fn line(block: &[Vec<u8>]) -> String {
    block.iter().map(|i| i.iter().map(|b| format!("{b:02x}")).collect()).collect::<Vec<String>>().join(" ")
}

/// Name and instructions of a line.
fn parsed(line: &str) -> Option<(&str, Vec<Instruction>, Vec<u8>)> {
    let (name, words) = line.split_once(' ')?;
    let byte = |word: &str, k: usize| u8::from_str_radix(word.get(k..k + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = words.split_whitespace().flat_map(|w| (0..w.len()).step_by(2).map(move |k| byte(w, k))).collect();
    let bytes = bytes?;
    Some((name, decode(&bytes), bytes))
}

/// None for a block that reads flags nobody defined: that is what leaving out an instruction can do.
fn entry(line: &str) -> Option<Entry> {
    let (name, instructions, bytes) = parsed(line)?;
    let mut undefined = 0;
    for i in &instructions {
        if i.rflags_read() & undefined != 0 {
            return None;
        }
        undefined = still_undefined(undefined, i);
    }
    let xmm = instructions.iter().any(|i| (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_xmm()));
    Some(Entry { name: name.to_owned(), bytes, kind: Kind::Block, xmm, flags: places(!undefined), operand: Operand::NONE })
}

/// Flags undefined after `i`, from those before. A variable shift count may be 0, which changes none.
fn still_undefined(before: u32, i: &Instruction) -> u32 {
    before & !Flags::killed_by(i).0 | i.rflags_undefined() & !Flags::left_by(i).0
}

fn shown(line: &str) -> String {
    let Some((name, instructions, _)) = parsed(line) else { return line.to_owned() };
    let mut formatter = NasmFormatter::new();
    let mut text = format!("block {name}:");
    for i in &instructions {
        text += "\n    ";
        formatter.format(i, &mut text);
    }
    text
}
