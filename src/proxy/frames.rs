//! Where a client's HTTP/2 is between two reads (RFC 9113 section 4.1): in the midst of a frame, or of a head whose
//! CONTINUATION is still to come.
//!
//! Only lengths, ends and windows are looked at; h2 judges all else, and ends what is no HTTP/2. HPACK lets some hundred bytes of a
//! head come to all that a head may be, so one that is not whole counts as such.

use std::sync::Arc;

use super::growing::beyond;
use super::windows::Windows;

/// What the client side begins with.
const PREFACE: u32 = 24;
/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 section 6.8): no stream is in hand, none was taken.
pub(crate) const CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb];
/// Of a frame, before its payload.
const FRAME: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// A setting, and what a window grows by.
const SETTING: usize = 6;
const INCREMENT: usize = 4;
/// A field in hand, by its size as RFC 9113 section 6.5.2 counts it.
const DECODED: usize = 4;

/// The state of one connection.
pub(crate) struct Frames {
    /// The most that a head may be.
    head: usize,
    /// What the connection takes until its first head is whole.
    base: usize,
    /// What is there of the next frame's first bytes, or of the next `unit` of a payload.
    begun: [u8; FRAME],
    count: usize,
    unit: usize,
    /// Of the payload: still to come, and here.
    left: u32,
    here: usize,
    open: bool,
    windows: Arc<Windows>,
}

impl Frames {
    /// Before the preface. `head`: what a head may be (RFC 9113 section 6.5.2). `base`: what counts until one is whole.
    /// `windows` are kept up to date.
    pub(crate) fn new(head: usize, base: usize, windows: Arc<Windows>) -> Frames {
        Frames {
            head,
            base,
            begun: [0; FRAME],
            count: 0,
            unit: 0,
            left: PREFACE,
            here: 0,
            open: false,
            windows,
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
                if self.unit > 0 {
                    self.hear(payload);
                }
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
        let [a, b, c, kind, flags, stream @ ..] = self.begun;
        self.unit = match kind {
            SETTINGS if flags & ACK == 0 => SETTING,
            // Not the connection's.
            WINDOW_UPDATE if stream != [0; 4] => INCREMENT,
            _ => 0,
        };
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

impl Frames {
    /// These bytes of settings, or of a window's growth.
    fn hear(&mut self, payload: &[u8]) {
        for byte in payload {
            if let Some(into) = self.begun.get_mut(self.count) {
                *into = *byte;
            }
            self.count += 1;
            if self.count < self.unit {
                continue;
            }
            self.count = 0;
            let [a, b, c, d, e, f, ..] = self.begun;
            match self.unit {
                SETTING => {
                    let value = u32::from_be_bytes([c, d, e, f]);
                    self.windows.set(u16::from_be_bytes([a, b]), value);
                }
                _ => self.windows.grow(u32::from_be_bytes([a & 0x7f, b, c, d])),
            }
        }
        if self.left == 0 {
            self.count = 0;
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
        let mut state = Frames::new(16 * 1024, 100, Arc::new(Windows::new()));
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

    #[test]
    fn windows_that_a_client_opens_are_seen_however_they_come() {
        let settings = |ack: u8, settings: &[(u16, u32)]| {
            let mut bytes = frame(0, SETTINGS, ack);
            for (name, value) in settings {
                bytes.extend(name.to_be_bytes());
                bytes.extend(value.to_be_bytes());
                bytes[2] += 6;
            }
            bytes[8] = 0;
            bytes
        };
        let grows = |stream: u8, by: u32| {
            let mut bytes = frame(0, WINDOW_UPDATE, 0);
            (bytes[2], bytes[8]) = (4, stream);
            bytes.extend(by.to_be_bytes());
            bytes
        };
        let steps = [
            (frame(100, HEADERS, END_HEADERS), None),
            (settings(0, &[(3, 0), (4, 0), (6, 70_000)]), Some(5)),
            (grows(1, 65_535), Some(6)),
            (frame(100, 0, 0), Some(6)),
            (grows(0, 65_535), Some(6)),
            (grows(3, 1), Some(6)),
            (settings(ACK, &[]), Some(6)),
            (settings(0, &[(4, 1)]), Some(6)),
            (settings(0, &[(4, 65_535)]), None),
            (settings(0, &[(3, 100), (4, 1023)]), Some(6)),
            // No such lengths: the next frame is looked at as any.
            (frame(7, SETTINGS, 0), Some(6)),
            (grows(5, 1 << 31 | 1024), Some(7)),
        ];
        for piece in [1, 5, 9, 10, 100_000] {
            let windows = Arc::new(Windows::new());
            let mut state = Frames::new(16 * 1024, 100, windows.clone());
            state.read(&[b'P'; PREFACE as usize]);
            assert_eq!(windows.most(5), None, "65,535 where it says nothing");
            for (number, (bytes, most)) in steps.iter().enumerate() {
                bytes.chunks(piece).for_each(|piece| state.read(piece));
                assert_eq!(windows.most(5), *most, "{number} in pieces of {piece}");
            }
        }
    }
}
