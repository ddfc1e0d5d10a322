//! Which request a thread's moment belongs to.

use super::*;
use crate::trace::TraceId;

const END: End = End::Unix(70, 7);

fn context(number: u128) -> Context {
    Context {
        trace_id: TraceId::from_bytes(number.to_be_bytes()),
        ..Context::new_root()
    }
}

/// One connection with requests `(dispatched, done, received before)`; their contexts are numbered from 1.
fn table(requests: &[(Nanos, Option<Nanos>, Option<u64>)]) -> InFlight {
    let table = InFlight::default();
    table.open(1, END, 0, None, 1);
    for (at, (dispatched, done, received)) in requests.iter().enumerate() {
        let context = context(at as u128 + 1);
        let number = table.enter(1, context, *received, *dispatched).unwrap();
        if let Some(done) = done {
            table.leave(1, number, *done);
        }
    }
    table
}

/// The number of the request at a moment `(read, sent, answered, written)`.
fn found(table: &InFlight, moment: (Nanos, Nanos, Nanos, u64)) -> Result<u128, Unlinked> {
    let (read, sent, answered, written) = moment;
    let moment = Moment {
        read,
        sent,
        answered,
        written,
    };
    let context = table.at(Ends::of(END), &moment)?;
    Ok(u128::from_be_bytes(context.trace_id.to_bytes()))
}

#[test]
fn a_moment_belongs_to_the_request_that_was_read_and_not_answered() {
    // Two on a kept connection, 500 bytes answered between them; the second is in flight.
    let table = table(&[(100, Some(200), Some(0)), (300, None, Some(500))]);
    let mut rows = 0;
    for (moment, expected) in [
        ((110, 150, 0, 0), Ok(1)),
        // It ended while the call was looked up: still the cause.
        ((110, 200, 0, 0), Ok(1)),
        ((100, 100, 0, 0), Ok(1)),
        ((310, 350, 180, 500), Ok(2)),
        // Sent after the first one's end.
        ((110, 201, 0, 0), Err(Unlinked::AnswerBegun)),
        ((110, 350, 0, 0), Err(Unlinked::AnswerBegun)),
        // The app had begun to answer.
        ((110, 150, 140, 20), Err(Unlinked::AnswerBegun)),
        ((310, 350, 340, 520), Err(Unlinked::AnswerBegun)),
        // Bytes that were read before the first one was sent.
        ((90, 150, 0, 0), Err(Unlinked::NoInbound)),
        // Read as the first one, sent within the second.
        ((150, 320, 0, 500), Err(Unlinked::AnswerBegun)),
    ] {
        assert_eq!(found(&table, moment), expected, "{moment:?}");
        rows += 1;
    }
    assert_eq!(rows, 10);
}

#[test]
fn without_a_count_the_time_of_the_answer_decides() {
    let table = table(&[(100, Some(200), None), (300, None, None)]);
    assert_eq!(found(&table, (310, 350, 180, 500)), Ok(2));
    let begun = Err(Unlinked::AnswerBegun);
    assert_eq!(found(&table, (310, 350, 300, 500)), begun);
    assert_eq!(found(&table, (310, 350, 320, 500)), begun);
}

#[test]
fn two_that_fit_are_none() {
    // Requests that overlap on one connection: not one after the other, as HTTP/1 has them.
    let table = table(&[(100, None, Some(0)), (110, None, Some(0))]);
    let several = Err(Unlinked::SeveralRequests);
    assert_eq!(found(&table, (120, 150, 0, 0)), several);
    assert_eq!(found(&table, (105, 150, 0, 0)), Ok(1));
}

#[test]
fn a_connection_is_known_by_its_ends_and_forgotten_in_time() {
    let table = table(&[(100, None, Some(0))]);
    let moment = Moment {
        read: 110,
        sent: 120,
        ..Moment::default()
    };
    assert!(table.at(Ends::Unix(8), &moment).is_err());
    // Another connection between the same ends: the answers of the kernel are about that one.
    table.open(2, END, 200, None, 201);
    assert_eq!(table.at(Ends::of(END), &moment), Err(Unlinked::NoInbound));
    // The old one goes, the new one stays known.
    let later = 300 + RETAIN.as_nanos() as Nanos;
    table.leave(1, 0, 300);
    table.close(1, 300);
    table.open(3, End::Unix(90, 9), later + 1, None, later + 1);
    assert_eq!(table.size().0, 2);
    table.enter(2, context(9), Some(0), later + 2);
    let moment = Moment {
        read: later + 3,
        sent: later + 4,
        ..Moment::default()
    };
    assert_eq!(
        table.at(Ends::of(END), &moment),
        Ok(table.context(2, 1).unwrap())
    );
}
