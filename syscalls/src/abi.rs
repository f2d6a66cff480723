//! The contract between lifted code and the runtime: `CpuState`, import names, tags, helper numbers.
//!
//! Owns every number that both the lifter (which emits code) and the loader (which runs it) must agree on; ARCHITECTURE.md
//! explains what they mean. The fact a newcomer gets wrong: while structured code runs, most registers of `CpuState` are stale: `structured` says
//! which travel as parameters and results. They are exact only at tagged exits, at syscalls and in resumable code.

/// Bit 63 of a next-pc: the whole state is in `CpuState`, abandon every wasm frame (see ARCHITECTURE.md, "Tagged pcs").
pub const TAG: u64 = 1 << 63;

/// Guest code lies below this address; the code map has one `u32` per byte of it.
pub const CODE_LIMIT: u64 = 1 << 30;

/// Import names, module then field.
pub mod import {
    pub const MODULE: &str = "vk";
    pub const MEM: &str = "mem";
    pub const CPU: &str = "cpu";
    pub const CODEMAP: &str = "codemap";
    pub const TABLE: &str = "table";
    pub const SLOT_BASE: &str = "slot_base";
    pub const ANY: &str = "any";
    pub const LINUX: &str = "linux";
    pub const SYSCALL: &str = "syscall";
    pub const X86: &str = "x86";
    pub const HELPER: &str = "helper";
    pub const MEM_INDEX: u32 = 0;
    pub const CPU_INDEX: u32 = 1;
    pub const CODEMAP_INDEX: u32 = 2;
    /// Indices of the imported globals: where the shard's slots begin, and an `i64` that stands where no value matters.
    pub const SLOT_BASE_INDEX: u32 = 0;
    pub const ANY_INDEX: u32 = 1;
    /// Function indices of the imports.
    pub const SYSCALL_INDEX: u32 = 0;
    pub const HELPER_INDEX: u32 = 1;
    pub const FUNCTIONS: u32 = 2;
}

/// The type of structured functions: which registers are parameters, and which are results. All are `i64` but rsp, which is `i32`.
///
/// The order is that of LLVM's `x86_regcallcc`, which passes both in rax, rcx, rdx, rdi, rsi, r8, r9, r12..r15: what a function is given and gives back stands at the
/// same place in both, so that a value which only passes through never moves.
pub mod structured {
    /// General registers by their encoding: rdi rsi rdx rsp rbx rbp r12 r13 r14 r15 rcx.
    pub const PARAMETERS: [usize; 11] = [7, 6, 2, RSP, 3, 5, 12, 13, 14, 15, 1];
    /// rax, the next pc, rdx rsp rbx rbp r12 r13 r14 r15. rsp is the caller's again: behind the return address.
    pub const RESULTS: [usize; 10] = [0, NEXT_PC, 2, RSP, 3, 5, 12, 13, 14, 15];
    /// In the place of a register: the next pc.
    pub const NEXT_PC: usize = 16;
    pub const RSP: usize = 4;
    /// Where a register stands among the parameters.
    pub const fn parameter(register: usize) -> Option<usize> {
        position(&PARAMETERS, register)
    }
    /// Where a register (or the next pc) stands among the results.
    pub const fn result(register: usize) -> Option<usize> {
        position(&RESULTS, register)
    }

    const fn position(registers: &[usize], register: usize) -> Option<usize> {
        let mut k = 0;
        while k < registers.len() {
            if registers[k] == register {
                return Some(k);
            }
            k += 1;
        }
        None
    }
}

/// What compiled structured code finds in the page of memory 1 behind `CpuState`: addresses of the runtime's. Lifted code has no name for them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Links {
    /// Base of memory 2.
    pub codemap: usize,
    /// Addresses of the code of all slots, the miss stub's where nothing else stands.
    pub code: usize,
    /// First argument of imported functions.
    pub environment: usize,
    /// The imported functions, by index.
    pub imports: [usize; import::FUNCTIONS as usize],
}

