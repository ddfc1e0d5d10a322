//! An app with everything a Django service speaks over HTTP/1.1, and clients that notice when something is cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::journal::Journal;
use crate::support::raw::{self, Peer};

/// `/events` sends events for ever, an upgrade says back what it hears, a body is counted, `/reset` and `/half` break
/// off, `/hang` does not answer; the rest is `ok`.
pub(super) async fn app() -> raw::Server {
    raw::server(|mut peer| async move {
        while let Some(head) = peer.try_head().await {
            let goes_on = match head.target() {
                _ if head.one("upgrade").is_some() => return echo(peer).await,
                "/events" => return events(peer).await,
                "/reset" => return peer.reset(),
                "/half" => {
                    peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                        .await;
                    return;
                }
                "/hang" => return peer.hang().await,
                _ => match head.one("content-length") {
                    Some(length) => count(&mut peer, length.parse().unwrap()).await,
                    None => {
                        peer.try_write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .await
                    }
                },
            };
            if !goes_on {
                return;
            }
        }
    })
    .await
}

async fn echo(mut peer: Peer) {
    peer.try_write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    )
    .await;
    while let Some(bytes) = peer.some().await {
        if !peer.try_write(bytes).await {
            return;
        }
    }
}

async fn events(mut peer: Peer) {
    peer.try_write(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    .await;
    while peer.try_write("9\r\ndata: x\n\n\r\n").await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn count(peer: &mut Peer, mut left: usize) -> bool {
    let whole = left;
    while left > 0 {
        let Some(bytes) = peer.some().await else {
            return false;
        };
        left -= bytes.len();
    }
    let text = whole.to_string();
    peer.try_write(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    ))
    .await
}

/// Clients that last: what they got so far, and where one was cut.
pub(super) struct Clients {
    pub(super) steps: Journal<()>,
    cut: Journal<String>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Clients {
    /// So many of each: WebSockets that are spoken on, event streams, uploads one after the other that take their time.
    pub(super) async fn start(to: SocketAddr, each: usize) -> Clients {
        let mut clients = Clients {
            steps: Journal::default(),
            cut: Journal::default(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        for _ in 0..each {
            clients.spawn("websocket", websocket(to, clients.steps.clone()));
            clients.spawn("events", event_stream(to, clients.steps.clone()));
            clients.spawn("upload", uploads(to, clients.steps.clone()));
        }
        clients.steps.at_least(each * 3).await;
        clients
    }

    /// `client` never ends by itself; if it does, it says why.
    fn spawn(&mut self, name: &'static str, client: impl Future<Output = String> + Send + 'static) {
        let (cut, stop) = (self.cut.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                why = client => cut.push(format!("{name}: {why}")),
                () = stop.cancelled() => {}
            }
        });
    }

    /// Lets all of them take some more steps, ends them, and says which were cut.
    pub(super) async fn finish(self) -> (usize, Vec<String>) {
        self.steps
            .at_least(self.steps.len() + self.tasks.len() * 3)
            .await;
        self.stop.cancel();
        self.tasks.join_all().await;
        (self.steps.len(), self.cut.all())
    }
}

async fn websocket(to: SocketAddr, steps: Journal<()>) -> String {
    let mut peer = raw::connect(to).await;
    peer.write(
        "GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let head = peer.head().await;
    if head.status() != 101 {
        return head.line;
    }
    for number in 0_u64.. {
        let said = number.to_be_bytes();
        if !peer.try_write(said).await {
            return "takes no more".to_owned();
        }
        while peer.have().len() < 8 {
            if !peer.fill().await {
                return format!("ended after {number}");
            }
        }
        if peer.exactly(8).await != said {
            return "said something else back".to_owned();
        }
        steps.push(());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    unreachable!()
}

async fn event_stream(to: SocketAddr, steps: Journal<()>) -> String {
    let mut peer = raw::connect(to).await;
    peer.write("GET /events HTTP/1.1\r\nHost: shop\r\n\r\n")
        .await;
    let head = peer.head().await;
    if head.status() != 200 {
        return head.line;
    }
    while peer.some().await.is_some() {
        steps.push(());
    }
    "ended".to_owned()
}

/// Each upload takes some 100 ms, so that changes come into its midst.
async fn uploads(to: SocketAddr, steps: Journal<()>) -> String {
    let piece = vec![b'u'; 16 * 1024];
    loop {
        let mut peer = raw::connect(to).await;
        peer.write("POST /upload HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 163840\r\n\r\n")
            .await;
        for _ in 0..10 {
            if !peer.try_write(&piece).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match peer.try_response_to("POST").await {
            Some(answer) if answer.status == 200 && answer.text() == "163840" => steps.push(()),
            other => return format!("{other:?}"),
        }
    }
}
