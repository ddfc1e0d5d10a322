//! From a record to a claim: which thread read which request, and whether that proves the cause of the call.
//!
//! A claim holds where one thread read bytes of a request, and then sent all of the call's bytes so far, while nothing of
//! an answer had been written and no other thread had touched either; and where nothing shows that the thread serves
//! several requests at once. What is assumed and cannot be seen from here: a thread that serves several requests by
//! turns keeps their sockets in an epoll set, or reads a second one while the first waits; and a thread that hands a
//! request over makes no call of its own before the other thread answers.

use super::record::{Record, flags};
use crate::correlation::CallBytes;
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

/// What refuses, the most telling first.
const OBJECTIONS: [(u32, Refusal); 10] = {
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
        (flags::SPLIT_CALL, sure(Unlinked::SplitCall)),
        (EVENT_LOOP, sure(Unlinked::EventLoop)),
        (flags::NO_REQUEST, sure(Unlinked::OtherThread)),
        (
            flags::OVERLAP | flags::SEVERAL,
            sure(Unlinked::SeveralRequests),
        ),
        (flags::HANDS_OVER, sure(Unlinked::HandedOver)),
        (flags::SPLIT_REQUEST, sure(Unlinked::HandedOver)),
        (flags::TAKEN, sure(Unlinked::NoInbound)),
        (flags::CLOSED, sure(Unlinked::NoInbound)),
        (flags::FORGOTTEN, unsure(Unlinked::Forgotten)),
        // The call was answered, so what is asked about is not it.
        (flags::ANSWERED, unsure(Unlinked::BytesDiffer)),
    ]
};

/// Judges a record. `bytes`: what hopspan read on the call's connection.
pub(super) fn decide(record: &Record, bytes: CallBytes) -> Verdict {
    // Bytes are counted when the call that sent them returns, which for a large body is late: its head is enough.
    let head_only = bytes.head.map(|head| bytes.before + head);
    if record.sent < bytes.read && head_only != Some(record.sent) {
        return Verdict::NotYet;
    }
    // Both have the same idea of where the call begins; so the record is about this call and about no other.
    if record.began != bytes.before {
        return Verdict::Refused(Refusal::unsure(Unlinked::BytesDiffer));
    }
    let objection = OBJECTIONS.iter().find(|(flags, _)| record.has(*flags));
    match objection {
        Some((_, refusal)) => Verdict::Refused(*refusal),
        None => Verdict::Claimed,
    }
}
