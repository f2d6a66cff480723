//! 128-bit by 64-bit division: div r/m64 and idiv r/m64. Owns the #DE rule: nothing is written when the quotient does not fit.

use core::arch::asm;
use syscalls::abi::CpuState;

const RAX: usize = 0;
const RDX: usize = 2;

/// div: the quotient of high:rax. The lifter's code has checked that it fits; where it does not, 0.
pub(super) fn unsigned(cpu: &CpuState, divisor: u64, high: u64) -> u64 {
    if high >= divisor {
        return 0;
    }
    let quotient;
    // SAFETY: the quotient fits, since high < divisor. (Rust's u128 division is a loop.)
    unsafe { asm!("div {}", in(reg) divisor, inlateout("rax") cpu.gpr[RAX] => quotient, inlateout("rdx") high => _, options(pure, nomem, nostack)) };
    quotient
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
            let q = (dividend / u128::from(divisor)) as u64;
            let mut cpu = state();
            cpu.gpr[0] = low;
            assert_eq!(call(&mut cpu, helper::DIV64, divisor, high), q);
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
    fn an_unsigned_quotient_that_does_not_fit_harms_nothing() {
        for (high, divisor) in [(0, 0), (5, 5), (!0, 1)] {
            assert_eq!(call(&mut state(), helper::DIV64, divisor, high), 0);
        }
    }

    #[test]
    fn reports_a_divide_error_and_writes_nothing() {
        for (high, low, divisor) in [(0, 1, 0), (0, 1 << 63, 1), (!0, 1 << 63, !0), (1 << 63, 0, !0)] {
            let mut cpu = state();
            (cpu.gpr[0], cpu.gpr[2]) = (low, high);
            assert_eq!(call(&mut cpu, helper::IDIV64, divisor, 0), 1);
            assert_eq!((cpu.gpr[0], cpu.gpr[2]), (low, high));
        }
    }
}
