//! 128-bit by 64-bit division: div r/m64 and idiv r/m64. Owns the #DE rule: nothing is written when the quotient does not fit.

use core::arch::asm;
use syscalls::abi::CpuState;

const RAX: usize = 0;
const RDX: usize = 2;

/// div: returns 1 on #DE.
pub(super) fn unsigned(cpu: &mut CpuState, divisor: u64) -> u64 {
    let (high, low) = (cpu.gpr[RDX], cpu.gpr[RAX]);
    if divisor == 0 || high >= divisor {
        return 1;
    }
    let (quotient, remainder);
    // SAFETY: the quotient fits, since high < divisor. (Rust's u128 division is a loop.)
    unsafe { asm!("div {}", in(reg) divisor, inlateout("rax") low => quotient, inlateout("rdx") high => remainder, options(pure, nomem, nostack)) };
    (cpu.gpr[RAX], cpu.gpr[RDX]) = (quotient, remainder);
    0
}

/// idiv: returns 1 on #DE.
pub(super) fn signed(cpu: &mut CpuState, divisor: i64) -> u64 {
    let dividend = (u128::from(cpu.gpr[RDX]) << 64 | u128::from(cpu.gpr[RAX])).cast_signed();
    let divisor = i128::from(divisor);
    // `checked_div` refuses zero and i128::MIN / -1.
    let Some(quotient) = dividend.checked_div(divisor) else { return 1 };
    let Ok(fits) = i64::try_from(quotient) else { return 1 };
    cpu.gpr[RAX] = fits.cast_unsigned();
    cpu.gpr[RDX] = (dividend % divisor) as u64;
    0
}

#[cfg(test)]
mod tests {
    use crate::helper::testing::{Random, call, state};
    use syscalls::abi::helper;

    #[test]
    fn divides_as_the_host_does() {
        let mut random = Random(0x1234_5678_9abc_def1);
        for _ in 0..20_000 {
            let divisor = random.next() >> (random.next() % 63);
            let high = random.next() % divisor.max(1);
            let low = random.next();
            if divisor == 0 {
                continue;
            }
            // The helper is the host's own instruction: arithmetic is the other opinion.
            let dividend = u128::from(high) << 64 | u128::from(low);
            let (q, r) = ((dividend / u128::from(divisor)) as u64, (dividend % u128::from(divisor)) as u64);
            let mut cpu = state();
            (cpu.gpr[0], cpu.gpr[2]) = (low, high);
            assert_eq!(call(&mut cpu, helper::DIV64, divisor, 0), 0);
            assert_eq!((cpu.gpr[0], cpu.gpr[2]), (q, r));
        }
    }

    #[test]
    fn divides_signed_as_the_host_does() {
        let mut random = Random(77);
        for _ in 0..20_000 {
            let divisor = (random.next() >> (random.next() % 63)).cast_signed().max(2);
            let dividend = i128::from(random.next().cast_signed()) * i128::from(divisor) + i128::from(random.next() % divisor.cast_unsigned());
            let (low, high) = (dividend as u64, (dividend >> 64) as u64);
            let mut cpu = state();
            (cpu.gpr[0], cpu.gpr[2]) = (low, high);
            if call(&mut cpu, helper::IDIV64, divisor.cast_unsigned(), 0) == 1 {
                continue;
            }
            let (mut q, mut r) = (low, high);
            // SAFETY: the helper found that the quotient fits; a wrong finding is the failure this test is for.
            unsafe { core::arch::asm!("idiv {}", in(reg) divisor, inlateout("rax") q, inlateout("rdx") r) };
            assert_eq!((cpu.gpr[0], cpu.gpr[2]), (q, r));
        }
    }

    #[test]
    fn reports_a_divide_error_and_writes_nothing() {
        for (op, high, low, divisor) in [
            (helper::DIV64, 0, 1, 0),
            (helper::DIV64, 5, 0, 5),
            (helper::IDIV64, 0, 1, 0),
            (helper::IDIV64, 0, 1 << 63, 1),
            (helper::IDIV64, !0, 1 << 63, !0),
            (helper::IDIV64, 1 << 63, 0, !0),
        ] {
            let mut cpu = state();
            (cpu.gpr[0], cpu.gpr[2]) = (low, high);
            assert_eq!(call(&mut cpu, op, divisor, 0), 1);
            assert_eq!((cpu.gpr[0], cpu.gpr[2]), (low, high));
        }
    }
}
