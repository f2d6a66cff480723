//! The host CPU as oracle: a trampoline loads a whole state, runs one instruction, stores the state.

use crate::states::{DATA, DATA_BYTES, State};

/// Addresses below 2 GiB, so that absolute 32-bit displacements reach them without a base register.
const CODE: usize = 0x2100_0000;
const STATE: usize = 0x2200_0000;
const GPR: usize = STATE + 512;
const FLAGS: usize = GPR + 128;
const SAVED_RSP: usize = FLAGS + 8;

pub(crate) struct Cpu(());

fn map(address: usize, protection: i32) {
    // SAFETY: a fresh private anonymous page at an address nobody uses: MAP_FIXED_NOREPLACE refuses anything else.
    let p = unsafe { libc::mmap(address as *mut _, 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE, -1, 0) };
    assert_eq!(p as usize, address, "the page at {address:#x} is taken");
}

/// `op [absolute]` with a REX.W prefix for register `n`.
fn absolute(code: &mut Vec<u8>, opcode: &[u8], n: usize, address: usize) {
    code.push(0x48 | ((n >> 3) as u8) << 2);
    code.extend(opcode);
    code.extend([0x04 | (n as u8 & 7) << 3, 0x25]);
    code.extend((address as u32).to_le_bytes());
}

impl Cpu {
    pub(crate) fn new() -> Self {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        map(CODE, rw | libc::PROT_EXEC);
        map(STATE, rw);
        map(DATA as usize, rw);
        Self(())
    }

    /// Writes the trampoline for one instruction.
    pub(crate) fn load(&mut self, instruction: &[u8]) {
        let mut c: Vec<u8> = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];
        absolute(&mut c, &[0x89], 4, SAVED_RSP);
        absolute(&mut c, &[0x0f, 0xae], 1, STATE); // fxrstor64
        c.extend([0xff, 0x34, 0x25]); // push [flags]
        c.extend((FLAGS as u32).to_le_bytes());
        c.push(0x9d);
        for n in (0..16).filter(|n| *n != 4) {
            absolute(&mut c, &[0x8b], n, GPR + 8 * n);
        }
        c.extend(instruction);
        for n in (0..16).filter(|n| *n != 4) {
            absolute(&mut c, &[0x89], n, GPR + 8 * n);
        }
        c.extend([0x9c, 0x8f, 0x04, 0x25]); // pushfq; pop [flags]
        c.extend((FLAGS as u32).to_le_bytes());
        absolute(&mut c, &[0x0f, 0xae], 0, STATE); // fxsave64
        absolute(&mut c, &[0x8b], 4, SAVED_RSP);
        c.extend([0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xfc, 0xc3]);
        // SAFETY: the code page is ours (mapped in `new`) and the trampoline is far shorter than a page.
        unsafe { std::ptr::copy_nonoverlapping(c.as_ptr(), CODE as *mut u8, c.len()) };
    }

    /// One instruction outside the main loop's form (helpers), which is loaded again afterwards.
    pub(crate) fn once(instruction: &[u8], s: &State) -> State {
        let mut cpu = Self(());
        // SAFETY: the code page is mapped; a copy of it is put back.
        let saved = unsafe { std::slice::from_raw_parts(CODE as *const u8, 4096) }.to_vec();
        cpu.load(instruction);
        let out = cpu.run(s);
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(saved.as_ptr(), CODE as *mut u8, saved.len()) };
        out
    }

    pub(crate) fn run(&mut self, s: &State) -> State {
        let mut out = s.clone();
        // SAFETY: state and data pages are mapped in `new`; the trampoline keeps the callee-saved registers and touches only these pages; x87 and MXCSR
        // are restored to their defaults from the image below.
        unsafe {
            let image = STATE as *mut u8;
            std::ptr::write_bytes(image, 0, 512);
            image.cast::<u16>().write_unaligned(0x37f);
            image.add(4).write(!s.empty);
            std::ptr::copy_nonoverlapping(s.st.as_ptr().cast(), image.add(32), 128);
            image.add(24).cast::<u32>().write_unaligned(s.mxcsr);
            std::ptr::copy_nonoverlapping(s.xmm.as_ptr().cast(), image.add(160), 256);
            std::ptr::copy_nonoverlapping(s.gpr.as_ptr().cast(), GPR as *mut u8, 128);
            (FLAGS as *mut u64).write(u64::from(s.flags));
            std::ptr::copy_nonoverlapping(s.memory.as_ptr(), DATA as *mut u8, DATA_BYTES);
            let enter: extern "C" fn() = std::mem::transmute(CODE);
            enter();
            let default: u32 = 0x1f80;
            std::arch::asm!("ldmxcsr [{}]", "emms", in(reg) &default, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
            out.empty = !image.add(4).read();
            std::ptr::copy_nonoverlapping(image.add(32), out.st.as_mut_ptr().cast(), 128);
            std::ptr::copy_nonoverlapping(image.add(160), out.xmm.as_mut_ptr().cast(), 256);
            std::ptr::copy_nonoverlapping(GPR as *const u8, out.gpr.as_mut_ptr().cast(), 128);
            out.flags = (FLAGS as *const u64).read() as u32;
            std::ptr::copy_nonoverlapping(DATA as *const u8, out.memory.as_mut_ptr(), DATA_BYTES);
        }
        out
    }
}