impl Links {
    /// Offset in memory 1.
    pub const AT: u64 = 0x400;
}

/// Custom sections of a shard module.
pub mod section {
    pub const ENTRIES: &str = "vkernel.entries";
    pub const BLOCKS: &str = "vkernel.blocks";
    /// Type of the program header that says where the block table of a resumable artifact lies in its file.
    pub const BLOCK_TABLE_SEGMENT: u32 = 0x6000_766b;
    /// First word of a block table; then the number of functions, the number of blocks, zero, and the records of `BLOCKS`.
    pub const BLOCK_TABLE_MAGIC: u32 = u32::from_le_bytes(*b"vkb1");
}

/// Why code stopped (`CpuState.stop`); `rip` is the address of the instruction, except for `Breakpoint` (the next one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StopKind {
    None = 0,
    /// An instruction without semantics: SIGILL with a message naming it.
    Gap = 1,
    /// ud2 and friends: SIGILL.
    Undefined = 2,
    /// int3: SIGTRAP.
    Breakpoint = 3,
    /// #DE: SIGFPE, FPE_INTDIV.
    Divide = 4,
    /// Privileged instruction, hlt, bad segment use: SIGSEGV.
    Protection = 5,
}

/// One x87 register: 80 bits, in memory order, padded to 16 bytes.
pub type X87Reg = [u8; 16];

/// The architectural state of one guest thread, at offset 0 of memory 1. General registers in x86 encoding order
/// (rax rcx rdx rbx rsp rbp rsi rdi r8..r15). Each flag is 0 or 1 in its own word; `df` too.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
pub struct CpuState {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub cf: u32,
    pub pf: u32,
    pub af: u32,
    pub zf: u32,
    pub sf: u32,
    pub of: u32,
    pub df: u32,
    pub mxcsr: u32,
    /// 1: leave code for the dispatcher at the next poll, which looks at the lowest byte; else 0. Written by signal handlers of any thread of the process.
    pub poll: u32,
    /// A `StopKind`.
    pub stop: u32,
    /// rsp at which a jump to a register is the last step of a lazy PLT call whose entry still has its wasm frame; else 0 (see ARCHITECTURE.md, "Lazy PLT calls").
    pub lazy_rsp: u32,
    pub _pad: [u8; 0x100 - 0xc4],
    pub xmm: [[u64; 2]; 16],
    /// x87 stack *physical* registers; ST(i) is `st[(top + i) & 7]`.
    pub st: [X87Reg; 8],
    pub fcw: u16,
    /// Status word without TOP (kept in `ftop`).
    pub fsw: u16,
    /// One bit per physical register: 1 = empty.
    pub fempty: u16,
    pub ftop: u16,
    pub _pad2: [u8; 0x300 - 0x288],
    /// Operands of helpers that take or give 128 bits.
    pub scratch: [[u64; 2]; 4],
}

impl CpuState {
    /// A status word of the x87 as the processor keeps one: without TOP, which has a field of its own, and with ES and B as the exceptions that the control word does not mask make them (Intel SDM, "x87 FPU Status Register").
    pub const fn summarised(fsw: u16, fcw: u16) -> u16 {
        let summary = if fsw & !fcw & 0x3f != 0 { 0x8080 } else { 0 };
        fsw & !0xb880 | summary
    }
}

