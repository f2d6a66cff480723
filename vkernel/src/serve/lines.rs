//! Bytes to lines, with a bound. Owns what is kept between reads: never more than one line and one read. The fact a newcomer gets wrong: a line that is too long is read to its end and
//! thrown away, so that the next one is understood.

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

pub(crate) struct Lines {
    longest: usize,
    buffer: Vec<u8>,
    /// Part of the buffer that holds no line's end.
    searched: usize,
    discarding: bool,
}

impl Lines {
    pub(crate) fn new(longest: usize) -> Self {
        Self { longest, buffer: Vec::new(), searched: 0, discarding: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is not empty, without its end.
    pub(crate) fn next(&mut self) -> Option<Line> {
        while let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
            let rest = self.buffer.split_off(self.searched + end + 1);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            self.searched = 0;
            line.pop();
            if std::mem::take(&mut self.discarding) || line.len() > self.longest {
                return Some(Line::TooLong);
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Line::Whole(line));
            }
        }
        if self.buffer.len() > self.longest {
            self.discarding = true;
            self.buffer.clear();
        }
        self.searched = self.buffer.len();
        None
    }
}
