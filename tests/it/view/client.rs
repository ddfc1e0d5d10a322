//! What `hopspan trace` prints, and what it says when it cannot.

use std::io::{self, Write};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use hopspan::config::Address;
use hopspan::view::ViewAddresses;
use hopspan::view::client::{TraceArgs, Which, addresses, print_trace, run_trace};
use hopspan::view::terminal::{ColorWhen, Style};

use super::fixture::{Running, request, span};
use crate::support::raw::closed_port;

const STYLE: Style = Style {
    width: 80,
    color: false,
    ascii: false,
};

fn args(viewer: impl Into<Address>, which: Which) -> TraceArgs {
    TraceArgs {
        which,
        viewer: viewer.into(),
        json: false,
        ascii: false,
        color: ColorWhen::Auto,
    }
}

async fn printed(args: TraceArgs) -> Result<String, String> {
    let mut out = Vec::new();
    match print_trace(&args, &STYLE, &mut out).await {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn draws_the_newest_the_newest_failing_and_one_by_prefix() {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request(
            "order",
            vec![span(0xa1, 1, 0).server(500), span(0xb2, 2, 0).server(200)],
        ))
        .await;
    let page = viewer.addresses.page;
    for (which, trace) in [
        (Which::Last, 0xb2),
        (Which::Errors, 0xa1),
        (Which::Id(format!("{:032X}", 0xa1)), 0xa1),
        (
            Which::Id("000000000000000000000000000000b".to_owned()),
            0xb2,
        ),
    ] {
        let drawn = printed(args(page, which)).await.unwrap();
        assert!(
            drawn.starts_with(&format!("trace {trace:032x} · 2025-09-22 08:47:03.12")),
            "{drawn}"
        );
        let verdict = "✗ order answered 500 to GET / after 10 ms; none of its own calls failed\n";
        assert_eq!(drawn.ends_with(verdict), trace == 0xa1, "{drawn}");
    }
    viewer.stop().await;
}

#[tokio::test]
async fn json_is_the_api_with_nothing_a_terminal_obeys() {
    let viewer = Running::start().await;
    let mut nasty = span(1, 1, 0).server(500);
    nasty.0.name = "a\u{1b}[2J\u{9b}31m\u{202e}b".to_owned();
    let name = nasty.0.name.clone();
    viewer.send_grpc(request("order", vec![nasty])).await;
    let json = TraceArgs {
        json: true,
        ..args(viewer.addresses.page, Which::Last)
    };
    let text = printed(json).await.unwrap();
    let steers = |char: &char| char.is_control() && *char != '\n' || *char == '\u{202e}';
    assert_eq!(text.chars().find(steers), None);
    let trace: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(trace["rows"][0]["name"], name, "the meaning is kept");
    viewer.stop().await;
}

#[tokio::test]
async fn says_what_is_wrong_and_what_to_do() {
    let viewer = Running::start().await;
    let page = viewer.addresses.page;
    let nobody = closed_port();
    let unix: Address = "unix:/run/view.sock".parse().unwrap();
    for (args, words) in [
        (
            args(nobody, Which::Last),
            format!("no viewer at {nobody}: start one with `hopspan view`"),
        ),
        (
            args(page, Which::Last),
            format!("the viewer at {page} has no traces yet: send a request through hopspan"),
        ),
        (
            args(page, Which::Errors),
            format!("none of the traces in the viewer at {page} has an error"),
        ),
        (
            args(page, Which::Id("ab/../c?".to_owned())),
            "a trace ID has 32 hex digits; the first few are enough if only one trace has them"
                .to_owned(),
        ),
        (
            args(unix, Which::Last),
            "unix:/run/view.sock: the viewer listens on TCP only, as in 127.0.0.1:4319".to_owned(),
        ),
        // The OTLP port is the likeliest mistake.
        (
            args(viewer.addresses.http, Which::Last),
            format!(
                "what listens at {} does not answer as a hopspan viewer (status 404 Not Found)",
                viewer.addresses.http
            ),
        ),
    ] {
        assert_eq!(printed(args).await, Err(words));
    }
    viewer.stop().await;
}

#[tokio::test]
async fn finds_where_a_viewer_takes_spans() {
    let viewer = Running::start().await;
    let found = addresses(&viewer.addresses.page.into()).await.unwrap();
    let all = |of: ViewAddresses| (of.grpc, of.http, of.page);
    assert_eq!(all(found), all(viewer.addresses));
    let other = addresses(&viewer.addresses.http.into()).await;
    assert!(other.is_err());
    viewer.stop().await;
}

#[tokio::test]
async fn what_is_no_viewer_is_called_so() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{\"a\":",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        "220 smtp ready\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let words = printed(args(address, Which::Last)).await.unwrap_err();
        assert!(
            words.starts_with(&format!("what listens at {address} does not answer")),
            "{words}"
        );
        peer.await.unwrap();
    }
}

/// A pipe whose reader went away after the first byte, as `| head` does.
struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_left_is_no_error_and_a_full_disk_is() {
    let viewer = Running::start().await;
    viewer
        .send_grpc(request("order", vec![span(1, 1, 0).server(200)]))
        .await;
    let left = run_trace(
        args(viewer.addresses.page, Which::Last),
        &mut Closed(io::ErrorKind::BrokenPipe),
    )
    .await;
    assert!(left.is_ok());
    let full = run_trace(
        args(viewer.addresses.page, Which::Last),
        &mut Closed(io::ErrorKind::StorageFull),
    )
    .await;
    assert!(full.unwrap_err().to_string().starts_with("cannot write"));
    viewer.stop().await;
}
