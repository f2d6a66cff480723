//! A stand-in for `x86.helper`, so that rows can be tested without the loader. Its operations are compared with the host CPU by every test that uses them.

use super::lifted::{Memories, read_cpu, write_cpu};
use syscalls::abi::{CpuState, helper};
use wasmtime::Caller;

/// The import: registers through `CpuState`, as in the runtime.
pub fn helper(mut caller: Caller<'_, Option<Memories>>, op: i32, a: i64, b: i64) -> i64 {
    let (guest, cpu) = {
        let m = caller.data().as_ref().expect("memories exist before the code runs");
        (m.guest, m.cpu)
    };
    let mut state = read_cpu(cpu.data(&caller));
    let result = operate(op as u32, a as u64, b as u64, &mut state, guest.data_mut(&mut caller));
    write_cpu(cpu.data_mut(&mut caller), &state);
    result as i64
}

fn operate(op: u32, a: u64, b: u64, s: &mut CpuState, memory: &mut [u8]) -> u64 {
    match op {
        helper::DIV64 => ((u128::from(b) << 64 | u128::from(s.gpr[0])) / u128::from(a)) as u64,
        helper::IDIV64 => divide_signed(s, a as i64),
        helper::CMPXCHG16B => compare_exchange_16(s, memory, a as usize),
        helper::LOCK_ADD..helper::LOCK_CMPXCHG => {
            let f = [u64::wrapping_add, u64::wrapping_sub, |x, y| x & y, |x, y| x | y, |x, y| x ^ y, |_, y| y][(op - helper::LOCK_ADD) as usize / 4];
            modify(memory, a, op & 3, |old| f(old, b))
        }
        helper::LOCK_CMPXCHG..=43 => {
            let expected = s.scratch[0][0];
            modify(memory, a, op & 3, |old| if old == expected { b } else { old })
        }
        helper::CRC32..=55 => crc32(a as u32, b, 1 << (op & 3)).into(),
        _ => panic!("helper {op} has no double in tests/support/double.rs"),
    }
}

fn divide_signed(s: &mut CpuState, divisor: i64) -> u64 {
    let n = (u128::from(s.gpr[2]) << 64 | u128::from(s.gpr[0])) as i128;
    match n.checked_div(divisor.into()).map(i64::try_from) {
        Some(Ok(q)) => {
            s.gpr[2] = (n % i128::from(divisor)) as u64;
            s.gpr[0] = q as u64;
            0
        }
        _ => 1,
    }
}

fn compare_exchange_16(s: &mut CpuState, memory: &mut [u8], at: usize) -> u64 {
    let cell = &mut memory[at..at + 16];
    let old = u128::from_le_bytes((&*cell).try_into().expect("16 bytes"));
    if old == u128::from(s.gpr[2]) << 64 | u128::from(s.gpr[0]) {
        cell.copy_from_slice(&(u128::from(s.gpr[1]) << 64 | u128::from(s.gpr[3])).to_le_bytes());
        return 1;
    }
    (s.gpr[0], s.gpr[2]) = (old as u64, (old >> 64) as u64);
    0
}

fn modify(memory: &mut [u8], at: u64, code: u32, f: impl Fn(u64) -> u64) -> u64 {
    let cell = &mut memory[at as usize..at as usize + (1 << code)];
    let mut word = [0; 8];
    word[..cell.len()].copy_from_slice(cell);
    let old = u64::from_le_bytes(word);
    cell.copy_from_slice(&f(old).to_le_bytes()[..1 << code]);
    old
}

/// CRC-32C, bit by bit.
fn crc32(crc: u32, data: u64, bytes: u32) -> u32 {
    let mut c = crc;
    for k in 0..8 * bytes {
        let bit = (data >> k) as u32 & 1;
        c = if (c ^ bit) & 1 != 0 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 };
    }
    c
}
