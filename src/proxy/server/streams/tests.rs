//! What waits on a stream keeps no more than it must.

use super::*;

#[tokio::test]
async fn a_small_piece_does_not_keep_the_buffer_that_it_was_read_into() {
    let buffer = Bytes::from(vec![b'x'; 8 * 1024]);
    for (size, kept) in [(2, false), (SMALL - 1, false), (SMALL, true)] {
        let body = ResponseBody::from(buffer.slice(..size));
        let held = Held::responses(&Metrics::new());
        let mut paced = Paced::new(body, None, held, None);
        let piece = std::future::poll_fn(|cx| Pin::new(&mut paced).poll_frame(cx)).await;
        let data = piece.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, buffer.slice(..size));
        assert_eq!(buffer.is_unique(), !kept, "{size}");
    }
}

#[tokio::test]
async fn where_there_is_little_room_the_client_is_waited_for_while_a_piece_is_held() {
    let (small, large) = (10_000, WINDOW + 1);
    for (memory, held, size, scarce) in [
        (0, 0, small, false),
        (1, 0, small, true),
        (1, 0, large, true),
        // Others hold much: until it has shown that it takes what it asks for.
        (0, 2 << 20, small, true),
        (0, 2 << 20, large, false),
    ] {
        let metrics = Metrics::new();
        metrics.content_read_bytes.set(memory);
        metrics.response_bytes_held.set(held);
        let (progress, pieces) = (Arc::<Progress>::default(), Arc::<Pieces>::default());
        let body = ResponseBody::from("x".repeat(size));
        let held = Held::responses(&metrics);
        let mut paced = PROGRESS.sync_scope(progress.clone(), || {
            Paced::new(body, None, held, Some(pieces))
        });
        let mut poll = |cx: &mut Context<'_>| Pin::new(&mut paced).poll_frame(cx);
        let piece = std::future::poll_fn(&mut poll).await;
        let waits = std::future::poll_fn(|cx| Poll::Ready(poll(cx).is_pending())).await;
        assert_eq!(waits, scarce);
        assert_eq!(progress.owed.load(Ordering::Relaxed), scarce);
        if scarce {
            let taken = async { drop(piece) };
            let (end, ()) = tokio::join!(std::future::poll_fn(&mut poll), taken);
            assert!(end.is_none());
            assert!(!progress.owed.load(Ordering::Relaxed));
        }
    }
}