/// Byte offsets into `CpuState` (memory 1).
pub mod offset {
    use super::CpuState;
    use core::mem::offset_of;
    pub const fn gpr(n: usize) -> u64 {
        (offset_of!(CpuState, gpr) + 8 * n) as u64
    }
    pub const fn xmm(n: usize) -> u64 {
        (offset_of!(CpuState, xmm) + 16 * n) as u64
    }
    pub const fn scratch(n: usize) -> u64 {
        (offset_of!(CpuState, scratch) + 16 * n) as u64
    }
    pub const RIP: u64 = offset_of!(CpuState, rip) as u64;
    pub const FS_BASE: u64 = offset_of!(CpuState, fs_base) as u64;
    pub const GS_BASE: u64 = offset_of!(CpuState, gs_base) as u64;
    pub const CF: u64 = offset_of!(CpuState, cf) as u64;
    pub const PF: u64 = offset_of!(CpuState, pf) as u64;
    pub const AF: u64 = offset_of!(CpuState, af) as u64;
    pub const ZF: u64 = offset_of!(CpuState, zf) as u64;
    pub const SF: u64 = offset_of!(CpuState, sf) as u64;
    pub const OF: u64 = offset_of!(CpuState, of) as u64;
    pub const DF: u64 = offset_of!(CpuState, df) as u64;
    pub const FCW: u64 = offset_of!(CpuState, fcw) as u64;
    pub const FSW: u64 = offset_of!(CpuState, fsw) as u64;
    pub const FTOP: u64 = offset_of!(CpuState, ftop) as u64;
    pub const MXCSR: u64 = offset_of!(CpuState, mxcsr) as u64;
    pub const POLL: u64 = offset_of!(CpuState, poll) as u64;
    pub const STOP: u64 = offset_of!(CpuState, stop) as u64;
    pub const LAZY_RSP: u64 = offset_of!(CpuState, lazy_rsp) as u64;
}

const _: () = assert!(core::mem::size_of::<CpuState>() as u64 <= Links::AT);
const _: () = assert!(core::mem::offset_of!(CpuState, xmm) == 0x100);
const _: () = assert!(core::mem::offset_of!(CpuState, st) == 0x200);
const _: () = assert!(core::mem::offset_of!(CpuState, scratch) == 0x300);

/// Operation codes of `helper::SSE`: the host's own instruction, whose result bits are model-specific. scratch[0] is the destination, scratch[1] the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SseOp {
    Rcpps = 1,
    Rcpss = 2,
    Rsqrtps = 3,
    Rsqrtss = 4,
}

