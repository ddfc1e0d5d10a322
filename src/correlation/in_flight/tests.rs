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

#[test]
fn what_ended_early_is_left_out_of_a_view() {
    let table = InFlight::default();
    let end = |id| End::Unix(70, id);
    for id in 1..=6 {
        table.open(id, end(id), id, None, id);
    }
    let enter = |id, now| table.enter(id, context(1), Some(0), now).unwrap();
    // 1: open, its only request long over. 2 and 3: closed, one of them lately. 4: closed, its request lives on.
    for (id, left, closed) in [(1, Some(110), None), (2, Some(110), Some(120))] {
        let number = enter(id, 100);
        left.into_iter()
            .for_each(|now| table.leave(id, number, now));
        closed.into_iter().for_each(|now| table.close(id, now));
    }
    let third = enter(3, 100);
    let fourth = enter(4, 100);
    table.close(4, 130);
    table.close(3, 140);
    table.leave(3, third, 300);
    // 5: kept; of its requests the second had ended early, and the third late. 6: never used, closed.
    for (entered, left) in [(100, 110), (120, 130), (140, 250), (260, 270)] {
        let number = enter(5, entered);
        table.leave(5, number, left);
    }
    table.close(6, 150);
    let seen = |since| {
        let views = table.view(310, since);
        let dones = |view: ConnectionView| view.requests.iter().map(|r| r.done).collect();
        let all = views.into_iter().map(|view| (view.id, dones(view)));
        all.collect::<Vec<(u64, Vec<Option<Nanos>>)>>()
    };
    let kept = |dones: &[Nanos]| dones.iter().copied().map(Some).collect::<Vec<_>>();
    let expected = vec![
        (1, kept(&[110])),
        (3, kept(&[300])),
        (4, vec![None]),
        (5, kept(&[250, 270])),
        // It was put with the past after the third, which was late.
        (6, vec![]),
    ];
    assert_eq!(seen(200), expected);
    assert_eq!(seen(0).len(), 6);
    assert_eq!(seen(0)[4].1.len(), 4);
    // What is left out is not forgotten: the third follows the second.
    let views = table.view(310, 200);
    let follows: Vec<_> = views[3].requests.iter().map(|r| r.follows).collect();
    assert_eq!(follows, [Some(130), Some(250)]);
    // It leaves: over, as the others are.
    table.leave(4, fourth, 320);
    assert_eq!(seen(310).len(), 3, "1, 5 and the one that just left");
    assert_eq!(seen(321).len(), 2);
    assert_eq!(table.size(), (6, 8));
}
