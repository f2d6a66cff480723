//! One guest process. Owns what its threads share.
use crate::guest::Window;
use crate::table::Row;

/// State shared by the threads of a guest process.
pub struct Process {
    pub window: Window,
}

pub const ROWS: &[Row] = &[];
