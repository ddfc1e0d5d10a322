//! Where a client's HTTP/2 is between two reads (RFC 9113 section 4.1): in the midst of a frame, or of a head whose
//! CONTINUATION is still to come.
//!
//! Only lengths and ends are looked at; h2 judges all else, and ends what is no HTTP/2. HPACK lets some hundred bytes of a
//! head come to all that a head may be, so one that is not whole counts as such.

use super::growing::beyond;

/// What the client side begins with.
const PREFACE: u32 = 24;
/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 6.8): no stream is in hand, none was taken.
pub(crate) const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb];
/// Of a frame, before its payload.
const FRAME: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// A field in hand, by its size as RFC 9113 section 6.5.2 counts it.
const DECODED: usize = 4;

/// The state of one connection.
pub(crate) struct Frames {
    /// The most that a head may be.
    head: usize,
    /// What the connection takes until its first head is whole.
    base: usize,
    /// What is there of the next frame's first bytes.
    begun: [u8; FRAME],
    count: usize,
    /// Of the payload: still to come, and here.
    left: u32,
    here: usize,
    open: bool,
}

impl Frames {
    /// Before the preface. `head`: what a head may be (RFC 9113 section 6.5.2). `base`: what counts until one is whole.
    pub(crate) fn new(head: usize, base: usize) -> Frames {
        Frames {
            head,
            base,
            begun: [0; FRAME],
            count: 0,
            left: PREFACE,
            here: 0,
            open: false,
        }
    }

    /// Whether a head is not whole that has come to more than a frame.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Bytes that what is not whole takes, beyond what each connection may.
    pub(crate) fn takes(&self) -> usize {
        let partial = match self.left {
            0 => 0,
            _ => beyond(self.here),
        };
        let head = if self.open { self.head * DECODED } else { 0 };
        self.base + partial + head
    }

    /// These bytes were read.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let rest = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (payload, behind) = bytes.split_at(rest.min(bytes.len()));
                self.here += payload.len();
                self.left -= u32::try_from(payload.len()).unwrap_or(self.left);
                bytes = behind;
                continue;
            }
            let (next, behind) = bytes.split_at(bytes.len().min(FRAME - self.count));
            for (into, byte) in self.begun.iter_mut().skip(self.count).zip(next) {
                *into = *byte;
            }
            self.count += next.len();
            bytes = behind;
            if self.count == FRAME {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.begun;
        self.left = u32::from_be_bytes([0, a, b, c]);
        (self.count, self.here) = (0, 0);
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open = flags & END_HEADERS == 0;
            if !self.open {
                self.base = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::growing::{COST, FREE};

    fn frame(length: u32, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(FRAME + length as usize, b'x');
        bytes
    }

    /// What is taken after each of these, read in pieces of so many bytes.
    fn takes(frames: &[&[u8]], piece: usize) -> Vec<usize> {
        let mut state = Frames::new(16 * 1024, 100);
        state.read(&[b'P'; PREFACE as usize]);
        assert_eq!(state.takes(), 100, "until there is a head");
        let after = |bytes: &&[u8]| {
            bytes.chunks(piece).for_each(|piece| state.read(piece));
            state.takes()
        };
        frames.iter().map(after).collect()
    }

    #[test]
    fn what_is_not_whole_counts_until_it_is() {
        let whole = frame(100, HEADERS, END_HEADERS);
        let head = frame(100, HEADERS, 0);
        let more = frame(0, CONTINUATION, 0);
        let end = frame(50, CONTINUATION, END_HEADERS);
        let data = frame(16_000, 0, 0);
        let (half, rest) = data.split_at(FRAME + 10_000);
        let open = 16 * 1024 * DECODED;
        for piece in [1, 7, 9, 10, 64, 100_000] {
            let taken = takes(
                &[&whole, &head, &more, &end, &whole, half, rest, &data],
                piece,
            );
            let partial = (10_000 - FREE) * COST;
            assert_eq!(taken, [0, open, open, 0, 0, partial, 0, 0], "{piece}");
        }
    }
}