/// Operations of `x86.helper(op, a, b) -> i64`, implemented in `loader/src/helper/`. Unless stated, registers are passed and returned through
/// `CpuState`, guest addresses as zero-extended `i64`. The lifter flushes exactly the registers a helper reads and reloads what it writes.
pub mod helper {
    /// cpuid: reads rax, rcx; writes rax, rbx, rcx, rdx. Presents x86-64-v2.
    pub const CPUID: u32 = 1;
    /// rdtsc: returns the counter.
    pub const RDTSC: u32 = 2;
    /// xgetbv: a = ecx; returns edx:eax.
    pub const XGETBV: u32 = 3;
    /// High 64 bits of the unsigned / signed product a*b.
    pub const MULHI_U: u32 = 4;
    pub const MULHI_S: u32 = 5;
    /// Unsigned 128/64 division: a = divisor; the dividend's high half is b < a, the low one in rax; returns the quotient. In the structured form the instruction itself, as those of `float`.
    pub const DIV64: u32 = 6;
    /// Signed 128/64 division: a = divisor; dividend in rdx:rax; quotient → rax, remainder → rdx; returns 1 on #DE (nothing written), else 0.
    pub const IDIV64: u32 = 7;
    /// cmpxchg16b: a = address; rdx:rax, rcx:rbx as in the manual; returns ZF; writes rax, rdx when ZF = 0.
    pub const CMPXCHG16B: u32 = 8;
    /// Locked read-modify-write at a misaligned address: a = address, b = operand, op + width code (0..3 for 1,2,4,8 bytes): returns the old value.
    pub const LOCK_ADD: u32 = 16;
    pub const LOCK_SUB: u32 = 20;
    pub const LOCK_AND: u32 = 24;
    pub const LOCK_OR: u32 = 28;
    pub const LOCK_XOR: u32 = 32;
    pub const LOCK_XCHG: u32 = 36;
    /// As above; compares with `scratch[0].0`, stores b when equal; returns the old value.
    pub const LOCK_CMPXCHG: u32 = 40;
    /// pcmpistri/pcmpistrm/pcmpestri/pcmpestrm: a = imm8; operands in scratch[0], scratch[1] (estr: lengths in rax, rdx, of which b = 0 uses the low 32 bits, b = 1 (REX.W) all); result: index returned, mask → scratch[2]; flags → CpuState.
    pub const PCMPISTRI: u32 = 48;
    pub const PCMPISTRM: u32 = 49;
    pub const PCMPESTRI: u32 = 50;
    pub const PCMPESTRM: u32 = 51;
    /// crc32: a = crc, b = data; op + width code.
    pub const CRC32: u32 = 52;
    /// pclmulqdq: a = imm8; operands scratch[0], scratch[1]; result scratch[2].
    pub const PCLMULQDQ: u32 = 56;
    /// ldmxcsr (a = value) : validates and stores; fxsave/fxrstor/xsave/xsavec/xrstor: a = address, b = requested mask.
    pub const LDMXCSR: u32 = 57;
    pub const FXSAVE: u32 = 58;
    pub const FXRSTOR: u32 = 59;
    pub const XSAVE: u32 = 60;
    pub const XSAVEC: u32 = 61;
    pub const XRSTOR: u32 = 62;
    /// SSE operation with model-specific results: a = operation code (`SseOp`), operands scratch[0] (destination), scratch[1] (source); result scratch[2].
    pub const SSE: u32 = 63;
    /// x87: a = opcode (the two bytes after normalisation: `(opcode & 0xff) << 8 | modrm`), b = effective address of a memory operand. Reads and writes the x87 part of `CpuState`; fcomi-like set flags; fnstsw ax writes rax.
    pub const X87: u32 = 64;
    /// stmxcsr: returns the register, with the flags lifted code has raised.
    pub const STMXCSR: u32 = 65;
    /// rdrand/rdseed are not presented by cpuid; `TRACE` is for debugging: a = pc.
    pub const TRACE: u32 = 127;
    /// Added to the opcode of `X87`: an operand-size prefix, which means the 16-bit layouts of fnstenv, fldenv, fnsave and frstor.
    pub const X87_SHORT: u64 = 1 << 16;
}

/// Floating-point instructions whose exception flags no operation of WASM raises as they do, as operations of `x86.helper`: a and b are the operands' bits, under the guest's MXCSR. In the structured form
/// the compiler puts the instruction itself in the place of the call (`recompiler-build`, `instruction.rs`); elsewhere it is a helper like others.
pub mod float {
    /// Comparisons: for their flags in MXCSR only; they return nothing.
    pub const COMISS: u32 = 128;
    pub const COMISD: u32 = 129;
    pub const UCOMISS: u32 = 130;
    pub const UCOMISD: u32 = 131;
    /// To a signed integer of 32 bits (zero-extended) or 64, by the mode in MXCSR.
    pub const CVTSS2SI: u32 = 132;
    pub const CVTSS2SI64: u32 = 133;
    pub const CVTSD2SI: u32 = 134;
    pub const CVTSD2SI64: u32 = 135;
    /// The same, truncating.
    pub const CVTTSS2SI: u32 = 136;
    pub const CVTTSS2SI64: u32 = 137;
    pub const CVTTSD2SI: u32 = 138;
    pub const CVTTSD2SI64: u32 = 139;
    /// Two lanes to 32-bit integers: a holds two singles, or a and b a double each.
    pub const CVTPS2DQ: u32 = 140;
    pub const CVTPD2DQ: u32 = 141;
    pub const CVTTPS2DQ: u32 = 142;
    pub const CVTTPD2DQ: u32 = 143;
    /// Plus the immediate, 0..15: rounds the two singles, or the double, of a.
    pub const ROUNDPS: u32 = 144;
    pub const ROUNDSD: u32 = 160;
    pub const FIRST: u32 = COMISS;
    pub const LAST: u32 = ROUNDSD + 15;
}
