//! System V semaphores and message queues, POSIX message queues. (Shared memory is `mm`'s.)
//!
//! Owns the typed list of semctl and msgctl commands. The fact a newcomer gets wrong: semctl's fourth argument is a number, a structure or an
//! array whose length only the kernel knows (GETALL, SETALL), so that length is asked first and a copy is used.

use crate::errno::Errno;
use crate::pass::{at, at_mut, opt_at, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;

const TIMESPEC: u64 = 16;
/// `struct mq_attr`.
const MQ_ATTR: u64 = 64;

passes! {
    64 "semget" [Int Int Flags] "" |_, a| [a[0], a[1], a[2]];
    65 "semop" [Int Ptr Len] "" |t, a| [a[0], t.array(a[1], u64::from(a[2] as u32), 6), a[2]];
    68 "msgget" [Int Flags] "" |_, a| [a[0], a[1]];
    220 "semtimedop" [Int Ptr Len Ptr] "" |t, a| [a[0], t.array(a[1], u64::from(a[2] as u32), 6), a[2], t.ptr(a[3], TIMESPEC)];
    242 "mq_timedsend" [Fd BufIn Len Int Ptr] "" |t, a| [a[0], t.ptr(a[1], a[2]), a[2], a[3], t.ptr(a[4], TIMESPEC)];
    243 "mq_timedreceive" [Fd BufOut Len Ptr Ptr] "" |t, a| [a[0], t.ptr(a[1], a[2]), a[2], t.ptr(a[3], 4), t.ptr(a[4], TIMESPEC)];
    245 "mq_getsetattr" [Fd Ptr Ptr] "" |t, a| [a[0], t.ptr(a[1], MQ_ATTR), t.ptr(a[2], MQ_ATTR)];
}

rows! {
    66 "semctl" [Int Int Int Hex] Translate "IPC_*, SEM_*, GET* and SET* of semctl(2); others are EINVAL" semctl;
    69 "msgsnd" [Int Ptr Len Flags] Pass "" |t, a| { let p = message(t, a[1], a[2]); t.host(libc::SYS_msgsnd, &[a[0], p, a[2], a[3]]) };
    70 "msgrcv" [Int Ptr Len Int Flags] Pass "" |t, a| { let p = message(t, a[1], a[2]); t.host(libc::SYS_msgrcv, &[a[0], p, a[2], a[3], a[4]]) };
    71 "msgctl" [Int Int Ptr] Translate "IPC_* and MSG_* of msgctl(2); others are EINVAL" msgctl;
    240 "mq_open" [Path Flags Mode Ptr] Translate "" |t, a| {
        let (name, attr) = (t.path(a[0])?, t.opt_read::<[u64; 4]>(a[3])?);
        // The kernel reads the reserved words too, and ignores them.
        let attr = attr.map(|a| [a[0], a[1], a[2], a[3], 0, 0, 0, 0]);
        t.host(libc::SYS_mq_open, &[name.as_ptr() as u64, a[1], a[2], opt_at(attr.as_ref())])
    };
    241 "mq_unlink" [Path] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_mq_unlink, &[p.as_ptr() as u64]) };
    244 "mq_notify" [Fd Ptr] Translate "SIGEV_SIGNAL and SIGEV_NONE; SIGEV_THREAD is EINVAL" mq_notify;
}

/// A message: an 8-byte type, then `size` bytes.
fn message(t: &Thread, addr: u64, size: u64) -> u64 {
    size.checked_add(8).map_or(crate::pass::NEVER, |len| t.ptr(addr, len))
}

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
/// IPC_64: x86-64 always uses the modern structures; the flag bit is ignored there.
const IPC_64: i32 = 0x100;
const SEMID_DS: u64 = 104;
const MSQID_DS: u64 = 120;
/// `struct seminfo`, `struct msginfo`.
const SEMINFO: u64 = 40;
const MSGINFO: u64 = 32;

fn semctl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    const GETPID: i32 = 11;
    const GETVAL: i32 = 12;
    const GETALL: i32 = 13;
    const GETNCNT: i32 = 14;
    const GETZCNT: i32 = 15;
    const SETVAL: i32 = 16;
    const SETALL: i32 = 17;
    const SEM_STAT: i32 = 18;
    const SEM_INFO: i32 = 19;
    const SEM_STAT_ANY: i32 = 20;
    match a[2] as i32 & !IPC_64 {
        IPC_RMID | GETPID | GETVAL | GETNCNT | GETZCNT | SETVAL => t.host(libc::SYS_semctl, &[a[0], a[1], a[2], a[3]]),
        IPC_SET | IPC_STAT | SEM_STAT | SEM_STAT_ANY => t.host(libc::SYS_semctl, &[a[0], a[1], a[2], t.ptr(a[3], SEMID_DS)]),
        IPC_INFO | SEM_INFO => t.host(libc::SYS_semctl, &[a[0], a[1], a[2], t.ptr(a[3], SEMINFO)]),
        command @ (GETALL | SETALL) => {
            let mut ds = [0u64; SEMID_DS as usize / 8];
            quick(libc::SYS_semctl, &[a[0], 0, IPC_STAT as u64, at_mut(&mut ds)])?;
            // sem_nsems follows the 48-byte permission and two pairs of times. It never changes during the life of a set; ids are not reused at
            // once, but the room below fits the largest set (SEMMSL, 32000) in any case.
            let n = (ds[10] as usize).min(65536);
            let mut own = vec![0u16; 65536];
            if command == SETALL {
                own[..n].copy_from_slice(&t.read_array::<u16>(a[3], n)?);
                return t.host(libc::SYS_semctl, &[a[0], a[1], a[2], at(own.as_slice())]);
            }
            let r = t.host(libc::SYS_semctl, &[a[0], a[1], a[2], at_mut(own.as_mut_slice())])?;
            let bytes: Vec<u8> = own[..n].iter().flat_map(|v| v.to_le_bytes()).collect();
            t.window().copy_out(a[3], &bytes)?;
            Ok(r)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn msgctl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    const MSG_STAT: i32 = 11;
    const MSG_INFO: i32 = 12;
    const MSG_STAT_ANY: i32 = 13;
    match a[1] as i32 & !IPC_64 {
        IPC_INFO | MSG_INFO => t.host(libc::SYS_msgctl, &[a[0], a[1], t.ptr(a[2], MSGINFO)]),
        IPC_RMID | IPC_SET | IPC_STAT | MSG_STAT | MSG_STAT_ANY => t.host(libc::SYS_msgctl, &[a[0], a[1], t.ptr(a[2], MSQID_DS)]),
        _ => Err(Errno::EINVAL),
    }
}

fn mq_notify(t: &mut Thread, a: [u64; 6]) -> SysResult {
    if a[1] == 0 {
        return t.host(libc::SYS_mq_notify, &[a[0], 0]);
    }
    let mut event = [0u32; 16];
    event[..4].copy_from_slice(&t.read_array::<u32>(a[1], 4)?);
    if ![libc::SIGEV_SIGNAL, libc::SIGEV_NONE].contains(&(event[3] as i32)) {
        return Err(Errno::EINVAL);
    }
    t.host(libc::SYS_mq_notify, &[a[0], at(&event)])
}
