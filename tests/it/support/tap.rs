//! A stream that remembers what was read since the last write, so that a server over hyper knows the exact bytes of a
//! request's head.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes kept: heads, not bodies.
const KEPT: usize = 256 * 1024;

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    answered: bool,
}

/// The stream.
pub(crate) struct Tap {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
}

/// Reads what the tap keeps.
pub(crate) struct Heard(Arc<Mutex<State>>);

impl Heard {
    /// What was read since we last answered.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

impl Tap {
    pub(crate) fn new(stream: TcpStream) -> (Tap, Heard) {
        let state = Arc::default();
        let heard = Heard(Arc::clone(&state));
        (Tap { stream, state }, heard)
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            let mut state = self.state.lock().unwrap();
            // The first bytes after an answer begin the next request: clients here do not pipeline.
            if std::mem::take(&mut state.answered) {
                state.bytes.clear();
            }
            let room = KEPT.saturating_sub(state.bytes.len());
            state.bytes.extend_from_slice(&read[..read.len().min(room)]);
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state.lock().unwrap().answered = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
