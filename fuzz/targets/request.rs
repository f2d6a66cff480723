//! Any bytes from a client of the daemon: the same lines whatever the reads, none too long, and a request or a reason for each; what is a request has one meaning.
#![no_main]

#[path = "../../vkernel/src/serve/lines.rs"]
mod lines;

use lines::{Line, Lines};
use vkernel_client::Call;

/// Small, so that short inputs reach it.
const LONGEST: usize = 200;

fn split(bytes: &[u8], read: usize) -> Vec<Line> {
    let mut lines = Lines::new(LONGEST);
    let mut found = Vec::new();
    for piece in bytes.chunks(read) {
        lines.push(piece);
        found.extend(std::iter::from_fn(|| lines.next()));
    }
    found
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((read, bytes)) = bytes.split_first() else { return };
    let found = split(bytes, usize::from(*read).max(1));
    let whole = |line: &[u8]| match line.len() > LONGEST {
        true => Some(Line::TooLong),
        false => (!line.iter().all(u8::is_ascii_whitespace)).then(|| Line::Whole(line.to_owned())),
    };
    let mut expected: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    // What has no end is no line.
    expected.pop();
    assert_eq!(found, expected.into_iter().filter_map(whole).collect::<Vec<_>>());
    for line in found {
        let Line::Whole(text) = line else { continue };
        if let Ok(call) = Call::parse(&text) {
            let again = serde_json::to_vec(&call.request).expect("a request can be written");
            assert_eq!(Call::parse(&again).expect("and read again").request, call.request);
        }
    }
});
