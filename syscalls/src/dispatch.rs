//! From `linux.syscall` to a row and back. Owns argument registers, the allow-list check, unknown numbers and the result register.
//!
//! The fact a newcomer gets wrong: a row that replaced the registers (rt_sigreturn, execve) sets `Thread::replaced`; writing rax would corrupt them.

use crate::abi::CpuState;
use crate::errno::Errno;
use crate::host::Event;
use crate::strace;
use crate::table::{self, Support, SysResult};
use crate::thread::{Thread, reg};
use std::sync::atomic::Ordering;

/// Runs the syscall the registers describe. `CpuState.rip` is the pc after the `syscall` instruction.
pub fn dispatch(thread: &mut Thread) {
    let cpu = thread.cpu();
    let nr = cpu.gpr[reg::RAX];
    let args = [reg::RDI, reg::RSI, reg::RDX, reg::R10, reg::R8, reg::R9].map(|r| cpu.gpr[r]);
    cpu.gpr[reg::RCX] = cpu.rip;
    cpu.gpr[reg::R11] = rflags(cpu);
    thread.replaced = false;
    thread.signals.suspended = None;
    let result = run(thread, nr, args);
    if !thread.replaced {
        thread.cpu().gpr[reg::RAX] = match result {
            Ok(value) => value,
            Err(errno) => thread.signals.result(nr, errno),
        };
    }
}

/// The row's answer. Unknown numbers are ENOSYS, those the list does not have EPERM; a row that is refused by design answers its own errno whatever the list says.
pub fn run(thread: &mut Thread, nr: u64, args: [u64; 6]) -> SysResult {
    run_as(thread, nr, nr, args)
}

/// The same, where the list must have `listed`: a personality may make a program's call by another row than the one that its list has a name for.
pub(crate) fn run_as(thread: &mut Thread, nr: u64, listed: u64, args: [u64; 6]) -> SysResult {
    let Some(row) = table::row(nr) else {
        if thread.process.first_unknown(nr) {
            thread.process.host.audit(&Event::Unknown { nr });
        }
        if thread.process.strace.load(Ordering::Relaxed) {
            strace::unknown(thread, nr, args);
        }
        return Err(Errno::ENOSYS);
    };
    if !thread.process.strace.load(Ordering::Relaxed) {
        return answer(thread, row, listed, args);
    }
    let entry = strace::enter(thread, row, args);
    let result = answer(thread, row, listed, args);
    strace::leave(thread, row, args, &entry, result);
    result
}

fn answer(thread: &mut Thread, row: &table::Row, listed: u64, args: [u64; 6]) -> SysResult {
    if row.support != Support::Refuse && (thread.process.allows(listed) || table::BASE.contains(&row.nr) || thread.process.lets_through(listed)) {
        return (row.run)(thread, args);
    }
    let errno = match row.support {
        Support::Refuse => (row.run)(thread, args).err().unwrap_or(Errno::EPERM),
        _ => Errno::EPERM,
    };
    // ENOSYS is what older kernels say to a program that asks what there is, as every C library does: nobody overstepped anything.
    if errno != Errno::ENOSYS {
        let name = table::row(listed).map_or(row.name, |listed| listed.name);
        thread.process.host.audit(&Event::Refused { name, nr: listed });
    }
    Err(errno)
}

/// RFLAGS as `pushf` would show it in user mode.
pub fn rflags(cpu: &CpuState) -> u64 {
    let bit = |flag: u32, n: u32| u64::from(flag & 1) << n;
    0x202 | bit(cpu.cf, 0) | bit(cpu.pf, 2) | bit(cpu.af, 4) | bit(cpu.zf, 6) | bit(cpu.sf, 7) | bit(cpu.df, 10) | bit(cpu.of, 11)
}

/// The reverse of `rflags`.
pub fn set_rflags(cpu: &mut CpuState, flags: u64) {
    let bit = |n: u32| (flags >> n & 1) as u32;
    (cpu.cf, cpu.pf, cpu.af, cpu.zf, cpu.sf, cpu.df, cpu.of) = (bit(0), bit(2), bit(4), bit(6), bit(7), bit(10), bit(11));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Watch;
    use crate::process::AllowList;
    use crate::testing::guest;

    #[test]
    fn what_is_not_offered_is_enosys_and_no_offence_and_what_is_forbidden_is_audited() {
        let (mut t, double) = guest();
        let nr = |name: &str| u64::from(table::by_name(name).unwrap().nr);
        for list in [AllowList::NONE, AllowList::ALL] {
            t.process.set_allow(&list);
            assert_eq!(run(&mut t, nr("rseq"), [0; 6]), Err(Errno::ENOSYS));
            assert_eq!(*double.events.lock().unwrap(), Vec::<String>::new());
            assert_eq!(run(&mut t, nr("ptrace"), [0; 6]), Err(Errno::EPERM));
            let events = std::mem::take(&mut *double.events.lock().unwrap());
            assert!(events.len() == 1 && events[0].contains("ptrace"), "{events:?}");
        }
        t.process.set_allow(&AllowList::NONE);
        assert_eq!(run(&mut t, nr("getppid"), [0; 6]), Err(Errno::EPERM));
        assert_eq!(double.events.lock().unwrap().len(), 1);
        t.process.set_allow(&AllowList::ALL);
        assert!(run(&mut t, nr("getppid"), [0; 6]).is_ok());
        assert_eq!(double.events.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_permissive_host_lets_unlisted_calls_through_and_each_is_told_once_but_what_the_table_refuses_stays_refused() {
        let (mut t, double) = guest();
        let nr = |name: &str| u64::from(table::by_name(name).unwrap().nr);
        let told = || std::mem::take(&mut *double.events.lock().unwrap());
        *double.watch.lock().unwrap() = Watch { permissive: true, recorded: false };
        t.process.begin_list(&AllowList::NONE);
        for _ in 0..3 {
            assert!(run(&mut t, nr("getppid"), [0; 6]).is_ok());
        }
        assert_eq!(told(), [format!("WouldRefuse {{ nr: {} }}", nr("getppid"))]);
        assert_eq!(run(&mut t, nr("ptrace"), [0; 6]), Err(Errno::EPERM));
        assert!(told()[0].starts_with("Refused"));
        // The next program's first call is news again.
        t.process.begin_list(&AllowList::NONE);
        assert!(run(&mut t, nr("getppid"), [0; 6]).is_ok());
        assert_eq!(told().len(), 1);
    }

    #[test]
    fn a_recording_host_is_told_of_listed_calls_once_and_refuses_the_others_unless_it_is_permissive() {
        let (mut t, double) = guest();
        let nr = |name: &str| u64::from(table::by_name(name).unwrap().nr);
        let told = || std::mem::take(&mut *double.events.lock().unwrap());
        let run_twice = |t: &mut Thread, nr| [0; 2].map(|_| run(t, nr, [0; 6]).is_ok());
        // The double's program may make every call; without a program there is no list.
        *double.watch.lock().unwrap() = Watch { permissive: false, recorded: true };
        t.process.begin_list(&AllowList::ALL);
        assert_eq!((run_twice(&mut t, nr("getppid")), told().len()), ([false; 2], 2));
        let exe = crate::process::Exe { id: crate::testing::PROGRAM, path: c"/x".into(), argv: vec![], comm: vec![], auxv: vec![], args: (0, 0), env: (0, 0), scripts: vec![] };
        *t.process.exe.lock().unwrap() = Some(exe);
        assert_eq!((run_twice(&mut t, nr("getppid")), told()), ([true; 2], vec![format!("Used {{ nr: {} }}", nr("getppid"))]));
    }
}
