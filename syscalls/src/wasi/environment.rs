//! Arguments, environment, clocks, random bytes, and the program's own end.

use super::call::Call;
use super::errno::Code;
use super::functions::Answer;

pub(super) fn args_sizes_get(c: &mut Call<'_>) -> Answer {
    let sizes = sizes(&c.program.args);
    answer_sizes(c, sizes)
}

pub(super) fn args_get(c: &mut Call<'_>) -> Answer {
    let strings = c.program.args.clone();
    put_strings(c, &strings)
}

pub(super) fn environ_sizes_get(c: &mut Call<'_>) -> Answer {
    let sizes = sizes(&c.program.env);
    answer_sizes(c, sizes)
}

pub(super) fn environ_get(c: &mut Call<'_>) -> Answer {
    let strings = c.program.env.clone();
    put_strings(c, &strings)
}

/// How many there are, and their bytes with the zeros at their ends.
fn sizes(strings: &[Vec<u8>]) -> [u32; 2] {
    // execve(2) bounds both far below.
    [strings.len() as u32, strings.iter().map(|s| s.len() as u32 + 1).sum()]
}

fn answer_sizes(c: &Call<'_>, [count, bytes]: [u32; 2]) -> Answer {
    c.answer(c.a[0], count)?;
    c.answer(c.a[1], bytes)
}

fn put_strings(c: &Call<'_>, strings: &[Vec<u8>]) -> Answer {
    let [mut pointer, mut at, ..] = c.a;
    for s in strings {
        c.answer(pointer, at as u32)?;
        c.program.memory.put(at, &[&s[..], b"\0"].concat())?;
        pointer += 4;
        at += s.len() as u64 + 1;
    }
    Ok(())
}

/// WASI's clocks (real time, monotonic, of the process, of the thread) have Linux's numbers.
const LAST_CLOCK: u64 = libc::CLOCK_THREAD_CPUTIME_ID as u64;

/// Nanoseconds that a row for clocks answers.
pub(super) fn clock(c: &mut Call<'_>, nr: libc::c_long, id: u64) -> Result<u64, Code> {
    if id > LAST_CLOCK {
        return Err(Code::INVAL);
    }
    let [seconds, nanoseconds] = c.briefly(|c| {
        let at = c.room(16)?;
        c.row(nr, &[id, at])?;
        c.peek::<[u64; 2]>(at)
    })?;
    seconds.checked_mul(1_000_000_000).and_then(|n| n.checked_add(nanoseconds)).ok_or(Code::OVERFLOW)
}

pub(super) fn clock_res_get(c: &mut Call<'_>) -> Answer {
    let resolution = clock(c, libc::SYS_clock_getres, c.a[0])?;
    c.answer(c.a[1], resolution)
}

pub(super) fn clock_time_get(c: &mut Call<'_>) -> Answer {
    let now = clock(c, libc::SYS_clock_gettime, c.a[0])?;
    c.answer(c.a[2], now)
}

pub(super) fn random_get(c: &mut Call<'_>) -> Answer {
    let [pointer, length, ..] = c.a;
    let at = c.program.memory.range(pointer, length)?;
    let mut done = 0;
    while done < length {
        done += c.row(libc::SYS_getrandom, &[at + done, length - done, 0])?;
    }
    Ok(())
}

pub(super) fn sched_yield(c: &mut Call<'_>) -> Answer {
    c.row(libc::SYS_sched_yield, &[]).map(drop)
}

/// Does not come back.
pub(super) fn proc_exit(c: &mut Call<'_>) -> Answer {
    c.row(libc::SYS_exit_group, &[c.a[0]]).map(drop)
}

/// WASI has no handlers to raise a signal for, and nobody has this function.
pub(super) fn proc_raise(_: &mut Call<'_>) -> Answer {
    Err(Code::NOTSUP)
}
