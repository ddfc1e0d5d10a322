//! Sockets as they are: what no HTTP library would send or tolerate. One type, [`Peer`], for both sides.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::journal::Journal;
use super::message::{self, Head, Response};
use super::within;

/// One end of a TCP connection, with a buffer of what was read and not yet used.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The number of this connection at its server, from 0.
    pub(crate) number: usize,
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr) -> Peer {
    let connected = try_connect(address).await;
    connected.unwrap_or_else(|error| panic!("connect to {address}: {error}"))
}

/// Connects, where refusal is an outcome.
pub(crate) async fn try_connect(address: SocketAddr) -> std::io::Result<Peer> {
    super::process::take_descriptors();
    let stream = within("a connection", TcpStream::connect(address)).await?;
    Ok(Peer::over(stream, 0))
}

/// Sends bytes on a new connection and reads one response.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut peer = connect(address).await;
    peer.write(bytes).await;
    peer.response().await
}

impl Peer {
    fn over(stream: TcpStream, number: usize) -> Peer {
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            buffer: Vec::new(),
            number,
        }
    }

    /// Our own address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends bytes; whether the other side still took them.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within(
            "the other side to read",
            self.stream.write_all(bytes.as_ref()),
        )
        .await
        .is_ok()
    }

    /// Sends bytes.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_write(bytes).await, "the other side closed");
    }

    /// Sends bytes in pieces of `size` with a pause after each.
    pub(crate) async fn trickle(&mut self, bytes: &[u8], size: usize, pause: Duration) {
        for piece in bytes.chunks(size) {
            if !self.try_write(piece).await {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads once into the buffer; false at the end of the stream, or when it was reset.
    pub(crate) async fn fill(&mut self) -> bool {
        // Not an array: it would make every future around this one as large.
        self.buffer.reserve(65536);
        let read = self.stream.read_buf(&mut self.buffer);
        matches!(within("bytes", read).await, Ok(count) if count > 0)
    }

    /// Reads a message head, or None if the other side closes before it is whole.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = message::head_end(&self.buffer) {
                let raw: Vec<u8> = self.buffer.drain(..end).collect();
                return Some(Head::parse(raw));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads a message head.
    pub(crate) async fn head(&mut self) -> Head {
        let head = self.try_head().await;
        head.unwrap_or_else(|| panic!("closed before a head; had {:?}", self.unread()))
    }

    /// Reads exactly `count` bytes.
    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(
                self.fill().await,
                "closed after {} of {count} bytes",
                self.buffer.len()
            );
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads up to and including `text`.
    pub(crate) async fn through(&mut self, text: &str) -> Vec<u8> {
        let text = text.as_bytes();
        loop {
            let found = self.buffer.windows(text.len()).position(|at| at == text);
            if let Some(at) = found {
                return self.buffer.drain(..at + text.len()).collect();
            }
            assert!(
                self.fill().await,
                "closed before {text:?}; had {:?}",
                self.unread()
            );
        }
    }

    /// Whatever comes next; None at the end.
    pub(crate) async fn some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && !self.fill().await {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads until the other side closes, and keeps only the count.
    pub(crate) async fn skip(&mut self) -> usize {
        let mut count = 0;
        while let Some(bytes) = self.some().await {
            count += bytes.len();
        }
        count
    }

    /// The socket itself, for a protocol of its own. Nothing may have been read ahead.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "read ahead: {:?}", self.unread());
        self.stream
    }

    /// Reads until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits until the other side closes, ignoring what it sends.
    pub(crate) async fn closed(&mut self) {
        self.rest().await;
    }

    /// Waits until the other side closes, for as long as that takes, and answers nothing.
    pub(crate) async fn hang(&mut self) {
        let mut piece = vec![0; 65536];
        while self
            .stream
            .read(&mut piece)
            .await
            .is_ok_and(|count| count > 0)
        {}
    }

    /// Reads one response to a GET or POST; its body by Content-Length, chunks, or to the end.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads one response; interim (1xx) ones are skipped, except 101.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let response = self.try_response_to(method).await;
        response.unwrap_or_else(|| panic!("closed before an answer; had {:?}", self.unread()))
    }

    /// Reads one response; None if the connection ended before a head.
    pub(crate) async fn try_response_to(&mut self, method: &str) -> Option<Response> {
        loop {
            let head = self.try_head().await?;
            let status = head.status();
            if status / 100 == 1 && status != 101 {
                continue;
            }
            return Some(message::read_response(self, head, method).await);
        }
    }

    /// What was read and not used, as it is.
    pub(crate) fn have(&self) -> &[u8] {
        &self.buffer
    }

    /// What was read and not used.
    pub(crate) fn unread(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Closes our sending half.
    pub(crate) async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes with RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

/// A server whose every connection runs a script. Ends, with its connections, when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Our side's peer address of each connection, as accepted.
    pub(crate) accepted: Journal<SocketAddr>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Connections that run now.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves: each connection gets one run of `script`, and is closed when that returns.
pub(crate) async fn server<F, R>(script: F) -> Server
where
    F: Fn(Peer) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Journal::default();
    let open = Arc::new(AtomicUsize::new(0));
    let (journal, count) = (accepted.clone(), Arc::clone(&open));
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        for number in 0.. {
            let (stream, from) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let guard = Open(Arc::clone(&count));
            let run = script(Peer::over(stream, number));
            connections.spawn(async move {
                run.await;
                drop(guard);
            });
            journal.push(from);
        }
    });
    Server {
        address,
        accepted,
        open,
        task,
    }
}

/// A port on which nobody listens, unless the test has somebody do so.
pub(crate) fn closed_port() -> SocketAddr {
    super::port::held()
}
