//! The thread proof: one thread read a request, and then sent the call while the request was not answered.
//!
//! Programs in the kernel (`thread.bpf.c`, eBPF on BTF tracepoints, Linux 6.3) note which thread reads from hopspan's
//! connections to the app and which sends on the app's connections to hopspan. A look-up is one or two bpf(2) calls on
//! the caller's own thread, some microseconds; nothing is guessed, and every objection refuses ([`decide`]).
//! It needs neither a view of the app's processes nor tracefs: CAP_BPF and CAP_PERFMON while it loads, then nothing.

mod decide;
mod greenlets;
mod load;
mod memory;
mod privileges;
mod record;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::SetOnce;

pub(super) use self::decide::Refusal;
use self::decide::Verdict;
use self::greenlets::Greenlets;
use self::load::{Kernel, Role};
use self::record::{Record, flags};
use super::availability::{Availability, Obstacle};
use super::in_flight::{Ends, InFlight, Moment};
use super::unlinked::Unlinked;
use super::{OutboundCall, unmapped};
use crate::trace::Context;

/// Pauses while a call's bytes are here and its record is not: the sender was interrupted between the two. No pause
/// only lets others run.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(1),
    Duration::from_millis(1),
];

/// Lets one thread keep the capabilities that loading needs, and takes them from everyone else: see [`Loader::keep`].
pub struct Loader {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Loader {
    /// Starts the thread, and gives up CAP_BPF and CAP_PERFMON in this one. Call it in the main thread before any other
    /// is started: they inherit what it has. `starts_app`: hopspan will start the app, as its own user.
    ///
    /// # Errors
    /// The thread cannot be started, or the kernel refuses.
    pub fn keep(starts_app: bool) -> std::io::Result<Loader> {
        let (jobs, queue) = channel::<Job>();
        let thread = std::thread::Builder::new().name("hopspan-bpf".to_owned());
        thread.spawn(move || {
            if let Ok(job) = queue.recv() {
                job();
            }
        })?;
        privileges::give_up(starts_app)?;
        Ok(Loader { jobs })
    }
}

/// The rung. Shared by both hops.
pub(super) struct Thread {
    kernel: SetOnce<Result<Kernel, Obstacle>>,
    /// Ports of the app, and how many connections to each are open.
    ports: Mutex<HashMap<u16, usize>>,
    /// Where calls arrive.
    calls: Option<u16>,
    greenlets: Greenlets,
    disagreed: AtomicBool,
}

impl Thread {
    /// Begins to load. Calls that arrive at `outbound` are looked at.
    pub(super) fn start(loader: Option<Loader>, outbound: Option<SocketAddr>) -> Arc<Thread> {
        let thread = Arc::new(Thread {
            kernel: SetOnce::new(),
            ports: Mutex::default(),
            calls: outbound.map(|address| address.port()),
            greenlets: Greenlets::default(),
            disagreed: AtomicBool::new(false),
        });
        let rung = thread.clone();
        let job = move || {
            memory::return_what_is_freed();
            let loaded = Kernel::load();
            // Before it is told: who hears of it finds no thread that may load more. Nobody to tell where it fails: this
            // thread ends.
            let _ = privileges::give_up(false);
            rung.set(loaded);
        };
        let started = match loader {
            // Its thread waits for nothing else, and only once.
            Some(loader) => loader.jobs.send(Box::new(job)).is_ok(),
            None => std::thread::Builder::new()
                .name("hopspan-bpf".to_owned())
                .spawn(job)
                .is_ok(),
        };
        if !started {
            thread.set(Err(Obstacle::Failed("no thread to load it".to_owned())));
        }
        thread
    }

