//! Any bytes from a client of the daemon: the same lines whatever the reads, none too long, and a request or a reason for each; what is a request has one meaning. Of system calls that are asked for, nothing gets past
//! the bounds, and what calls write comes back as it was.
#![no_main]

#[path = "../../vkernel/src/serve/lines.rs"]
mod lines;
#[path = "../../vkernel/src/calls/plan.rs"]
#[allow(dead_code, reason = "bounds of the daemon's own")]
mod plan;

use base64::Engine;
use lines::{Line, Lines};
use plan::{Given, Plan};
use vkernel_client::{Call, Invocation, Output, Request};

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

/// What is accepted is within the bounds, and refers to the past only.
fn bounded(calls: &[Invocation]) {
    let Ok(plan) = Plan::of(calls) else { return };
    assert!(plan.steps.len() == calls.len() && calls.len() <= plan::MOST_CALLS);
    let mut room = 0;
    for (n, step) in plan.steps.iter().enumerate() {
        assert!(step.args.len() <= 6);
        for (i, argument) in step.args.iter().enumerate() {
            match argument {
                Given::ResultOf(earlier) => assert!(*earlier < n),
                Given::Room(bytes) => {
                    assert!(*bytes <= plan::MOST_OUT_BYTES && step.written(i, *bytes, u64::MAX) <= *bytes);
                    room += bytes;
                }
                Given::Word(_) | Given::Bytes(_) => {}
            }
        }
    }
    assert!(room <= plan::MOST_OUT_BYTES_TOGETHER);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((read, bytes)) = bytes.split_first() else { return };
    let written = match plan::output(bytes.to_owned()) {
        Output::Text { text } => text.into_bytes(),
        Output::Base64 { base64 } => base64::engine::general_purpose::STANDARD.decode(base64).expect("ours"),
    };
    assert_eq!(written, bytes);
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
            if let Request::Syscall { name, args, calls, .. } = call.request {
                bounded(&calls);
                bounded(&[Invocation { name: name.unwrap_or_default(), args }]);
            }
        }
    }
});
