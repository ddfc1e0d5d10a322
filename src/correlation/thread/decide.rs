//! From a record to a claim: which thread read which request, and whether that proves the cause of the call.
//!
//! A claim holds where one thread read bytes of a request, and then sent all of the call's bytes so far, while nothing of
//! an answer had been written and no other thread had touched either; and where nothing shows that the thread serves
//! several requests at once. What is assumed and cannot be seen from here: a thread that serves several requests by
//! turns keeps their sockets in an epoll set, or reads a second one while the first waits; and a thread that hands a
//! request over to another, that is no child made meanwhile, makes no call of its own before the other answers. On a
//! unix socket only hopspan's connections are seen: a request past hopspan is not taken up within one of hopspan's.

use super::record::{Record, flags};
use crate::correlation::CallBytes;
#[cfg(test)]
use crate::correlation::toothless::is_off;
use crate::correlation::unlinked::Unlinked;

/// What a record says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request on the record's connection, at the record's time, caused the call.
    Claimed,
    /// The call's bytes are here before the kernel's program has seen them sent: look again.
    NotYet,
    /// Not proven.
    Refused(Refusal),
}

/// Why there is no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Refusal {
    /// For the span and the counter.
    pub(in super::super) reason: Unlinked,
    /// Whether what was seen excludes a weaker proof: then nobody else is asked.
    pub(in super::super) last_word: bool,
}

impl Refusal {
    /// Nothing is known; another rung may know more.
    pub(in super::super) fn unsure(reason: Unlinked) -> Refusal {
        Refusal {
            reason,
            last_word: false,
        }
    }

    /// It is known that the cause cannot be told.
    pub(in super::super) fn sure(reason: Unlinked) -> Refusal {
        Refusal {
            reason,
            last_word: true,
        }
    }
}

/// What refuses, the most telling first, by its name for the test program, which can turn it off.
const OBJECTIONS: [(&str, u32, Refusal); 11] = {
    const fn sure(reason: Unlinked) -> Refusal {
        Refusal {
            reason,
            last_word: true,
        }
    }
    const fn unsure(reason: Unlinked) -> Refusal {
        Refusal {
            reason,
            last_word: false,
        }
    }
    const EVENT_LOOP: u32 =
        flags::READ_IN_EPOLL | flags::IN_EPOLL | flags::CALL_IN_EPOLL | flags::URING;
    [
        ("SplitCall", flags::SPLIT_CALL, sure(Unlinked::SplitCall)),
        ("EventLoop", EVENT_LOOP, sure(Unlinked::EventLoop)),
        ("NoRequest", flags::NO_REQUEST, sure(Unlinked::OtherThread)),
        (
            "OneRequest",
            flags::OVERLAP | flags::SEVERAL,
            sure(Unlinked::SeveralRequests),
        ),
        ("HandsOver", flags::HANDS_OVER, sure(Unlinked::HandedOver)),
        (
            "SplitRequest",
            flags::SPLIT_REQUEST,
            sure(Unlinked::HandedOver),
        ),
        ("Taken", flags::TAKEN, sure(Unlinked::NoInbound)),
        ("Closed", flags::CLOSED, sure(Unlinked::NoInbound)),
        // A child may have taken the request over; other proofs see who holds its connection.
        ("Forked", flags::FORKED, unsure(Unlinked::HandedOver)),
        ("Forgotten", flags::FORGOTTEN, unsure(Unlinked::Forgotten)),
        // The call was answered, so what is asked about is not it.
        ("Answered", flags::ANSWERED, unsure(Unlinked::BytesDiffer)),
    ]
};

/// Whether a rule is off: never, but in this library's own test program.
#[cfg(not(test))]
fn is_off(_rule: &str) -> bool {
    false
}

/// Judges a record. `bytes`: what hopspan read on the call's connection.
pub(super) fn decide(record: &Record, bytes: CallBytes) -> Verdict {
    // Bytes are counted when the call that sent them returns, which for a large body is late: its head is enough.
    let head_only = bytes.head.map(|head| bytes.before + head);
    if record.sent < bytes.read && head_only != Some(record.sent) {
        return Verdict::NotYet;
    }
    // Both have the same idea of where the call begins; so the record is about this call and about no other.
    if record.began != bytes.before && !is_off("Begins") {
        return Verdict::Refused(Refusal::unsure(Unlinked::BytesDiffer));
    }
    let stands = |(rule, flags, _): &&(&str, u32, Refusal)| record.has(*flags) && !is_off(rule);
    match OBJECTIONS.iter().find(stands) {
        Some((.., refusal)) => Verdict::Refused(*refusal),
        None => Verdict::Claimed,
    }
}
