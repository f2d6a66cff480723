//! fxsave, fxrstor, xsave, xsavec, xrstor, ldmxcsr: the guest's extended state between `CpuState` and memory (SDM vol. 1, 10.5 and 13).
//!
//! Owns the layout of the legacy region, which `x87` shares. The fact a newcomer gets wrong: the last instruction and operand pointers are always zero: they would be host addresses.

use super::guarded::{Guest, GuestFault};
use syscalls::abi::CpuState;

/// Components of the extended state: x87 and SSE.
pub(super) const XCR0: u64 = 3;
const X87: u64 = 1;
const SSE: u64 = 2;
/// Bits of MXCSR that exist, as the legacy region's MXCSR_MASK says.
const MXCSR_MASK: u32 = 0xffff;
const COMPACT: u64 = 1 << 63;

/// Offsets in the legacy region.
const MXCSR_AT: usize = 24;
const ST_AT: usize = 32;
const XMM_AT: usize = 160;
/// Bytes up to the last register; the rest of the 512 is left alone.
const USED: usize = 416;
const HEADER_AT: u64 = 512;

/// A legacy region.
#[repr(C, align(16))]
pub(super) struct Region(pub(super) [u8; 512]);

impl Region {
    pub(super) fn empty() -> Self {
        let mut r = Self([0; 512]);
        r.0[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
        r
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub(super) fn put_x87(&mut self, cpu: &CpuState) {
        let top = cpu.ftop & 7;
        let fsw = cpu.fsw & !0x3800 | top << 11;
        self.0[0..2].copy_from_slice(&cpu.fcw.to_le_bytes());
        self.0[2..4].copy_from_slice(&fsw.to_le_bytes());
        self.0[4] = !(cpu.fempty as u8);
        self.0[5] = 0;
        for i in 0..8 {
            let at = ST_AT + 16 * i;
            self.0[at..at + 10].copy_from_slice(&cpu.st[(usize::from(top) + i) & 7][..10]);
            self.0[at + 10..at + 16].fill(0);
        }
    }

    pub(super) fn take_x87(&self, cpu: &mut CpuState) {
        let fsw = self.half(2);
        cpu.fcw = self.half(0);
        cpu.ftop = fsw >> 11 & 7;
        cpu.fsw = CpuState::summarised(fsw, cpu.fcw);
        cpu.fempty = u16::from(!self.0[4]);
        for i in 0..8 {
            let at = ST_AT + 16 * i;
            let register = &mut cpu.st[(usize::from(cpu.ftop) + i) & 7];
            *register = [0; 16];
            register[..10].copy_from_slice(&self.0[at..at + 10]);
        }
    }

    fn put_mxcsr(&mut self, cpu: &CpuState) {
        self.0[MXCSR_AT..MXCSR_AT + 4].copy_from_slice(&cpu.mxcsr.to_le_bytes());
        self.0[MXCSR_AT + 4..MXCSR_AT + 8].copy_from_slice(&MXCSR_MASK.to_le_bytes());
    }

    /// #GP when a reserved bit is set.
    fn mxcsr(&self) -> Result<u32, GuestFault> {
        let b = &self.0[MXCSR_AT..MXCSR_AT + 4];
        checked_mxcsr(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn put_sse(&mut self, cpu: &CpuState) {
        for (i, x) in cpu.xmm.iter().flatten().enumerate() {
            self.0[XMM_AT + 8 * i..XMM_AT + 8 * i + 8].copy_from_slice(&x.to_le_bytes());
        }
    }

    fn take_sse(&self, cpu: &mut CpuState) {
        for (i, x) in cpu.xmm.iter_mut().flatten().enumerate() {
            let mut b = [0; 8];
            b.copy_from_slice(&self.0[XMM_AT + 8 * i..XMM_AT + 8 * i + 8]);
            *x = u64::from_le_bytes(b);
        }
    }
}

fn checked_mxcsr(value: u32) -> Result<u32, GuestFault> {
    if value & !MXCSR_MASK == 0 { Ok(value) } else { Err(GuestFault::protection()) }
}

fn aligned(addr: u64, to: u64) -> Result<(), GuestFault> {
    if addr.is_multiple_of(to) { Ok(()) } else { Err(GuestFault::protection()) }
}

pub(super) fn ldmxcsr(cpu: &mut CpuState, value: u32) -> Result<(), GuestFault> {
    cpu.mxcsr = checked_mxcsr(value)?;
    Ok(())
}

pub(super) fn fxsave(cpu: &CpuState, guest: Guest, addr: u64) -> Result<(), GuestFault> {
    aligned(addr, 16)?;
    let mut region = Region::empty();
    region.put_x87(cpu);
    region.put_mxcsr(cpu);
    region.put_sse(cpu);
    guest.write(addr, &region.0[..USED])
}

pub(super) fn fxrstor(cpu: &mut CpuState, guest: Guest, addr: u64) -> Result<(), GuestFault> {
    aligned(addr, 16)?;
    let mut region = Region::empty();
    guest.read(addr, &mut region.0[..USED])?;
    cpu.mxcsr = region.mxcsr()?;
    region.take_x87(cpu);
    region.take_sse(cpu);
    Ok(())
}

/// xsave and xsavec of x87 and SSE: both keep the legacy layout for these two components.
pub(super) fn xsave(cpu: &CpuState, guest: Guest, addr: u64, mask: u64, compact: bool) -> Result<(), GuestFault> {
    aligned(addr, 64)?;
    let wanted = mask & XCR0;
    let mut region = Region::empty();
    if wanted & X87 != 0 {
        region.put_x87(cpu);
        guest.write(addr, &region.0[..MXCSR_AT])?;
        guest.write(addr + ST_AT as u64, &region.0[ST_AT..XMM_AT])?;
    }
    if wanted & SSE != 0 {
        region.put_mxcsr(cpu);
        region.put_sse(cpu);
        guest.write(addr + MXCSR_AT as u64, &region.0[MXCSR_AT..ST_AT])?;
        guest.write(addr + XMM_AT as u64, &region.0[XMM_AT..USED])?;
    }
    let mut header = [0; 16];
    if !compact {
        guest.read(addr + HEADER_AT, &mut header)?;
        let old = u64::from_le_bytes([header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7]]);
        header[..8].copy_from_slice(&(old & !wanted | wanted).to_le_bytes());
        return guest.write(addr + HEADER_AT, &header[..8]);
    }
    header[..8].copy_from_slice(&wanted.to_le_bytes());
    header[8..].copy_from_slice(&(COMPACT | wanted).to_le_bytes());
    guest.write(addr + HEADER_AT, &header)
}

pub(super) fn xrstor(cpu: &mut CpuState, guest: Guest, addr: u64, mask: u64) -> Result<(), GuestFault> {
    aligned(addr, 64)?;
    let mut header = [0; 16];
    guest.read(addr + HEADER_AT, &mut header)?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    let (present, compaction) = (word(0), word(8));
    if present & !XCR0 != 0 || compaction & !(COMPACT | XCR0) != 0 {
        return Err(GuestFault::protection());
    }
    let mut region = Region::empty();
    guest.read(addr, &mut region.0[..USED])?;
    // The registers an absent component is initialised to.
    let mut initial = Region::empty();
    initial.0[..2].copy_from_slice(&0x37fu16.to_le_bytes());
    let wanted = mask & XCR0;
    let mxcsr = if wanted & SSE != 0 { region.mxcsr()? } else { cpu.mxcsr };
    if wanted & X87 != 0 {
        if present & X87 != 0 { &region } else { &initial }.take_x87(cpu);
    }
    if wanted & SSE != 0 {
        cpu.mxcsr = mxcsr;
        if present & SSE != 0 { &region } else { &initial }.take_sse(cpu);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::testing::{Random, call, guest, state};
    use syscalls::abi::helper as op;

    #[repr(C, align(64))]
    struct Area([u8; 1024]);

    fn filled(random: &mut Random) -> Box<CpuState> {
        let mut cpu = state();
        cpu.xmm = std::array::from_fn(|_| [random.next(), random.next()]);
        for (i, st) in cpu.st.iter_mut().enumerate() {
            st[..8].copy_from_slice(&(random.next() | 1 << 63).to_le_bytes());
            st[8..10].copy_from_slice(&[i as u8, 0x40]);
        }
        (cpu.ftop, cpu.fempty, cpu.fsw, cpu.fcw, cpu.mxcsr) = (5, 0b0001_1000, 0x4100, 0x27f, 0x3f80);
        cpu
    }

    fn same(a: &CpuState, b: &CpuState) -> bool {
        (a.xmm, a.st, a.fcw, a.fsw, a.fempty, a.ftop, a.mxcsr) == (b.xmm, b.st, b.fcw, b.fsw, b.fempty, b.ftop, b.mxcsr)
    }

    #[test]
    fn fxrstor_brings_back_what_fxsave_stored() {
        let mut area = Area([0xee; 1024]);
        let cpu = &mut filled(&mut Random(3));
        let at = area.0.as_mut_ptr() as u64;
        call(cpu, op::FXSAVE, at, !0);
        assert!(area.0[USED..].iter().all(|b| *b == 0xee));
        let mut other = state();
        call(&mut other, op::FXRSTOR, at, !0);
        assert!(same(cpu, &other));
    }

    #[test]
    fn fxsave_writes_the_layout_the_host_reads() {
        let mut area = Area([0; 1024]);
        let cpu = &mut filled(&mut Random(8));
        let at = area.0.as_mut_ptr() as u64;
        call(cpu, op::FXSAVE, at, !0);
        let mut back = Area([0; 1024]);
        // SAFETY: both areas are aligned and large enough; the host's x87 and MXCSR are reset afterwards.
        unsafe {
            core::arch::asm!(
                "fxrstor64 [{a}]", "fxsave64 [{b}]", "fninit", "ldmxcsr [{m}]",
                a = in(reg) area.0.as_ptr(), b = in(reg) back.0.as_mut_ptr(), m = in(reg) &0x1f80u32,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            );
        }
        assert_eq!(area.0[..28], back.0[..28]);
        assert_eq!(area.0[32..USED], back.0[32..USED]);
    }

    #[test]
    fn xsave_and_xrstor_touch_only_the_components_asked_for() {
        for compact in [op::XSAVE, op::XSAVEC] {
            let mut area = Area([0; 1024]);
            let cpu = &mut filled(&mut Random(9));
            let at = area.0.as_mut_ptr() as u64;
            call(cpu, compact, at, 2);
            let mut other = state();
            call(&mut other, op::XRSTOR, at, 7);
            assert_eq!((other.xmm, other.mxcsr), (cpu.xmm, cpu.mxcsr));
            assert_eq!((other.fcw, other.fempty, other.st), (0x37f, 0xff, [[0; 16]; 8]), "an absent component is initialised");
        }
    }

    #[test]
    fn misaligned_areas_and_reserved_mxcsr_bits_are_refused_and_change_nothing() {
        let mut area = Area([0xff; 1024]);
        let at = area.0.as_mut_ptr() as u64;
        let mut cpu = filled(&mut Random(10));
        let before = cpu.clone();
        assert!(fxsave(&cpu, guest(), at + 8).is_err());
        assert!(fxrstor(&mut cpu, guest(), at).is_err());
        assert!(ldmxcsr(&mut cpu, 0x1_0000).is_err());
        assert!(same(&cpu, &before));
        assert!(ldmxcsr(&mut cpu, 0xffff).is_ok());
    }
}
