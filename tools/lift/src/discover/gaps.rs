//! Code that nothing in the file is known to refer to: candidates checked before they are believed, and what nobody claims.
//!
//! Owns the plausibility check (a straight run of sane instructions up to a terminator) and the scan of executable segments. Refuses
//! to believe data: a rejected run stays uncovered and is listed as a leftover. The fact a newcomer gets wrong: a
//! surplus block costs a little space, a missing one stops a program.

use super::code::{Code, mark, padding_length};
use super::jump_table::JumpTables;
use crate::language::Language;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind};

/// A straight run this long is believed without seeing its end.
const ENOUGH: usize = 64;
/// Outside frames, functions start at multiples of this.
const ALIGNMENT: u64 = 16;

/// Starts blocks at those candidates that look like code.
pub(super) fn add_candidates(code: &mut Code, tables: &mut JumpTables, candidates: &[u64]) {
    for &address in candidates {
        if code.at(address).is_some() || believable(code, address) || is_misread(code, address) {
            code.start_block(address, mark::TAKEN);
            code.follow();
        }
    }
    tables.resolve_new(code);
}

/// Whether what was decoded over `address`, without starting there, may be a mistake: Haskell's code lies between data without call frames that would tell them apart, so what reads as code and is none covers code. Then both are kept.
fn is_misread(code: &Code, address: u64) -> bool {
    code.image.language == Some(Language::Haskell) && code.image.frame_index(address).is_none() && code.is_inside_instruction(address)
}

/// Decodes what is left: first inside frames (blocks of that function), then outside (functions of their own).
pub(super) fn fill(code: &mut Code, tables: &mut JumpTables) {
    for inside_frames in [true, false] {
        for (start, end) in code.ranges() {
            let mut address = start;
            while address < end {
                address = fill_at(code, address, inside_frames);
            }
        }
        tables.resolve_new(code);
    }
}

/// Starts blocks where the guest goes on after breakpoints. What looks like one outside all frames is padding or data.
pub(super) fn follow_breakpoints(code: &mut Code) {
    while let Some(next) = code.behind_breakpoints.pop() {
        let home = |address: u64| code.image.frame_index(address);
        let framed = code.image.frames.is_empty() || home(next).is_some() && home(next) == home(next - 1);
        if framed && (code.at(next).is_some() || believable(code, next)) {
            code.start_block(next, 0);
            code.follow();
        }
    }
}

/// Looks at one byte; returns the next address to look at.
fn fill_at(code: &mut Code, address: u64, inside_frames: bool) -> u64 {
    if code.marks(address) & (mark::COVERED | mark::DATA) != 0 {
        return address + 1;
    }
    let frame = code.image.frame_index(address);
    if frame.is_some() != inside_frames {
        return address + 1;
    }
    let padding = padding_length(code.image.rest(address));
    if padding != 0 {
        return address + padding as u64;
    }
    if believable(code, address) {
        code.start_block(address, if inside_frames { 0 } else { mark::GAP_ENTRY });
        code.follow();
        return address + 1;
    }
    if inside_frames { address + 1 } else { (address + 1).next_multiple_of(ALIGNMENT) }
}

/// Uncovered ranges that are not padding.
pub(super) fn leftovers(code: &Code) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (start, end) in code.ranges() {
        let mut address = start;
        while address < end {
            if code.marks(address) & mark::COVERED != 0 {
                address += 1;
                continue;
            }
            let padding = padding_length(code.image.rest(address)) as u64;
            let next = address + padding.max(1);
            if padding == 0 {
                match found.last_mut() {
                    Some(last) if last.1 == address => last.1 = next,
                    _ => found.push((address, next)),
                }
            }
            address = next;
        }
    }
    found
}

/// How many bytes of the leftovers are data, and the ranges in call frames that are otherwise code. A file without frames claims nothing, so all its leftovers are unclaimed.
pub(super) fn data_and_unclaimed(code: &Code, leftovers: &[(u64, u64)]) -> (u64, Vec<(u64, u64)>) {
    let no_frames = code.image.frames.is_empty();
    let is_data = |address: u64| code.marks(address) & mark::DATA != 0 || !no_frames && code.image.frame_index(address).is_none();
    let (mut data, mut unclaimed) = (0, Vec::<(u64, u64)>::new());
    for address in leftovers.iter().flat_map(|&(start, end)| start..end) {
        match unclaimed.last_mut() {
            _ if is_data(address) => data += 1,
            Some(last) if last.1 == address => last.1 += 1,
            _ => unclaimed.push((address, address + 1)),
        }
    }
    (data, unclaimed)
}

/// Whether the bytes at `address` read as a run of ordinary instructions that does not contradict what is decoded already.
pub(super) fn believable(code: &Code, address: u64) -> bool {
    if code.marks(address) & (mark::COVERED | mark::DATA) != 0 {
        return false;
    }
    let bytes = code.image.rest(address);
    if bytes.first().is_none_or(|&b| b == 0) {
        return false;
    }
    let limit = code.limit(address);
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    for _ in 0..ENOUGH {
        let at = decoder.ip();
        if at >= limit || code.at(at).is_some() {
            return at <= limit;
        }
        if code.marks(at) & (mark::COVERED | mark::DATA) != 0 || !decoder.can_decode() {
            return false;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() || !ordinary(instruction.mnemonic()) {
            return false;
        }
        let target = matches!(instruction.op0_kind(), OpKind::NearBranch64).then(|| instruction.near_branch_target());
        if let Some(target) = target
            && (!code.image.is_code(target) || code.is_inside_instruction(target))
        {
            return false;
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::Call | FlowControl::IndirectCall | FlowControl::XbeginXabortXend => {}
            FlowControl::Interrupt if instruction.mnemonic() == Mnemonic::Syscall => {}
            _ => return true,
        }
    }
    true
}

/// Instructions that user programs contain.
fn ordinary(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    !matches!(
        mnemonic,
        In | Out | Insb | Insd | Insw | Outsb | Outsd | Outsw | Iret | Iretd | Iretq | Retf | Cli | Sti | Hlt | Lgdt | Lidt | Wrmsr | Rdmsr | Int1 | Enter | Xlatb | Fnsave
    )
}
