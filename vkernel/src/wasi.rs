//! A guest process that has become a WASI program: runs it, and says how it ended if it did not say so itself.
//!
//! Owns the line and the status of a trap. The fact a newcomer gets wrong: `proc_exit` does not come back here, it ends the process.

use loader::wasi::Ended;
use loader::{LoadError, Machine};
use syscalls::wasi::Start;
use syscalls::{Event, Thread};

/// As a shell says of a program that SIGABRT ended.
const TRAPPED: i32 = 134;

/// Runs a WASI program to the end of its process.
pub(crate) fn run(machine: &mut Machine, thread: &mut Thread, start: &Start) -> Result<i32, LoadError> {
    if let Some(refusal) = &start.refused {
        thread.process.host.trace(&refusal.line);
        return Ok(refusal.status);
    }
    Ok(match machine.run_wasi(thread, start)? {
        Ended::Returned => 0,
        Ended::Trapped(why) => {
            let host = &thread.process.host;
            host.trace(&format!("vkernel: {}: {why}: the program ends with status {TRAPPED}\n", start.argv.first().map_or_else(String::new, |a| a.to_string_lossy().into_owned())));
            host.audit(&Event::Trap);
            TRAPPED
        }
    })
}
