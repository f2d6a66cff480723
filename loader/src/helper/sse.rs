//! `helper::SSE`: the reciprocal approximations, whose low bits differ between processor models: the host's own instructions compute them.
//!
//! Owns nothing of MXCSR: approximations do not round. The fact a newcomer gets wrong: the scalar forms keep the upper lanes of the *destination* (scratch[0]).

use core::arch::x86_64::{__m128, __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cvtsi128_si64, _mm_move_ss, _mm_rcp_ps, _mm_rcp_ss, _mm_rsqrt_ps, _mm_rsqrt_ss, _mm_set_epi64x, _mm_unpackhi_epi64};
use syscalls::abi::SseOp;

/// scratch[2] = operation(scratch[0], scratch[1]). Unknown codes change nothing: the lifter does not make them.
pub fn run(op: u64, scratch: &mut [[u64; 2]; 4]) {
    let (destination, source) = (load(scratch[0]), load(scratch[1]));
    const RCPPS: u64 = SseOp::Rcpps as u64;
    const RCPSS: u64 = SseOp::Rcpss as u64;
    const RSQRTPS: u64 = SseOp::Rsqrtps as u64;
    const RSQRTSS: u64 = SseOp::Rsqrtss as u64;
    // SAFETY: these intrinsics need SSE2 only, which every x86-64 processor has.
    let result = unsafe {
        match op {
            RCPPS => _mm_rcp_ps(source),
            RCPSS => _mm_move_ss(destination, _mm_rcp_ss(source)),
            RSQRTPS => _mm_rsqrt_ps(source),
            RSQRTSS => _mm_move_ss(destination, _mm_rsqrt_ss(source)),
            _ => return,
        }
    };
    scratch[2] = store(result);
}

fn load(v: [u64; 2]) -> __m128 {
    // SAFETY: SSE2, as above.
    unsafe { _mm_castsi128_ps(_mm_set_epi64x(v[1] as i64, v[0] as i64)) }
}

fn store(v: __m128) -> [u64; 2] {
    // SAFETY: SSE2, as above.
    unsafe {
        let v: __m128i = _mm_castps_si128(v);
        [_mm_cvtsi128_si64(v) as u64, _mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v)) as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_approximation_keeps_the_upper_lanes_of_the_destination() {
        let two = u64::from(2.0_f32.to_bits());
        let mut scratch = [[0x1111_1111_2222_2222, 0x3333_3333_4444_4444], [two | two << 32, 0], [0; 2], [0; 2]];
        run(SseOp::Rcpss as u64, &mut scratch);
        assert_eq!(scratch[2][1], 0x3333_3333_4444_4444);
        assert_eq!(scratch[2][0] >> 32, 0x1111_1111);
        let half = f32::from_bits(scratch[2][0] as u32);
        assert!((half - 0.5).abs() < 0.001);
    }
}
