//! First bytes, whole and in pieces, and bytes given back.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const IDLE: Duration = Duration::from_secs(75);
const HEAD: Duration = Duration::from_secs(10);

async fn heard(server: &mut DuplexStream) -> Result<(Spoken, Vec<u8>), Unheard> {
    let clock = Clock::new(IDLE, &Arc::default());
    sniff(server, Vec::new(), &clock, IDLE, HEAD).await
}

#[test]
fn first_bytes_are_told_apart_as_early_as_possible() {
    let rows: [(&[u8], Option<Spoken>); 9] = [
        (b"", None),
        (b"G", Some(Spoken::Http1)),
        (b"P", None),
        (b"PR", None),
        (b"PROPFIND / HTTP/1.1\r\n", Some(Spoken::Http1)),
        (b"PRI * HTTP/1.1\r\n", Some(Spoken::Http1)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Some(Spoken::Http2)),
        (b"\x16\x03\x01", Some(Spoken::Tls)),
    ];
    for (bytes, spoken) in rows {
        assert_eq!(judge(bytes), spoken, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_single_bytes_is_one_and_is_given_back_whole() {
    let (mut client, mut server) = duplex(64);
    let sending = tokio::spawn(async move {
        for byte in PREFACE {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.write_all(b"rest").await.unwrap();
    });
    let (spoken, ahead) = heard(&mut server).await.unwrap();
    assert_eq!(spoken, Spoken::Http2);
    let mut all = Vec::new();
    let mut rewound = Rewound::new(ahead, server);
    // Less room than there are bytes.
    let mut piece = [0; 5];
    let count = rewound.read(&mut piece).await.unwrap();
    all.extend_from_slice(&piece[..count]);
    rewound.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [PREFACE, b"rest"].concat());
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_wait_has_its_deadline() {
    let rows = [(&b""[..], IDLE), (b"PRI * HT", HEAD)];
    for (bytes, limit) in rows {
        let (mut client, mut server) = duplex(64);
        client.write_all(bytes).await.unwrap();
        let started = tokio::time::Instant::now();
        let heard = heard(&mut server).await;
        assert_eq!(
            matches!(heard, Err(Unheard::Slow)),
            !bytes.is_empty(),
            "{heard:?}"
        );
        assert_eq!(started.elapsed().as_secs(), limit.as_secs());
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_silent_and_half_a_preface_is_http_1() {
    let (client, mut server) = duplex(64);
    drop(client);
    let heard = self::heard(&mut server).await;
    assert!(matches!(heard, Err(Unheard::Silent)));
    let (mut client, mut server) = duplex(64);
    client.write_all(b"PRI").await.unwrap();
    drop(client);
    let heard = self::heard(&mut server).await;
    assert!(matches!(heard, Ok((Spoken::Http1, ahead)) if ahead == b"PRI"));
}
