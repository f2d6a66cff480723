//! The guest's address space: which pages of the window hold what. Owns the ledger and the mm rows.
//! Refuses to own code: PROT_EXEC never reaches the host, executable pages are those of signed objects.
//!
//! The fact a newcomer gets wrong: nothing in the window is ever unmapped. A guest munmap maps PROT_NONE over it (07 S1), or the runtime's own
//! allocations would land in guest memory.

use crate::guest::Window;
use crate::table::Row;

/// The ledger.
pub struct Memory {
    pub window: Window,
}

impl Memory {
    pub fn new(window: Window) -> Self {
        Self { window }
    }

    /// The text of /proc/self/maps.
    pub fn render_maps(&self) -> String {
        String::new()
    }
}

pub const ROWS: &[Row] = &[];
