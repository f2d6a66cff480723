//! Executes instruction bytes on this CPU, inside the test process: a trampoline loads the whole state, runs the bytes, saves the state.
//!
//! The fact a newcomer gets wrong: a fault in the bytes (#DE, #UD) must come back as a result, so signal handlers on their own stack move rip to the
//! trampoline's second half. One run at a time: the pages are at fixed addresses.

use super::state::{DATA, DATA_LEN, State, X87};
use iced_x86::RflagsBits;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, gpr64::*, qword_ptr};
use std::sync::{Mutex, MutexGuard, OnceLock};
use syscalls::abi::StopKind;

/// Where the bytes run: natively and as the guest's rip.
pub const GUEST_CODE: u64 = 0x1000_0800;
/// The trampoline's page; the second half follows the bytes at a fixed place.
const PAGE: u64 = 0x1000_0000;
const EXIT: u64 = 0x1000_0c00;
const FRAME: u64 = 0x1000_1000;
const PAGES_LEN: usize = 0x2000;

/// What the trampoline loads and saves, at `FRAME`.
#[repr(C, align(64))]
struct Frame {
    fx: [u8; 512],
    gpr: [u64; 16],
    flags: u64,
    host_rsp: u64,
    signal: u64,
}

const GPR: u64 = FRAME + 512;
const FLAGS: u64 = GPR + 128;
const HOST_RSP: u64 = FLAGS + 8;

static RUNNING: Mutex<()> = Mutex::new(());

/// Maps the pages, writes the trampoline, installs the handlers. Once per process.
fn prepare() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        map(PAGE, PAGES_LEN, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
        map(DATA, DATA_LEN, libc::PROT_READ | libc::PROT_WRITE);
        write_code(PAGE, &entry());
        write_code(EXIT, &exit());
        for signal in [libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSEGV, libc::SIGBUS] {
            handle(signal);
        }
    });
}

fn map(at: u64, len: usize, protection: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a fresh anonymous mapping at an address where nothing is (NOREPLACE).
    let p = unsafe { libc::mmap(at as *mut _, len, protection, flags, -1, 0) };
    assert_eq!(p as u64, at, "test pages cannot be mapped");
}

fn write_code(at: u64, code: &[u8]) {
    // SAFETY: `prepare` mapped the pages; the parts are at distances larger than the code.
    unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), at as *mut u8, code.len()) };
}

const GENERAL: [iced_x86::code_asm::AsmRegister64; 16] = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
const CALLEE_SAVED: [iced_x86::code_asm::AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];

/// Saves the host's registers, loads the guest's, falls into the bytes.
fn entry() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("assembler");
    let mut body = || -> Result<(), iced_x86::IcedError> {
        for r in CALLEE_SAVED {
            a.push(r)?;
        }
        a.mov(qword_ptr(HOST_RSP as i32), rsp)?;
        a.fxrstor64(iced_x86::code_asm::ptr(FRAME as i32))?;
        a.push(qword_ptr(FLAGS as i32))?;
        a.popfq()?;
        for (k, r) in GENERAL.into_iter().enumerate() {
            a.mov(r, qword_ptr((GPR + 8 * k as u64) as i32))?;
        }
        a.jmp(GUEST_CODE)
    };
    body().expect("trampoline assembles");
    a.assemble(PAGE).expect("trampoline assembles")
}

fn exit() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("assembler");
    let mut body = || -> Result<(), iced_x86::IcedError> {
        for (k, r) in GENERAL.into_iter().enumerate() {
            a.mov(qword_ptr((GPR + 8 * k as u64) as i32), r)?;
        }
        a.mov(rsp, qword_ptr(HOST_RSP as i32))?;
        a.pushfq()?;
        a.pop(qword_ptr(FLAGS as i32))?;
        a.cld()?;
        a.fxsave64(iced_x86::code_asm::ptr(FRAME as i32))?;
        a.fninit()?;
        // The host's rounding mode back.
        a.mov(dword_ptr((HOST_RSP + 16) as i32), 0x1f80)?;
        a.ldmxcsr(dword_ptr((HOST_RSP + 16) as i32))?;
        for r in CALLEE_SAVED.into_iter().rev() {
            a.pop(r)?;
        }
        a.ret()
    };
    body().expect("trampoline assembles");
    a.assemble(EXIT).expect("trampoline assembles")
}

fn handle(signal: i32) {
    // SAFETY: the action is fully initialised; the handler touches only the frame and the saved context.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A fault in the bytes: remember it and go on at the exit. Anywhere else it is a real crash.
extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a ucontext; only this thread uses it.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize] as u64;
    if !(GUEST_CODE..=EXIT).contains(&rip) {
        // SAFETY: plain system calls; returning re-executes the faulting instruction, which then kills the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    registers[libc::REG_RIP as usize] = EXIT as i64;
    // SAFETY: the frame is mapped for the whole life of the process.
    unsafe { (*(FRAME as *mut Frame)).signal = signal as u64 };
}

