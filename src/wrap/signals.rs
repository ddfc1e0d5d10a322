//! The signals hopspan acts on, as one stream of values.
//!
//! TERM, INT, QUIT, USR1 and USR2 are the child's too; HUP means "reload" to hopspan and is never passed on.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{self, SignalKind};

/// A signal that hopspan acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: drain and stop; the second means now.
    Terminate,
    /// SIGINT: as TERM.
    Interrupt,
    /// SIGQUIT: as TERM, and gunicorn's quick shutdown.
    Quit,
    /// SIGUSR1: the child's alone (gunicorn reopens its logs).
    User1,
    /// SIGUSR2: the child's alone (gunicorn upgrades itself).
    User2,
    /// SIGHUP: reload the config. Not passed on.
    Hangup,
}

const ALL: [Signal; 6] = [
    Signal::Terminate,
    Signal::Interrupt,
    Signal::Quit,
    Signal::User1,
    Signal::User2,
    Signal::Hangup,
];

impl Signal {
    /// The system's number.
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::Hangup => libc::SIGHUP,
        }
    }

    /// The name as `kill` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Quit => "QUIT",
            Signal::User1 => "USR1",
            Signal::User2 => "USR2",
            Signal::Hangup => "HUP",
        }
    }

    /// Whether a child in wrap mode gets it.
    pub fn is_forwarded(self) -> bool {
        self != Signal::Hangup
    }

    /// Whether it asks hopspan itself to stop.
    pub fn stops(self) -> bool {
        matches!(self, Signal::Terminate | Signal::Interrupt | Signal::Quit)
    }
}

/// The stream of [`Signal`]s of this process. From its creation on none of them has its default action any more.
pub struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Starts listening. Fails where the system refuses a handler; must be called inside a tokio runtime.
    pub fn new() -> io::Result<Signals> {
        let mut streams = Vec::with_capacity(ALL.len());
        for signal in ALL {
            let kind = SignalKind::from_raw(signal.number());
            streams.push((signal, unix::signal(kind)?));
        }
        Ok(Signals { streams })
    }

    /// The next signal. May be dropped while it waits. Several of one kind may arrive as one, as always with signals.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}
