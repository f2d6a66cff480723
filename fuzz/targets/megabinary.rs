//! Any bytes as a megabinary: its sections are read or refused, and the check of its dispatcher ends.
#![no_main]

use megabinary::{check_dispatch, section};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(sections) = section::read(bytes) {
        let _ = check_dispatch(bytes, &sections.map);
    }
});
