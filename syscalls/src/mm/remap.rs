//! mremap: growing, shrinking and moving without ever leaving a hole in the window.
//!
//! The fact a newcomer gets wrong: the host's plain mremap unmaps the old range. MREMAP_DONTUNMAP keeps it mapped until PROT_NONE covers it.

use super::ledger::Backing;
use super::map::{check_fixed, move_in};
use super::{Memory, PAGE, page_up};
use crate::errno::Errno;
use crate::guest::WINDOW_BYTES;
use crate::host::Host;
use crate::process::Limits;

impl Memory {
    /// mremap(2).
    pub fn mremap(&mut self, host: &dyn Host, limits: &Limits, args: [u64; 5]) -> Result<u64, Errno> {
        let [old, old_len, new_len, flags, new] = args;
        let flags = flags as i32;
        let (fixed, may_move, keep) = (flags & libc::MREMAP_FIXED != 0, flags & libc::MREMAP_MAYMOVE != 0, flags & libc::MREMAP_DONTUNMAP != 0);
        let known = libc::MREMAP_FIXED | libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
        let (mut old_len, new_len) = (page_up(old_len).ok_or(Errno::EINVAL)?, page_up(new_len).ok_or(Errno::EINVAL)?);
        if flags & !known != 0 || (fixed && !may_move) || (keep && (!may_move || old_len != new_len)) || old % PAGE != 0 || new_len == 0 || new_len > WINDOW_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut old_end = old.checked_add(old_len).filter(|e| *e <= WINDOW_BYTES).ok_or(Errno::EFAULT)?;
        let Some(area) = self.areas.at(old).map(|(_, area)| area.clone()) else { return Err(Errno::EFAULT) };
        // Duplicating a shared mapping (old_len 0) and moving code have no user in the wild; refuse rather than guess.
        let moves = fixed || keep || new_len > old_len;
        if old_len == 0 || (moves && matches!(area.backing, Backing::Object { .. })) {
            return Err(Errno::EINVAL);
        }
        if fixed {
            let end = check_fixed(new, new_len)?;
            if new < old_end && old < end {
                return Err(Errno::EINVAL);
            }
        }
        // What is cut off may be several mappings; only what stays must be one, and only if it moves.
        if new_len < old_len {
            self.munmap(host, old + new_len, old_len - new_len)?;
            (old_len, old_end) = (new_len, old + new_len);
        }
        if !moves {
            return Ok(old);
        }
        if area.end < old_end {
            return Err(Errno::EFAULT);
        }
        if new_len > old_len {
            self.check_growth(limits, area.prot, area.shared || area.backing == Backing::Stack, new_len - old_len)?;
        }
        let in_place = !fixed && !keep && old + new_len <= self.top() && self.areas.is_free(old_end, old + new_len);
        let target = match (fixed, in_place) {
            (true, _) => new,
            (false, true) => old,
            (false, false) if may_move => self.place(new_len, self.top())?,
            (false, false) => return Err(Errno::ENOMEM),
        };
        self.resize(&area, old, old_len, target, new_len)?;
        let (start, _) = self.areas.at(old).expect("looked up above");
        let mut moved = area.clone();
        moved.end = target + new_len;
        if matches!(area.backing, Backing::File { .. }) {
            moved.offset = area.offset + (old - start);
        }
        if target != old {
            self.forget(host, target, target + new_len);
            if !keep {
                self.host_clear(old, old_len)?;
                self.forget(host, old, old_end);
            }
        }
        self.areas.insert(target, moved);
        Ok(target)
    }

    /// The pages of `old` at `target`, longer or shorter. The old range stays mapped.
    fn resize(&self, area: &super::Area, old: u64, old_len: u64, target: u64, new_len: u64) -> Result<(), Errno> {
        let keep = old_len.min(new_len);
        let anonymous = !area.shared && !matches!(area.backing, Backing::File { .. });
        if anonymous || new_len <= old_len {
            if target != old {
                let (from, to) = (self.window.range(old, keep)?, self.window.range(target, keep)?);
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
                // SAFETY: both ranges are guest memory; DONTUNMAP leaves no hole.
                if unsafe { libc::mremap(from.cast(), keep as usize, keep as usize, flags, to) } == libc::MAP_FAILED {
                    return Err(Errno::last());
                }
            }
            if new_len > keep {
                self.host_map(target + keep, new_len - keep, area.prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
            }
            return Ok(());
        }
        // A file grows outside the window, where the kernel finds the room, and then moves in.
        let from = self.window.range(old, old_len)?;
        // SAFETY: moves guest pages to an address the kernel chooses; the old range stays mapped.
        let outside = unsafe { libc::mremap(from.cast(), old_len as usize, old_len as usize, libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP) };
        if outside == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: the mapping just made, known to nobody else.
        let grown = unsafe { libc::mremap(outside, old_len as usize, new_len as usize, libc::MREMAP_MAYMOVE) };
        if grown == libc::MAP_FAILED {
            let errno = Errno::last();
            move_in(outside.cast(), from, old_len)?;
            return Err(errno);
        }
        move_in(grown.cast(), self.window.range(target, new_len)?, new_len)
    }
}
