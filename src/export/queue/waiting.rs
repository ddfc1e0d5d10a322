//! Encoded spans in the order they came, many to a block of memory: a block each would cost more than to write them.
//!
//! It does not count for the queue's limits; see [`OVERHEAD`] for what a span takes besides its bytes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// What is kept for a span besides its bytes: its length; and its block, with what an allocator adds, or its share of what
/// is left free at the end of one.
pub(super) const OVERHEAD: usize = size_of::<usize>() + size_of::<Bytes>() + 24;
/// Bytes of a block: some forty spans.
const BLOCK: usize = 16 * 1024;
/// Of a block; a longer span has one of its own, so that little is left free.
const LONG: usize = 16;
/// Of all that may wait: the oldest block is there until the last of its spans is gone, and the newest while it fills.
const FEW: usize = 64;

/// See the module.
pub(super) struct Waiting {
    /// In order, the oldest first, none of them empty.
    blocks: VecDeque<Bytes>,
    /// Behind those: being filled.
    last: BytesMut,
    /// Of each span.
    lengths: VecDeque<usize>,
    block: usize,
}

/// Spans that were taken out.
#[derive(Debug, Default)]
pub(in crate::export) struct Taken {
    /// What [`crate::export::encode::span`] wrote, one after the other.
    pub(in crate::export) blocks: Vec<Bytes>,
    /// How many.
    pub(in crate::export) spans: usize,
}

impl Waiting {
    /// None yet, and `bytes` at most.
    pub(super) fn new(bytes: usize) -> Waiting {
        Waiting {
            blocks: VecDeque::new(),
            last: BytesMut::new(),
            lengths: VecDeque::new(),
            block: (bytes / FEW).min(BLOCK),
        }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Puts a span behind the others.
    pub(super) fn push(&mut self, span: &[u8]) {
        self.lengths.push_back(span.len());
        if span.len() > self.block / LONG {
            self.seal();
            self.blocks.push_back(Bytes::copy_from_slice(span));
            return;
        }
        if self.last.capacity() - self.last.len() < span.len() {
            self.seal();
            self.last = BytesMut::with_capacity(self.block);
        }
        self.last.extend_from_slice(span);
    }

    /// Takes the oldest, one after the other for as long as `more` says so: given how many there are by then, what they
    /// count for (bytes, with [`OVERHEAD`]) and what the next one does. Gives what they count for, too.
    pub(super) fn take(&mut self, more: impl Fn(usize, usize, usize) -> bool) -> (Taken, usize) {
        let (mut spans, mut cost) = (0, 0);
        while let Some(length) = self.lengths.front() {
            let own = length + OVERHEAD;
            if !more(spans, cost, own) {
                break;
            }
            spans += 1;
            cost += own;
            self.lengths.pop_front();
        }
        let blocks = self.cut(cost - spans * OVERHEAD);
        (Taken { blocks, spans }, cost)
    }

    /// The first `bytes`.
    fn cut(&mut self, mut bytes: usize) -> Vec<Bytes> {
        let mut out = Vec::new();
        while bytes > 0 {
            if self.blocks.is_empty() {
                self.seal();
            }
            let Some(mut block) = self.blocks.pop_front() else {
                break;
            };
            if block.len() > bytes {
                let rest = block.split_off(bytes);
                self.blocks.push_front(rest);
            }
            bytes -= block.len();
            out.push(block);
        }
        out
    }

    /// What is being filled goes to the others; what is free in its memory is filled next.
    fn seal(&mut self) {
        if !self.last.is_empty() {
            self.blocks.push_back(self.last.split().freeze());
        }
    }
}
