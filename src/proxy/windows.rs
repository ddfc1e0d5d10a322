//! The windows that a client opens for answers (RFC 9113 sections 6.5.2 and 6.9): by its settings, or by a WINDOW_UPDATE for
//! each stream.
//!
//! A client that opens none can be sent no content, whatever it asks for; it is not slow, it has taken nothing yet. The
//! window of the connection is not looked at: it is used up by whatever a client takes, and waits for slow ones, too.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// What is smaller is none: an answer waits for more all the same.
const SMALL: u32 = 1024;
/// Before a client says another (section 6.5.2).
const INITIAL: u32 = 65_535;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// Those of one connection.
pub(crate) struct Windows {
    initial: AtomicU32,
    opened: AtomicUsize,
}

impl Windows {
    /// Of a client that has said nothing yet.
    pub(crate) fn new() -> Windows {
        Windows {
            initial: AtomicU32::new(INITIAL),
            opened: AtomicUsize::new(0),
        }
    }

    /// A setting.
    pub(super) fn set(&self, name: u16, value: u32) {
        if name == INITIAL_WINDOW_SIZE {
            self.initial.store(value, Ordering::Relaxed);
        }
    }

    /// A stream may be sent so much more.
    pub(super) fn grow(&self, by: u32) {
        if by >= SMALL {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many streams may be in hand, of which all but `unopened` were given a window; `None`: each has one from the
    /// beginning.
    pub(crate) fn most(&self, unopened: usize) -> Option<usize> {
        let none = self.initial.load(Ordering::Relaxed) < SMALL;
        none.then(|| unopened.saturating_add(self.opened.load(Ordering::Relaxed)))
    }
}