    /// Takes what loading brought, and shows it the ports that became known meanwhile.
    fn set(&self, loaded: Result<Kernel, Obstacle>) {
        let ports = self.ports();
        if let Ok(kernel) = &loaded {
            for port in ports.keys() {
                kernel.watch(*port, Role::App);
            }
            if let Some(port) = self.calls {
                kernel.watch(port, Role::Calls);
            }
        }
        // Set once, by whoever loads.
        let _ = self.kernel.set(loaded);
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<u16, usize>> {
        // The critical sections do not panic half-way; a poisoned table is still whole.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kernel(&self) -> Option<&Kernel> {
        self.kernel.get()?.as_ref().ok()
    }

    /// Waits until it is loaded, or will not be.
    pub(super) async fn settled(&self) {
        self.kernel.wait().await;
    }

    /// Whether it works.
    pub(super) fn availability(&self) -> Availability {
        if self.disagreed.load(Ordering::Relaxed) {
            return Availability::Off(Obstacle::Disagreed);
        }
        match self.kernel.get() {
            None => Availability::Starting,
            Some(Ok(_)) => Availability::Ready,
            Some(Err(obstacle)) => Availability::Off(obstacle.clone()),
        }
    }

    /// It is wrong: nobody asks it any more. Whether it was off before.
    pub(super) fn switch_off(&self) -> bool {
        self.disagreed.swap(true, Ordering::Relaxed)
    }

    /// What the kernel's programs could not note for lack of memory.
    pub(super) fn lost(&self) -> u64 {
        self.kernel().map_or(0, Kernel::lost)
    }

    /// A connection to the app was made, and nothing was sent on it yet.
    pub(super) fn opened(&self, ends: Ends) {
        let port = match ends {
            Ends::Tcp([_, app]) => app.port(),
            Ends::Unix(cookie) => {
                let watched = self.kernel().is_none_or(|kernel| kernel.watch_peer(cookie));
                if !watched {
                    tracing::warn!("too many unix connections to the app for the thread rung");
                }
                return;
            }
        };
        let mut ports = self.ports();
        let known = ports.contains_key(&port);
        *ports.entry(port).or_default() += 1;
        let Some(kernel) = self.kernel().filter(|_| !known) else {
            return;
        };
        if kernel.watch(port, Role::App) {
            return;
        }
        // Full: those that nobody is connected to make room.
        ports.retain(|port, connections| {
            if *connections == 0 {
                kernel.forget(*port);
            }
            *connections > 0
        });
        if !kernel.watch(port, Role::App) {
            tracing::warn!(
                port,
                "too many app ports: calls of this one are not joined by thread"
            );
        }
    }

    /// A connection to the app was closed.
    pub(super) fn closed(&self, ends: Ends) {
        match ends {
            Ends::Tcp([_, app]) => {
                if let Some(connections) = self.ports().get_mut(&app.port()) {
                    *connections = connections.saturating_sub(1);
                }
            }
            Ends::Unix(cookie) => {
                if let Some(kernel) = self.kernel() {
                    kernel.forget_peer(cookie);
                }
            }
        }
    }

    /// The request that caused a call. Waits some milliseconds at most, and nearly always not at all.
    pub(super) async fn ask(
        &self,
        call: &OutboundCall,
        in_flight: &InFlight,
    ) -> Result<Context, Refusal> {
        let off = Refusal::unsure(Unlinked::Off);
        if self.disagreed.load(Ordering::Relaxed) {
            return Err(off);
        }
        let kernel = self.kernel().ok_or(off)?;
        let record = look(kernel, call).await?;
        if record.has(flags::NONBLOCKING)
            && let Some(process) = record.process
            && self.greenlets.has(process).await
        {
            return Err(Refusal::sure(Unlinked::EventLoop));
        }
        let unknown = Refusal::unsure(Unlinked::NoInbound);
        let ends = record::ends(&record.request).ok_or(unknown)?;
        let moment = Moment {
            read: record.read_at,
            sent: record.sent_at,
            answered: record.answered_at,
            written: record.written,
        };
        in_flight.at(ends, &moment).map_err(Refusal::unsure)
    }
}

/// The record of a call, once it is about all of it that hopspan has read.
async fn look(kernel: &Kernel, call: &OutboundCall) -> Result<Record, Refusal> {
    let bytes = call.bytes.map_err(Refusal::unsure)?;
    let key = record::key(unmapped(call.peer), unmapped(call.local));
    let mut pauses = PAUSES.iter();
    loop {
        let verdict = match kernel.call(&key) {
            Some(record) => decide::decide(&record, bytes),
            None => Verdict::NotYet,
        };
        let record = match verdict {
            Verdict::Refused(refusal) => return Err(refusal),
            // Read a second time: the kernel copies a record while it may change, but its bytes are counted last. So
            // all else is at least as new as the count that was seen the first time.
            Verdict::Claimed => kernel.call(&key),
            Verdict::NotYet => None,
        };
        if let Some(record) = record {
            return match decide::decide(&record, bytes) {
                Verdict::Refused(refusal) => Err(refusal),
                Verdict::Claimed => Ok(record),
                Verdict::NotYet => Err(Refusal::unsure(Unlinked::BytesDiffer)),
            };
        }
        match pauses.next() {
            Some(pause) if pause.is_zero() => tokio::task::yield_now().await,
            Some(pause) => tokio::time::sleep(*pause).await,
            None => return Err(Refusal::unsure(Unlinked::NotSeen)),
        }
    }
}

/// Whether the thread rung can work here: loads it, and takes it out again.
pub(super) fn probe() -> Availability {
    match Kernel::load() {
        Ok(_) => Availability::Ready,
        Err(obstacle) => Availability::Off(obstacle),
    }
}

#[cfg(test)]
mod tests;
