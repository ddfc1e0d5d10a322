//! What is held, and how much is read for whom.

use std::future::poll_fn;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::*;

#[test]
fn the_more_is_held_the_less_is_read_ahead() {
    let held = Held::default();
    for (already, at_once) in [
        (0, None),
        (BUDGET / 2, None),
        (BUDGET * 3 / 4, Some(MOST / 2)),
        (BUDGET, Some(LEAST)),
        (BUDGET * 2, Some(LEAST)),
    ] {
        held.bytes.set(already as i64);
        assert_eq!(held.read_ahead(), at_once, "{already}");
    }
    held.bytes.set(-1);
    assert_eq!(held.read_ahead(), None);
    for (most, at_once) in [(1, LEAST), (MOST / 2, MOST / 2)] {
        held.most.set(most as i64);
        assert_eq!(held.read_ahead(), Some(at_once), "{most}");
    }
    held.most.set(2 * MOST as i64);
    assert_eq!(held.read_ahead(), None);
}

#[test]
fn a_piece_is_held_until_the_last_of_it_is_dropped() {
    let held = Held::default();
    let mut bytes = held.hold(Bytes::from(vec![b'x'; 10_000]), None);
    assert_eq!(held.bytes.get(), 10_000);
    let first = bytes.split_to(4_000);
    drop(bytes);
    assert_eq!(held.bytes.get(), 10_000);
    drop(first);
    assert_eq!(held.bytes.get(), 0);
    let _small = held.hold(Bytes::from_static(b"small"), None);
    assert_eq!(held.bytes.get(), 0);
}

#[tokio::test]
async fn for_a_client_of_which_nothing_shows_that_it_reads_little_is_read_where_much_is_held() {
    let (metrics, pressure) = (Metrics::new(), Arc::default());
    let (held, flow) = (Held::responses(&metrics), Flow::default());
    let clock = Clock::new(Duration::from_secs(1), &pressure);
    let body = ResponseBody::from("x".repeat(10_000));
    let mut gated = Gated::new(body, clock.clone(), held.clone(), Some(flow.pieces()));
    let few = UNPROVEN - 1;
    let reads = u64::from(crate::proxy::ahead::READS);
    // What is held, and what the client has taken.
    let rows = [
        (few, 0, None),
        (UNPROVEN, 0, Some(SECOND)),
        (BUDGET as i64, 0, Some(LEAST)),
        (UNPROVEN, reads - 1, Some(SECOND)),
        (UNPROVEN, reads, None),
        (BUDGET as i64, reads, Some(LEAST)),
    ];
    let mut taken = 0;
    for (already, takes, expected) in rows {
        clock.wrote((takes - taken) as usize);
        taken = takes;
        // As the client's connection asks for more.
        poll_fn(|cx| Poll::Ready(Pin::new(&mut gated).poll_frame(cx).is_ready())).await;
        held.bytes.set(already);
        assert_eq!(
            held.at_once(&flow),
            expected,
            "{already} held, {takes} taken"
        );
    }
    // The next response on that connection is nobody's yet.
    flow.ended();
    held.bytes.set(UNPROVEN);
    assert_eq!(held.at_once(&flow), None);
    assert_eq!(rows.len(), 6);
}

#[tokio::test]
async fn no_more_is_read_than_may_be() {
    let held = Held::default();
    for (most, expected) in [(None, 100), (Some(1_000), 100), (Some(30), 30)] {
        let mut socket: &[u8] = &[b'x'; 100];
        let mut buf = [0; 200];
        let mut buf = ReadBuf::new(&mut buf);
        poll_fn(|cx| held.poll_read(&mut socket, most, cx, &mut buf))
            .await
            .unwrap();
        assert_eq!(buf.filled(), vec![b'x'; expected]);
        assert_eq!(socket.read(&mut [0; 200]).await.unwrap(), 100 - expected);
    }
}

#[test]
fn one_small_piece_is_held_for_who_may_have_no_window_for_it() {
    let (held, flow) = (Held::default(), Flow::default());
    let little = (false, None);
    let rows = [
        (MUCH - 1, false, little),
        (MUCH, false, (true, Some(LEAST))),
        (MUCH, true, little),
        (BUDGET as i64, true, (true, Some(LEAST))),
    ];
    for (already, taken, expected) in rows {
        held.bytes.set(already);
        if taken {
            flow.pieces().are_taken();
        }
        let got = (held.is_scarce_for(&flow), held.at_once(&flow));
        assert_eq!(got, expected, "{already} {taken}");
    }
    // The next response on the connection.
    flow.ended();
    held.bytes.set(MUCH);
    assert!(held.is_scarce_for(&flow));
}
