//! Calls without a `syscall` instruction: the functions of the vsyscall page, which old C libraries call by constant addresses.
//!
//! Owns what counts as naming one: a whole word of code or data, or a move of a constant into a register. The fact a newcomer gets wrong: there is no call graph to ask, as such a word may be used by anybody; so where it stands does not count.

use policy::manifest::SyscallEvidence;

/// The lower half of each function's address, in the order of `CALLS`; the upper one is all ones.
const ADDRESSES: [u32; 3] = [0xff60_0000, 0xff60_0400, 0xff60_0800];
const CALLS: [&str; 3] = ["gettimeofday", "time", "getcpu"];

/// Whether a file holds the address of one of the functions.
pub(super) fn is_named(bytes: &[u8]) -> bool {
    ADDRESSES.iter().any(|a| memchr::memmem::find_iter(bytes, &a.to_le_bytes()).any(|at| bytes[at + 4..].starts_with(&[0xff; 4]) || is_moved(&bytes[..at])))
}

/// Whether these bytes end with the beginning of `mov $imm32,%r64`, which extends the constant's sign.
fn is_moved(before: &[u8]) -> bool {
    matches!(before, [.., 0x48 | 0x49, 0xc7, 0xc0..=0xc7])
}

/// All of them: who knows one address can compute the others.
pub(super) fn add(e: &mut SyscallEvidence) {
    let new = CALLS.iter().filter(|name| !e.proved.contains(**name)).map(|name| (*name).to_owned());
    e.possible.extend(new.collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_page_is_seen_in_code_and_data_and_its_calls_stay_in_one_list() {
        // mov $0xffffffffff600400,%r11
        assert!(is_named(&[0x49, 0xc7, 0xc3, 0x00, 0x04, 0x60, 0xff]) && is_named(&0xffff_ffff_ff60_0000_u64.to_le_bytes()));
        assert!(!is_named(&[0x48, 0xc7, 0xc0, 0x00, 0x10, 0x60, 0xff]), "behind the functions");
        assert!(!is_named(&[0x05, 0x00, 0x04, 0x60, 0xff, 0x00, 0x00, 0x00]), "four bytes of something else");
        let mut e = SyscallEvidence { proved: ["time".to_owned()].into(), ..SyscallEvidence::default() };
        add(&mut e);
        assert_eq!((e.proved.len(), e.possible.into_iter().collect::<Vec<_>>()), (1, vec!["getcpu".to_owned(), "gettimeofday".into()]));
    }
}
