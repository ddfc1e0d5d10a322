//! Inputs that are nearly right: seeds with bytes changed, parts left out, doubled, repeated and exchanged.

/// Numbers that are random enough, and the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// What parsers look for, and what they stumble on.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"%",
    b"-",
    b"_",
    b"/",
    b"*",
    b"<",
    b">",
    b"(",
    b")",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"'",
    b"\"",
    b"\\",
    b"#",
    b"|",
    b"0",
    b"00",
    b"-1",
    b"ff",
    b"18446744073709551616",
    b"99999999999999999999",
    b"\xff",
    b"\xc3\x28",
    b"\xe2\x80\xa8",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"Connection: close\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"0\r\n\r\n",
    b"(?:",
    b"{9}",
    b"<int:pk>",
    b"http://",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 ",
    b"\x16\x03\x01",
    b"\x80",
    b"\x7f\xff\xff\xff",
];

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// A place in `bytes`, or behind them.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// A part of `bytes`, short more often than long.
    fn part(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.place(bytes);
        let most = 1 << self.below(8);
        start..(start + self.below(most + 1)).min(bytes.len())
    }

    /// One of the seeds, changed in one to eight ways.
    pub(crate) fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 + self.below(8) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(64 * 1024);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        match self.below(9) {
            0 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] = self.next() as u8;
            }
            2 | 3 => {
                let (at, token) = (self.place(bytes), self.of(TOKENS));
                bytes.splice(at..at, token.iter().copied());
            }
            4 => {
                let part = self.part(bytes);
                bytes.drain(part);
            }
            5 => {
                let part = self.part(bytes);
                let many = bytes[part].repeat(1 + self.below(40));
                let at = self.place(bytes);
                bytes.splice(at..at, many);
            }
            6 => {
                let other = &seeds[self.below(seeds.len())];
                let (from, part) = (self.place(bytes), self.part(other));
                bytes.splice(from..from, other[part].iter().copied());
            }
            7 => {
                let other = &seeds[self.below(seeds.len())];
                let (keep, from) = (self.place(bytes), self.place(other));
                bytes.truncate(keep);
                bytes.extend(&other[from..]);
            }
            _ => {
                let keep = self.place(bytes);
                bytes.truncate(keep);
            }
        }
    }
}