/// Each test thread needs a signal stack large enough for the widest vector state.
fn signal_stack() {
    thread_local!(static STACK: std::cell::OnceCell<Box<[u8]>> = const { std::cell::OnceCell::new() });
    STACK.with(|s| {
        s.get_or_init(|| {
            let mut memory = vec![0_u8; 256 << 10].into_boxed_slice();
            let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
            // SAFETY: the memory lives as long as the thread.
            assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0);
            memory
        });
    });
}

fn lock() -> MutexGuard<'static, ()> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs the bytes from `start`.
pub fn run(bytes: &[u8], start: &State) -> State {
    let _one = lock();
    prepare();
    signal_stack();
    assert!((bytes.len() as u64) < EXIT - GUEST_CODE - 8);
    write_code(GUEST_CODE, bytes);
    let mut jump = CodeAssembler::new(64).expect("assembler");
    jump.jmp(EXIT).expect("assembles");
    let at = GUEST_CODE + bytes.len() as u64;
    write_code(at, &jump.assemble(at).expect("assembles"));
    // SAFETY: both mappings exist since `prepare`, and the lock makes this thread their only user; the trampoline follows the C ABI.
    unsafe {
        std::ptr::copy_nonoverlapping(start.memory.as_ptr(), DATA as *mut u8, DATA_LEN);
        let frame = &mut *(FRAME as *mut Frame);
        *frame = Frame { fx: fx_image(start), gpr: start.gpr, flags: hardware_flags(start.flags), host_rsp: 0, signal: 0 };
        let trampoline: extern "C" fn() = std::mem::transmute(PAGE as *const ());
        trampoline();
        let frame = std::ptr::read(FRAME as *const Frame);
        let memory = std::slice::from_raw_parts(DATA as *const u8, DATA_LEN).to_vec();
        result(&frame, memory)
    }
}

/// iced numbers the flags in its own way. Bits of RFLAGS by iced bit.
const RFLAGS: [(u32, u32); 7] =
    [(RflagsBits::CF, 0), (RflagsBits::PF, 2), (RflagsBits::AF, 4), (RflagsBits::ZF, 6), (RflagsBits::SF, 7), (RflagsBits::DF, 10), (RflagsBits::OF, 11)];

/// With IF and the reserved bit.
fn hardware_flags(iced: u32) -> u64 {
    RFLAGS.iter().filter(|(b, _)| iced & b != 0).fold(0x202, |f, (_, n)| f | 1 << n)
}

fn iced_flags(hardware: u64) -> u32 {
    RFLAGS.iter().filter(|(_, n)| hardware >> n & 1 != 0).fold(0, |f, (b, _)| f | b)
}

/// The fxsave image of a state.
fn fx_image(s: &State) -> [u8; 512] {
    let mut fx = [0; 512];
    fx[0..2].copy_from_slice(&s.x87.control.to_le_bytes());
    fx[2..4].copy_from_slice(&s.x87.status.to_le_bytes());
    fx[4] = s.x87.tags;
    fx[24..28].copy_from_slice(&s.mxcsr.to_le_bytes());
    for k in 0..8 {
        fx[32 + 16 * k..48 + 16 * k].copy_from_slice(&s.x87.st[k]);
    }
    for k in 0..16 {
        for half in 0..2 {
            let at = 160 + 16 * k + 8 * half;
            fx[at..at + 8].copy_from_slice(&s.xmm[k][half].to_le_bytes());
        }
    }
    fx
}

fn result(frame: &Frame, memory: Vec<u8>) -> State {
    let fx = &frame.fx;
    let word = |at: usize| u16::from_le_bytes([fx[at], fx[at + 1]]);
    let quad = |at: usize| u64::from_le_bytes(fx[at..at + 8].try_into().expect("eight bytes"));
    let mut st = [[0; 16]; 8];
    for (k, register) in st.iter_mut().enumerate() {
        register[..10].copy_from_slice(&fx[32 + 16 * k..42 + 16 * k]);
    }
    let mut xmm = [[0; 2]; 16];
    for (k, x) in xmm.iter_mut().enumerate() {
        *x = [quad(160 + 16 * k), quad(168 + 16 * k)];
    }
    let stop = match frame.signal as i32 {
        0 => StopKind::None,
        libc::SIGFPE => StopKind::Divide,
        libc::SIGILL => StopKind::Undefined,
        libc::SIGTRAP => StopKind::Breakpoint,
        _ => StopKind::Protection,
    };
    State {
        gpr: frame.gpr,
        flags: iced_flags(frame.flags),
        xmm,
        mxcsr: u32::from(fx[24]) | u32::from(fx[25]) << 8,
        x87: X87 { control: word(0), status: word(2), tags: fx[4], st },
        memory,
        stop,
    }
}
