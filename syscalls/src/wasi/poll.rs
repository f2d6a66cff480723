//! `poll_oneoff`: waiting for clocks and descriptors at once. Owns how subscriptions become one ppoll(2), and its answer events.

use super::call::Call;
use super::environment::clock;
use super::errno::Code;
use super::functions::Answer;
use super::table::{Kind, right};

/// Bytes of a `subscription` and of an `event`.
const SUBSCRIPTION: u64 = 48;
const EVENT: u64 = 32;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// `subclockflags`: the time is a point, not a span.
const ABSTIME: u16 = 1;
/// `eventrwflags`: the other side is gone.
const HANGUP: u16 = 1;

/// More could not be open.
const MOST: u64 = 1 << 16;

enum Wanted {
    /// Of this clock, at this point of its time.
    Clock { id: u64, at: u64 },
    /// The place in the list for ppoll.
    Ready { place: usize, host: u64, kind: Kind },
}

struct Subscription {
    user: u64,
    event: u8,
    wanted: Wanted,
}

struct Event {
    user: u64,
    code: u16,
    event: u8,
    bytes: u64,
    flags: u16,
}

pub(super) fn oneoff(c: &mut Call<'_>) -> Answer {
    let [subscriptions, events, n, out, ..] = c.a;
    if n == 0 || n > MOST {
        return Err(Code::INVAL);
    }
    c.program.memory.range(subscriptions, n * SUBSCRIPTION)?;
    c.program.memory.range(events, n * EVENT)?;
    let mut watched = Vec::new();
    let list = (0..n).map(|i| subscription(c, subscriptions + i * SUBSCRIPTION, &mut watched)).collect::<Result<Vec<_>, _>>()?;
    let ready = wait(c, &list, &watched)?;
    let mut done = 0;
    for s in &list {
        if let Some(event) = event(c, s, &ready)? {
            put(c, events + done * EVENT, &event)?;
            done += 1;
        }
    }
    c.answer(out, done as u32)
}

/// Reads one, and adds what ppoll has to watch for it: descriptor and events.
fn subscription(c: &mut Call<'_>, at: u64, watched: &mut Vec<[u64; 2]>) -> Result<Subscription, Code> {
    let user = c.program.memory.load::<u64>(at)?;
    let event = c.program.memory.load::<u8>(at + 8)?;
    let first = u64::from(c.program.memory.load::<u32>(at + 16)?);
    let wanted = match event {
        CLOCK => {
            let (time, flags) = (c.program.memory.load::<u64>(at + 24)?, c.program.memory.load::<u16>(at + 40)?);
            let now = if flags & ABSTIME == 0 { clock(c, libc::SYS_clock_gettime, first)? } else { 0 };
            Wanted::Clock { id: first, at: now.saturating_add(time) }
        }
        FD_READ | FD_WRITE => {
            let d = c.program.table.get(first, right::POLL_FD_READWRITE)?;
            let (host, kind) = (d.host as u64, d.kind);
            let events = if event == FD_READ { libc::POLLIN } else { libc::POLLOUT };
            watched.push([host, events as u64]);
            Wanted::Ready { place: watched.len() - 1, host, kind }
        }
        _ => return Err(Code::INVAL),
    };
    Ok(Subscription { user, event, wanted })
}

/// How many of the descriptors are ready, and what is so of each. Waits this many nanoseconds at most.
fn ppoll(c: &mut Call<'_>, watched: &[[u64; 2]], timeout: Option<u64>) -> Result<(u64, Vec<i16>), Code> {
    const SECOND: u64 = 1_000_000_000;
    let fds: Vec<u8> = watched.iter().flat_map(|[host, events]| [(*host as u32).to_le_bytes(), (*events as u32).to_le_bytes()].concat()).collect();
    let at = c.lay(&fds)?;
    let timeout = timeout.map_or(Ok(0), |left| c.lay_words(&[left / SECOND, left % SECOND]))?;
    let n = c.row(libc::SYS_ppoll, &[at, watched.len() as u64, timeout, 0, 8])?;
    let ready = (0..watched.len()).map(|i| c.peek::<u16>(at + 8 * i as u64 + 6).map(u16::cast_signed));
    Ok((n, ready.collect::<Result<_, _>>()?))
}

/// Waits until anything is so: what ppoll says of each descriptor.
fn wait(c: &mut Call<'_>, list: &[Subscription], watched: &[[u64; 2]]) -> Result<Vec<i16>, Code> {
    loop {
        let mut least = None;
        for s in list {
            if let Wanted::Clock { id, at } = s.wanted {
                let left = at.saturating_sub(clock(c, libc::SYS_clock_gettime, id)?);
                least = Some(least.map_or(left, |l: u64| l.min(left)));
            }
        }
        let (n, ready) = c.briefly(|c| ppoll(c, watched, least))?;
        let mut over = false;
        for s in list {
            if let Wanted::Clock { id, at } = s.wanted {
                over |= clock(c, libc::SYS_clock_gettime, id)? >= at;
            }
        }
        // A clock that does not run while nothing does (the process's own) is looked at again.
        if n > 0 || over {
            return Ok(ready);
        }
    }
}

fn event(c: &mut Call<'_>, s: &Subscription, ready: &[i16]) -> Result<Option<Event>, Code> {
    let plain = Event { user: s.user, code: 0, event: s.event, bytes: 0, flags: 0 };
    Ok(match s.wanted {
        Wanted::Clock { id, at } => (clock(c, libc::SYS_clock_gettime, id)? >= at).then_some(plain),
        Wanted::Ready { place, host, kind } => match ready[place] {
            0 => None,
            now if now & libc::POLLNVAL != 0 => Some(Event { code: Code::BADF.0, ..plain }),
            now => {
                let bytes = if s.event == FD_READ { readable(c, host, kind) } else { 0 };
                let flags = if now & libc::POLLHUP != 0 { HANGUP } else { 0 };
                Some(Event { bytes, flags, ..plain })
            }
        },
    })
}

/// How much there is to read now; 0 where nobody can tell.
fn readable(c: &mut Call<'_>, host: u64, kind: Kind) -> u64 {
    if kind == Kind::RegularFile {
        let at = c.row(libc::SYS_lseek, &[host, 0, libc::SEEK_CUR as u64]);
        return c.stat(host).map_or(0, |s| s.size.saturating_sub(at.unwrap_or(0)));
    }
    let asked = c.briefly(|c| {
        let at = c.lay(&[0; 4])?;
        c.row(libc::SYS_ioctl, &[host, libc::FIONREAD, at])?;
        c.peek::<u32>(at)
    });
    asked.map_or(0, u64::from)
}

fn put(c: &Call<'_>, at: u64, event: &Event) -> Answer {
    let mut bytes = [0u8; EVENT as usize];
    bytes[..8].copy_from_slice(&event.user.to_le_bytes());
    bytes[8..10].copy_from_slice(&event.code.to_le_bytes());
    bytes[10] = event.event;
    bytes[16..24].copy_from_slice(&event.bytes.to_le_bytes());
    bytes[24..26].copy_from_slice(&event.flags.to_le_bytes());
    c.program.memory.put(at, &bytes)
}
