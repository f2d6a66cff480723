//! The initial stack of a program: strings, auxiliary vector, envp, argv, argc, as fs/binfmt_elf.c lays them out.
//!
//! The fact a newcomer gets wrong: rsp at entry is a multiple of 16 and points to argc; the strings lie above everything else.

use super::Prepared;
use crate::host::Object;
use std::ffi::CString;

/// CPUID.1:EDX of the CPU the guest sees (the loader's cpuid helper): AT_HWCAP.
const HWCAP: u64 = 0x0780_8111;
/// A signal frame with FXSAVE area, red zone and alignment.
const MIN_SIGNAL_STACK: u64 = 2048;
const PLATFORM: &[u8] = b"x86_64\0";

/// Bytes from rsp to the stack's top, and what /proc shows of them.
pub(super) struct Image {
    pub rsp: u64,
    pub bytes: Vec<u8>,
    pub auxv: Vec<[u64; 2]>,
    pub args: (u64, u64),
    pub env: (u64, u64),
}

impl Image {
    pub(super) fn new(object: &Object, interpreter_base: u64, p: &Prepared, top: u64) -> Self {
        let mut strings = Vec::new();
        let mut place = |list: &[CString]| -> Vec<u64> {
            list.iter()
                .map(|s| {
                    let at = strings.len() as u64;
                    strings.extend_from_slice(s.to_bytes_with_nul());
                    at
                })
                .collect()
        };
        let argv = place(&p.argv);
        let envp = place(&p.envp);
        let execfn = place(std::slice::from_ref(&p.path))[0];
        let env_start = envp.first().copied().unwrap_or(execfn);
        strings.extend_from_slice(&[0; 8]);
        let strings_at = top - strings.len() as u64;

        let platform_at = (strings_at - PLATFORM.len() as u64) & !15;
        let random_at = platform_at - 16;
        let auxv = auxiliary_vector(object, interpreter_base, strings_at + execfn, platform_at, random_at);
        let words = 1 + argv.len() + 1 + envp.len() + 1 + 2 * auxv.len();
        let rsp = (random_at - 8 * words as u64) & !15;

        let mut bytes = Vec::with_capacity((top - rsp) as usize);
        let mut word = |w: u64| bytes.extend_from_slice(&w.to_le_bytes());
        word(argv.len() as u64);
        argv.iter().for_each(|a| word(strings_at + a));
        word(0);
        envp.iter().for_each(|e| word(strings_at + e));
        word(0);
        auxv.iter().flatten().for_each(|w| word(*w));
        bytes.resize((random_at - rsp) as usize, 0);
        bytes.extend_from_slice(&random());
        bytes.extend_from_slice(PLATFORM);
        bytes.resize((strings_at - rsp) as usize, 0);
        bytes.extend_from_slice(&strings);
        let args = (strings_at, strings_at + env_start);
        Self { rsp, bytes, auxv, args, env: (strings_at + env_start, strings_at + execfn) }
    }
}

fn auxiliary_vector(object: &Object, base: u64, execfn: u64, platform: u64, random: u64) -> Vec<[u64; 2]> {
    // SAFETY: these calls have no preconditions.
    let (uid, euid, gid, egid) = unsafe { (libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid()) };
    vec![
        [libc::AT_MINSIGSTKSZ, MIN_SIGNAL_STACK],
        [libc::AT_HWCAP, HWCAP],
        [libc::AT_PAGESZ, super::super::mm::PAGE],
        [libc::AT_CLKTCK, 100],
        [libc::AT_PHDR, object.phdr],
        [libc::AT_PHENT, object.phent],
        [libc::AT_PHNUM, object.phnum],
        [libc::AT_BASE, base],
        [libc::AT_FLAGS, 0],
        [libc::AT_ENTRY, object.entry],
        [libc::AT_UID, u64::from(uid)],
        [libc::AT_EUID, u64::from(euid)],
        [libc::AT_GID, u64::from(gid)],
        [libc::AT_EGID, u64::from(egid)],
        [libc::AT_SECURE, u64::from(uid != euid || gid != egid)],
        [libc::AT_RANDOM, random],
        [libc::AT_HWCAP2, 0],
        [libc::AT_EXECFN, execfn],
        [libc::AT_PLATFORM, platform],
        [libc::AT_NULL, 0],
    ]
}

/// Sixteen fresh bytes for every exec (stack protector, pointer guard).
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // SAFETY: writes at most 16 bytes into the array. Requests of up to 256 bytes are never short once the pool is initialised.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes
}
