//! When the kernel received the first bytes of a request: `SO_TIMESTAMPNS` (socket(7)) read by recvmsg(2).
//!
//! Used on the outbound listener only, where a receive time tells which of the app's threads was running. Where the
//! option cannot be set, and for the first milliseconds after it was, [`Received::first`] is `None`.
//! It does not convert clocks: both are given as read.

#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::queues;

/// When bytes arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// When the kernel took the packet in: `CLOCK_REALTIME`, nanoseconds since 1970.
    pub realtime_ns: u64,
    /// When they were read: `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// How many bytes that read gave.
    pub bytes: u64,
}

/// What one connection received, and how much was sent on it: shared between its socket and whoever handles its
/// requests.
#[derive(Debug, Default)]
pub struct Received {
    /// The exchange's first read was seen.
    known: AtomicBool,
    /// Bytes of the next request came before this exchange had its answer.
    early: AtomicBool,
    /// Of the exchange's first read: 0 where the kernel gave no time, or where it is not the time of the first bytes.
    realtime_ns: AtomicU64,
    monotonic_ns: AtomicU64,
    bytes: AtomicU64,
    total: AtomicU64,
    marked: AtomicU64,
    /// Where the request that is being handled ends; 0 where nobody said.
    ends: AtomicU64,
    /// `marked` is not known to be where the next request begins.
    unsure: AtomicBool,
    /// Of the last read: 0 where the kernel gave no time.
    last_realtime_ns: AtomicU64,
    last_monotonic_ns: AtomicU64,
    written: Arc<AtomicU64>,
}

impl Received {
    /// The first read since the last [`Received::mark`]. `None` where the kernel gives no time, and where bytes of this
    /// request came before the answer to the one before (pipelining, or two processes on one connection).
    pub fn first(&self) -> Option<Timestamp> {
        let known = self.known.load(Ordering::Acquire);
        let realtime_ns = self.realtime_ns.load(Ordering::Relaxed);
        (known && realtime_ns != 0).then(|| Timestamp {
            realtime_ns,
            monotonic_ns: self.monotonic_ns.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        })
    }

    /// Ends an exchange: the next read is the first of the next request.
    pub fn mark(&self) {
        if self.ends.swap(0, Ordering::Relaxed) != self.total() {
            self.unsure.store(true, Ordering::Relaxed);
        }
        self.marked.store(self.total(), Ordering::Relaxed);
        if self.early.swap(false, Ordering::Relaxed) {
            self.realtime_ns.store(0, Ordering::Relaxed);
        } else {
            self.known.store(false, Ordering::Release);
        }
    }

    /// Where the request that is being handled begins: bytes read up to the last [`Received::mark`]. `None` once bytes
    /// were read ahead of an answer, or [`Received::ends`] was not told of a request: it is not known from then on.
    pub fn before(&self) -> Option<u64> {
        let sure = !self.unsure.load(Ordering::Relaxed);
        sure.then(|| self.marked.load(Ordering::Relaxed))
    }

    /// Tells how many bytes of the connection there are to the end of the request that is being handled.
    pub fn ends(&self, bytes: u64) {
        self.ends.store(bytes, Ordering::Relaxed);
    }

    /// The last read, for whoever knows that no other is under way: its `bytes` are not kept and are 0.
    pub fn last(&self) -> Option<Timestamp> {
        let realtime_ns = self.last_realtime_ns.load(Ordering::Acquire);
        (realtime_ns != 0).then(|| Timestamp {
            realtime_ns,
            monotonic_ns: self.last_monotonic_ns.load(Ordering::Relaxed),
            bytes: 0,
        })
    }

    /// All bytes read so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts the bytes that the kernel took to send, from then on.
    pub fn written(&self) -> &Arc<AtomicU64> {
        &self.written
    }

    /// The outcome of a write, its bytes counted.
    pub(crate) fn sent(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.written.fetch_add(*bytes as u64, Ordering::Release);
        }
        outcome
    }

    /// Bytes that were read without a time.
    pub(crate) fn count(&self, bytes: usize) {
        self.total.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn note(&self, realtime_ns: Option<u64>, bytes: usize) {
        self.total.fetch_add(bytes as u64, Ordering::Relaxed);
        let monotonic_ns = monotonic_ns();
        self.last_monotonic_ns
            .store(monotonic_ns, Ordering::Relaxed);
        self.last_realtime_ns
            .store(realtime_ns.unwrap_or(0), Ordering::Release);
        if self.known.load(Ordering::Relaxed) {
            return;
        }
        self.realtime_ns
            .store(realtime_ns.unwrap_or(0), Ordering::Relaxed);
        self.monotonic_ns.store(monotonic_ns, Ordering::Relaxed);
        self.bytes.store(bytes as u64, Ordering::Relaxed);
        self.known.store(true, Ordering::Release);
    }
}

