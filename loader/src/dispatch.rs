//! The dispatcher: from a guest pc to the code that continues there, again and again.
//!
//! Owns the loop of ARCHITECTURE.md ("The dispatcher"). Knows nothing of signals, exec or processes: `Kernel` does. The fact a newcomer gets wrong: the loop is not
//! the hot path (calls stay inside wasm); it is entered at every tagged exit and at every resumable block.

use crate::fault;
use crate::helper;
use crate::machine::Machine;
use crate::megabinary::LoadError;
use crate::native::{Kernel, Next, Registers};
use crate::vsyscall;
use syscalls::abi::structured::{self, NEXT_PC, RSP};
use syscalls::abi::{CpuState, StopKind, TAG};
use syscalls::signal::{Fault, SEGV_MAPERR, page_fault, trap};

/// Which code form runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Structured where the pc is a function entry, resumable elsewhere.
    #[default]
    Both,
    /// Resumable only: the reference of differential tests.
    ResumableOnly,
}

const RAX: usize = 0;

/// A jump to where no code is: what is there otherwise the kernel side knows.
fn nowhere(pc: u64) -> Fault {
    Fault { signal: libc::SIGSEGV, code: SEGV_MAPERR, address: pc, trap: trap::PAGE_FAULT, error: page_fault::USER | page_fault::FETCH, exact: true }
}

/// Where the pc leads.
enum Target {
    Structured(u32),
    Resumable(u32, u32),
    Nowhere,
}

impl Machine {
    /// Runs the guest thread from `CpuState` until it ends; the status is what `Kernel::poll` said.
    pub fn run(&mut self, kernel: &mut dyn Kernel, form: Form) -> Result<i32, LoadError> {
        self.prepare_thread()?;
        // SAFETY: only the lifetime is erased; `kernel` outlives every use, since lifted code runs inside `run` only and the pointer is cleared below.
        let kernel: *mut (dyn Kernel + 'static) = unsafe { std::mem::transmute(std::ptr::from_mut(kernel)) };
        self.context.kernel = Some(kernel);
        let status = self.dispatch(kernel, form);
        self.context.kernel = None;
        fault::leave_thread();
        Ok(status)
    }

    fn dispatch(&mut self, kernel: *mut (dyn Kernel + 'static), form: Form) -> i32 {
        let cpu = self.cpu();
        loop {
            // SAFETY: the CPU state is mapped for the life of the machine; only this thread's code writes it, `poll` excepted, which is read volatile.
            let (poll, stop) = unsafe { ((&raw const (*cpu).poll).read_volatile(), (*cpu).stop) };
            if stop != 0 {
                // SAFETY: as above; `kernel` is the caller's exclusive borrow, see `run`.
                unsafe {
                    (*cpu).stop = 0;
                    (*kernel).stop(stop_kind(stop));
                }
            }
            if poll != 0 || stop != 0 {
                // SAFETY: as above.
                if let Next::Exit(status) = unsafe { (*kernel).poll() } {
                    return status;
                }
            }
            // SAFETY: as above.
            let pc = unsafe { (*cpu).rip };
            let target = self.target(pc, form);
            let exact = matches!(target, Target::Resumable(..));
            let completed = match target {
                Target::Structured(slot) => self.structured(cpu, slot),
                Target::Resumable(slot, block) => self.resumable(cpu, slot, block),
                Target::Nowhere if self.vsyscall(kernel, pc) => continue,
                Target::Nowhere => {
                    // SAFETY: as above.
                    unsafe { (*kernel).fault(nowhere(pc)) };
                    continue;
                }
            };
            if !completed {
                self.report_fault(kernel, exact);
            }
        }
    }

    /// Does the call and returns from it, if `pc` is a function of the vsyscall page.
    fn vsyscall(&mut self, kernel: *mut (dyn Kernel + 'static), pc: u64) -> bool {
        // SAFETY: see `dispatch`.
        let cpu = unsafe { &mut *self.context.cpu };
        let Some((number, back)) = vsyscall::number(pc).zip(helper::word(&self.context, cpu.gpr[RSP])) else { return false };
        cpu.gpr[RSP] += 8;
        cpu.gpr[RAX] = number as u64;
        cpu.rip = back;
        // SAFETY: see `dispatch`; `cpu` is not used any more.
        unsafe { (*kernel).syscall() };
        true
    }

    fn target(&mut self, pc: u64, form: Form) -> Target {
        if form == Form::Both {
            let slot = self.megabinary.codemap.slot(pc);
            if slot != 0 {
                return Target::Structured(slot);
            }
        }
        match self.blocks.block(self.megabinary, pc) {
            Some((slot, block)) => Target::Resumable(slot, block),
            None => Target::Nowhere,
        }
    }

    fn structured(&mut self, cpu: *mut CpuState, slot: u32) -> bool {
        // SAFETY: see `dispatch`.
        let gpr = unsafe {
            (*cpu).lazy_rsp = 0;
            (*cpu).gpr
        };
        let mut registers: Registers = structured::PARAMETERS.map(|r| gpr[r]);
        if !self.call_structured(slot, &mut registers) {
            return false;
        }
        const NEXT: usize = structured::result(NEXT_PC).expect("the pc is a result");
        let next = registers[NEXT];
        // SAFETY: see `dispatch`.
        let cpu = unsafe { &mut *cpu };
        if next & TAG == 0 {
            for (value, r) in registers.into_iter().zip(structured::RESULTS).filter(|(_, r)| *r != NEXT_PC) {
                cpu.gpr[r] = if r == RSP { value & 0xffff_ffff } else { value };
            }
        }
        cpu.rip = next & !TAG;
        true
    }

    fn resumable(&mut self, cpu: *mut CpuState, slot: u32, block: u32) -> bool {
        let Some(next) = self.call_resumable(slot, block) else { return false };
        // SAFETY: see `dispatch`.
        unsafe { (*cpu).rip = next & !TAG };
        true
    }

    /// Turns the fault the handler recorded into a guest signal.
    fn report_fault(&mut self, kernel: *mut (dyn Kernel + 'static), exact: bool) {
        let fault = self.context.fault;
        // SAFETY: see `dispatch`.
        let (rsp, rip) = unsafe { ((*self.context.cpu).gpr[RSP], (*self.context.cpu).rip) };
        let address = match fault.signo {
            libc::SIGFPE | libc::SIGILL if exact => rip,
            // The host's pc is nobody's business.
            libc::SIGFPE | libc::SIGILL => 0,
            _ if self.context.in_stack_guard(fault.addr) => rsp,
            // What lifted code adds to an address of 32 bits can go beyond them.
            _ => fault.addr.wrapping_sub(self.context.window as usize) as u64 & 0xffff_ffff,
        };
        let (code, trap, error) = (fault.code, fault.trap, fault.error);
        // SAFETY: see `dispatch`.
        unsafe { (*kernel).fault(Fault { signal: fault.signo, code, address, trap, error, exact }) };
    }
}

fn stop_kind(n: u32) -> StopKind {
    match n {
        2 => StopKind::Undefined,
        3 => StopKind::Breakpoint,
        4 => StopKind::Divide,
        5 => StopKind::Protection,
        _ => StopKind::Gap,
    }
}
