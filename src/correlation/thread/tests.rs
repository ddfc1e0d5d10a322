//! Decisions apart from the kernel.

use super::decide::{Refusal, Verdict, decide};
use super::record::{self, Record, flags};
use crate::correlation::CallBytes;
use crate::correlation::in_flight::Ends;
use crate::correlation::unlinked::Unlinked;

const BYTES: CallBytes = CallBytes {
    before: 1000,
    read: 1200,
    head: None,
};

/// A record that proves a call at `BYTES`.
fn good() -> Record {
    Record {
        sent: 1200,
        began: 1000,
        ..Record::default()
    }
}

#[test]
fn a_call_whose_bytes_are_all_of_one_serving_thread_is_claimed() {
    assert_eq!(decide(&good(), BYTES), Verdict::Claimed);
    // More was sent than hopspan has read: part of the body.
    let more = Record {
        sent: 5000,
        ..good()
    };
    assert_eq!(decide(&more, BYTES), Verdict::Claimed);
    // A blocking socket or not says nothing alone.
    let other = Record {
        flags: flags::NONBLOCKING,
        ..good()
    };
    assert_eq!(decide(&other, BYTES), Verdict::Claimed);
}

#[test]
fn bytes_that_are_not_counted_yet_are_waited_for() {
    for sent in [0, 1000, 1199] {
        let behind = Record { sent, ..good() };
        assert_eq!(decide(&behind, BYTES), Verdict::NotYet, "{sent}");
    }
    // The record of the call before, on the same connection.
    let before = Record {
        sent: 1000,
        began: 800,
        flags: flags::ANSWERED,
        ..good()
    };
    assert_eq!(decide(&before, BYTES), Verdict::NotYet);
}

#[test]
fn a_large_body_is_not_waited_for() {
    let head = CallBytes {
        head: Some(150),
        ..BYTES
    };
    let sent = |sent| Record { sent, ..good() };
    assert_eq!(decide(&sent(1150), head), Verdict::Claimed);
    assert_eq!(decide(&sent(1149), head), Verdict::NotYet);
    assert_eq!(decide(&sent(1151), head), Verdict::NotYet);
}

#[test]
fn a_call_that_begins_elsewhere_is_another_one() {
    let unsure = Verdict::Refused(Refusal::unsure(Unlinked::BytesDiffer));
    for began in [0, 999, 1001, 1200] {
        let other = Record { began, ..good() };
        assert_eq!(decide(&other, BYTES), unsure, "{began}");
    }
}

#[test]
fn every_objection_refuses_alone_and_with_others() {
    let mut rows = 0;
    for (flag, reason, last_word) in [
        (flags::NO_REQUEST, Unlinked::OtherThread, true),
        (flags::READ_IN_EPOLL, Unlinked::EventLoop, true),
        (flags::IN_EPOLL, Unlinked::EventLoop, true),
        (flags::CALL_IN_EPOLL, Unlinked::EventLoop, true),
        (flags::URING, Unlinked::EventLoop, true),
        (flags::OVERLAP, Unlinked::SeveralRequests, true),
        (flags::SEVERAL, Unlinked::SeveralRequests, true),
        (flags::HANDS_OVER, Unlinked::HandedOver, true),
        (flags::SPLIT_REQUEST, Unlinked::HandedOver, true),
        (flags::SPLIT_CALL, Unlinked::SplitCall, true),
        (flags::TAKEN, Unlinked::NoInbound, true),
        (flags::CLOSED, Unlinked::NoInbound, true),
        (flags::FORKED, Unlinked::HandedOver, false),
        (flags::FORGOTTEN, Unlinked::Forgotten, false),
        (flags::ANSWERED, Unlinked::BytesDiffer, false),
    ] {
        let refusal = Refusal { reason, last_word };
        let record = Record {
            flags: flag | flags::NONBLOCKING,
            ..good()
        };
        assert_eq!(decide(&record, BYTES), Verdict::Refused(refusal), "{flag}");
        let all = Record {
            flags: u32::MAX,
            ..good()
        };
        assert!(matches!(decide(&all, BYTES), Verdict::Refused(_)));
        rows += 1;
    }
    assert_eq!(rows, 15);
}

#[test]
fn addresses_survive_the_way_through_the_kernel() {
    for (app, local) in [
        ("127.0.0.1:8000", "127.0.0.1:40000"),
        ("[::1]:65535", "[fe80::1]:1"),
        ("0.0.0.0:0", "255.255.255.255:9"),
    ] {
        let (app, local) = (app.parse().unwrap(), local.parse().unwrap());
        let key = record::key(app, local);
        assert_eq!(record::ends(&key), Some(Ends::Tcp([local, app])));
    }
    // As the kernel has an IPv4 socket: ::ffff:127.0.0.1 and ports in this machine's order.
    let key = record::key(
        "127.0.0.1:8000".parse().unwrap(),
        "127.0.0.2:9".parse().unwrap(),
    );
    let local = u64::from_ne_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 1]);
    let remote = u64::from_ne_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 2]);
    assert_eq!(key[..4], [0, local, 0, remote]);
    let unix = u64::from_ne_bytes([0, 0, 0, 0, 1, 0, 0, 0]);
    let ends = record::ends(&[0, 0, 77, 0, unix]);
    assert_eq!(ends, Some(Ends::Unix(77)));
    assert_eq!(record::ends(&[0, 0, 77, 0, unix * 2]), None);
}

#[test]
fn a_record_is_read_as_the_kernel_lays_it_out() {
    let mut words = [0; 17];
    for (at, word) in words.iter_mut().enumerate() {
        *word = 100 + at as u64;
    }
    words[11] = 4321 << 32 | u64::from(flags::CLOSED);
    let record = Record::read(&words);
    let expected = Record {
        sent: 100,
        began: 102,
        read_at: 105,
        answered_at: 106,
        written: 107,
        sent_at: 108,
        flags: flags::CLOSED,
        process: Some((4321, 109)),
        request: [112, 113, 114, 115, 116],
    };
    assert_eq!(record, expected);
    words[11] = 0;
    assert_eq!(Record::read(&words).process, None);
}