/// A TCP stream whose reads carry receive times.
pub struct Stamped {
    stream: TcpStream,
    received: Arc<Received>,
    answers: bool,
}

impl Stamped {
    /// Reads `stream`, which should come from a listener with [`enable`].
    pub fn new(stream: TcpStream, received: Arc<Received>) -> Stamped {
        // Inherited from the listener, except where the handshake was over before the listener asked.
        let _ = enable(&stream);
        Stamped {
            stream,
            received,
            answers: false,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// What is written answers requests: bytes that come before an answer are noticed. See [`Received::first`].
    pub fn answering(self) -> Stamped {
        Stamped {
            answers: true,
            ..self
        }
    }

    /// Before a part of an answer is written: what waits to be read now was sent by somebody who has not seen it. One
    /// read may give that and later bytes together, with the time of the later ones.
    fn look_for_early_bytes(&self) {
        if !self.answers || self.received.early.load(Ordering::Relaxed) {
            return;
        }
        if queues::unread(&self.stream) > 0 {
            self.received.early.store(true, Ordering::Relaxed);
        }
    }

    fn receive_once(&self, buf: &mut ReadBuf<'_>) -> io::Result<(usize, Option<u64>)> {
        let fd = self.stream.as_raw_fd();
        let mut got = None;
        let tried = self.stream.try_io(Interest::READABLE, || {
            let room = buf.remaining();
            let (bytes, time) = receive(fd, buf)?;
            got = Some((bytes, time));
            // A short read has emptied the socket. Saying "would block" clears the readiness seen before the read, as
            // tokio's own reads do, and saves the next recvmsg that would only tell so.
            if bytes > 0 && bytes < room {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (got, tried) {
            (Some(got), _) => Ok(got),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl AsyncRead for Stamped {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.receive_once(buf) {
                Ok((bytes, realtime_ns)) => {
                    if bytes > 0 {
                        self.received.note(realtime_ns, bytes);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look_for_early_bytes();
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.received.sent(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look_for_early_bytes();
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.received.sent(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Asks the kernel for receive times on a socket; accepted sockets inherit it.
///
/// On the listener rather than on each connection, since what arrives before accept(2) would go without, and since the
/// kernel starts stamping some time after the first socket asks and stops with the last: a listener keeps it going.
///
/// # Errors
/// The kernel refuses (not Linux as we know it). Reads work nonetheless, without times.
pub fn enable(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the option value is a live c_int of the length
    // given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Room for one control message that holds a timespec, aligned as `cmsghdr` asks.
#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; 64]);

/// One recvmsg: bytes into the unfilled part of `buf`, and the receive time if the kernel gave one.
fn receive(fd: RawFd, buf: &mut ReadBuf<'_>) -> io::Result<(usize, Option<u64>)> {
    let mut control = Control([MaybeUninit::uninit(); 64]);
    // SAFETY: nothing is de-initialised: recvmsg only writes, and `assume_init` below covers what it wrote.
    let room = unsafe { buf.unfilled_mut() };
    let mut part = libc::iovec {
        iov_base: room.as_mut_ptr().cast(),
        iov_len: room.len(),
    };
    // SAFETY: an all-zero msghdr is a valid one with no buffers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `message` points at `room` and `control`, both live and of the lengths given.
    let count = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(count) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    // SAFETY: the kernel has initialised `count` bytes at the start of the unfilled part.
    unsafe { buf.assume_init(count) };
    buf.advance(count);
    Ok((count, stamp(&message)))
}

fn stamp(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: `message` was filled by recvmsg and its control buffer is alive in the caller.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: non-null headers from CMSG_FIRSTHDR lie inside the control buffer and are complete.
    let header = unsafe { header.as_ref() }?;
    if header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_TIMESTAMPNS {
        return None;
    }
    // SAFETY: a SCM_TIMESTAMPNS message carries one timespec; read_unaligned asks nothing of its place.
    let time = unsafe {
        libc::CMSG_DATA(header)
            .cast::<libc::timespec>()
            .read_unaligned()
    };
    nanoseconds(time)
}

fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live timespec that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    nanoseconds(time).unwrap_or(0)
}

fn nanoseconds(time: libc::timespec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let rest = u64::try_from(time.tv_nsec).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(rest)
}

#[cfg(test)]
mod tests;
