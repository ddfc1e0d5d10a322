//! Joins an app's outbound call to the inbound request that caused it: with proof, or not at all.
//!
//! The inbound hop tells which requests the app works on ([`Correlator::enter`]); the outbound hop asks for the parent
//! of a call that carried no context ([`Correlator::parent_of`]). It returns values and never touches a span.
//! Every answer that is not proven is an [`Unlinked`] reason; being slow or without privileges costs a join, never
//! correctness and never the call.

mod audit;
mod availability;
mod call;
mod clock;
mod engine;
mod family;
mod in_flight;
mod inbound;
mod kernel;
mod live;
mod presence;
mod process;
mod rung;
mod serial;
pub mod server;
mod sock_diag;
pub mod survey;
mod thread;
pub mod token;
#[cfg(test)]
mod toothless;
mod unlinked;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use audit::Audit;
pub use availability::{Availability, Obstacle};
pub use call::{CallBytes, OutboundCall, Stamp};
use engine::Engine;
use http::HeaderValue;
use in_flight::{Ends, InFlight};
use kernel::{End, Inode};
pub use presence::{AppConnection, AppEnd, Presence};
pub use rung::Rung;
use server::Place;
pub use thread::Loader;
use thread::Thread;
use token::{TokenAnswer, Tokens};
pub use unlinked::Unlinked;

use crate::telemetry::Code;
use crate::telemetry::metrics::{EvidenceLabel, Metrics, Reason};
use crate::trace::{Context, Evidence};

/// The process ID of the app, once it runs.
pub type Child = Arc<dyn Fn() -> Option<u32> + Send + Sync>;

/// How the correlator works; the defaults suit an app that runs beside hopspan.
pub struct Options {
    /// The process ID of the app where hopspan started it (wrap mode), once it runs.
    pub child: Option<Child>,
    /// Whether requests get a token that their calls can bring back.
    pub tokens: bool,
    /// Whether the kernel may be made to watch which thread reads a request and sends a call (eBPF).
    pub thread: bool,
    /// Whether processes may be looked at for one that serves one request at a time.
    pub serial: bool,
    /// Where the app's calls arrive, as the app sees it.
    pub outbound: Option<SocketAddr>,
    /// The thread that kept the capabilities to load; else one is started that has its parent's.
    pub loader: Option<Loader>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            child: None,
            tokens: false,
            thread: true,
            serial: true,
            outbound: None,
            loader: None,
        }
    }
}

/// Knows which requests the app is working on, and proves which one caused a call. Shared by both hops.
pub struct Correlator {
    in_flight: Arc<InFlight>,
    /// `None` where this kernel cannot be asked.
    engine: Option<Engine>,
    /// `None` where it is switched off.
    thread: Option<Arc<Thread>>,
    /// Addresses of the app that the engine was told of.
    apps: Mutex<HashSet<Place>>,
    child: Option<Child>,
    serial: bool,
    audit: Audit,
    /// `None` where tokens are off.
    tokens: Option<Arc<Tokens>>,
    metrics: Arc<Metrics>,
}

impl Correlator {
    /// A correlator that counts into `metrics`. Starts one thread, which ends with it.
    pub fn new(metrics: Arc<Metrics>, options: Options) -> Arc<Correlator> {
        let start = || Thread::start(options.loader, options.outbound);
        let thread = options.thread.then(start);
        let in_flight = Arc::new(InFlight::default());
        let engine = options
            .serial
            .then(|| Engine::start(in_flight.clone()))
            .flatten();
        Arc::new(Correlator {
            in_flight,
            engine,
            thread,
            apps: Mutex::default(),
            tokens: options.tokens.then(Arc::default),
            child: options.child,
            serial: options.serial,
            audit: Audit::default(),
            metrics,
        })
    }

    /// Tells that the pool opened a connection to the app.
    ///
    /// Call it as soon as the connection is made; drop the guard before, or as, the socket is closed.
    /// `opened_id` is the pool's number for the connection, never used twice; `began` was before connecting; `written`
    /// counts the bytes that the kernel took to send on it, where they are counted.
    pub fn app_connection(
        &self,
        opened_id: u64,
        end: AppEnd,
        began: Instant,
        written: Option<Arc<AtomicU64>>,
    ) -> AppConnection {
        let end = match end {
            AppEnd::Tcp { local, app } => {
                let app = unmapped(app);
                self.tell(Place::Tcp(app));
                End::Tcp(app, unmapped(local))
            }
            AppEnd::Unix {
                path,
                cookie,
                inode,
            } => {
                self.tell(Place::Unix(path));
                End::Unix(inode as Inode, cookie)
            }
        };
        let (id, ends) = (opened_id, Ends::of(end));
        let now = process::monotonic();
        let began = now.saturating_sub(began.elapsed().as_nanos() as u64);
        self.in_flight.open(id, end, began, written, now);
        if let Some(thread) = &self.thread {
            thread.opened(ends);
        }
        AppConnection {
            in_flight: self.in_flight.clone(),
            thread: self.thread.clone(),
            ends,
            id,
        }
    }

    /// Tells that requests share a connection that was told of: none of them is proven by it.
    pub fn multiplexed(&self, opened_id: u64) {
        self.in_flight.multiplexed(opened_id);
    }

    /// Tells the engine of an address it does not know, so that the app's processes are found before a call is.
    fn tell(&self, app: Place) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |engine: &Engine| engine.app(app.clone());
        if !apps.contains(&app) && self.engine.as_ref().is_some_and(told) {
            if apps.len() >= serial::APPS {
                // The engine keeps as many: those still in use are told again by their next connection.
                apps.clear();
            }
            apps.insert(app);
        }
    }

    /// Tells that a request is about to be written to the app; call it before the first byte is.
    ///
    /// `context` is what the request's own calls shall have for a parent. Drop the guard when the response's body has
    /// ended. A connection that was not told of is left out. `received`: bytes that came on the
    /// connection so far, where they are counted.
    pub fn enter(&self, opened_id: u64, context: Context, received: Option<u64>) -> Presence {
        let token = self
            .tokens
            .as_ref()
            .and_then(|tokens| tokens.enter(context.clone()));
        let entered = self
            .in_flight
            .enter(opened_id, context, received, process::monotonic());
        Presence {
            entered: entered.map(|number| (self.in_flight.clone(), opened_id, number)),
            token,
        }
    }

    /// The request that a call names by its token. Counts, once per call, into `joins` or, where the request has ended,
    /// into `joins_abstained`; after [`TokenAnswer::Unknown`], counted into `tokens_unknown`, ask
    /// [`Correlator::parent_of`].
    pub fn by_token(&self, value: &HeaderValue) -> TokenAnswer {
        let answer = self
            .tokens
            .as_ref()
            .map_or(TokenAnswer::Unknown, |tokens| tokens.by_token(value));
        match &answer {
            TokenAnswer::Joined(_) => self.count(Ok(Evidence::Token)),
            TokenAnswer::Dead(_) => self.count(Err(Unlinked::TokenExpired)),
            TokenAnswer::Unknown => {
                self.metrics.tokens_unknown.inc();
            }
        }
        answer
    }

    /// Counts a call that cannot be joined by its connection, whatever the kernel says of that.
    pub fn abstain(&self, reason: Unlinked) -> Unlinked {
        self.count(Err(reason));
        reason
    }

    /// Whether requests get tokens.
    pub fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    fn count(&self, outcome: Result<Evidence, Unlinked>) {
        match outcome {
            Ok(evidence) => {
                let evidence = evidence.as_str();
                self.metrics
                    .joins
                    .get_or_create(&EvidenceLabel { evidence })
                    .inc();
            }
            Err(reason) => {
                let reason = reason.as_str();
                self.metrics
                    .joins_abstained
                    .get_or_create(&Reason { reason })
                    .inc();
            }
        }
    }

    /// The request that caused `call`, if that can be proven.
    ///
    /// Answers within about 3 ms. Counts into `joins`, `joins_abstained` and `join_nanos`, once per call.
    ///
    /// # Errors
    /// [`Unlinked`]: why no parent is known for certain.
    pub async fn parent_of(
        self: &Arc<Correlator>,
        call: OutboundCall,
    ) -> Result<(Context, Evidence), Unlinked> {
        let started = Instant::now();
        let found = self.look_up(call).await;
        self.metrics
            .join_nanos
            .inc_by(started.elapsed().as_nanos() as u64);
        self.count(
            found
                .as_ref()
                .map(|(_, evidence)| *evidence)
                .map_err(|reason| *reason),
        );
        if let Ok((parent, evidence)) = &found {
            self.double_check(&call, parent, *evidence);
        }
        found
    }

    async fn look_up(&self, call: OutboundCall) -> Result<(Context, Evidence), Unlinked> {
        if !is_local(&call) {
            return Err(Unlinked::RemotePeer);
        }
        if call.bytes == Err(Unlinked::Multiplexed) {
            // Its time and its place are those of all that the connection carries.
            return Err(Unlinked::Multiplexed);
        }
        let mut reason = Unlinked::Off;
        if let Some(thread) = &self.thread {
            match thread.ask(&call, &self.in_flight).await {
                Ok(context) => return Ok((context, Evidence::Thread)),
                Err(refusal) if refusal.last_word => return Err(refusal.reason),
                Err(refusal) => reason = refusal.reason,
            }
        }
        let Some(engine) = self.serial_engine() else {
            return Err(reason);
        };
        match engine.ask(call).await {
            Ok(context) => Ok((context, Evidence::Serial)),
            // What the stronger rung says is the better reason.
            Err(weaker) if reason == Unlinked::Off => Err(weaker),
            Err(_) => Err(reason),
        }
    }

    fn serial_engine(&self) -> Option<&Engine> {
        self.engine.as_ref().filter(|_| !self.audit.serial_off())
    }

    /// CPU time that look-ups took so far, in nanoseconds.
    pub fn cpu_nanos(&self) -> u64 {
        self.engine.as_ref().map_or(0, Engine::cpu_nanos)
    }

    /// Questions about sockets and processes that the kernel was asked so far: none before the app's first call.
    pub fn questions(&self) -> u64 {
        self.engine.as_ref().map_or(0, Engine::questions)
    }

    /// Connections to the app and requests on them that are remembered, for tests and the admin page.
    pub fn remembered(&self) -> (usize, usize) {
        self.in_flight.size()
    }

    /// Whether the thread rung works.
    pub fn thread_rung(&self) -> Availability {
        let disabled = Availability::Off(Obstacle::Disabled);
        let thread = self.thread.as_ref();
        thread.map_or(disabled, |thread| thread.availability())
    }

    /// Waits until the thread rung works, or is known not to: a fraction of a second after the start.
    pub async fn settled(&self) {
        if let Some(thread) = &self.thread {
            thread.settled().await;
        }
    }

    /// What the thread rung could not note for lack of memory: those calls go without a parent.
    pub fn lost(&self) -> u64 {
        self.thread.as_ref().map_or(0, |thread| thread.lost())
    }

    /// Whether calls can be joined here by the serial rung, of the app that listens at `apps`. Takes some
    /// milliseconds and reads `/proc`: not for the reactor.
    pub fn describe(&self, apps: &[Place]) -> Rung {
        let child = self.child.as_ref().and_then(|child| child());
        if !self.serial {
            return Rung::off(
                Code::SerialOff,
                "correlation.serial is false",
                "set correlation.serial: true and restart",
            );
        }
        if self.audit.serial_off() {
            return Rung::off(
                Code::RungsDisagree,
                "it disagreed with a stronger proof",
                "report it; restart hopspan to try again",
            );
        }
        rung::describe(self.child.is_some(), child, apps)
    }
}

/// Whether the thread rung can work here: loads it, and takes it out again. Takes a fraction of a second of CPU time.
pub fn probe_thread_rung() -> Availability {
    thread::probe()
}

/// Whether the caller is on this host: loopback, or the same address at both ends.
fn is_local(call: &OutboundCall) -> bool {
    let (peer, local) = (unmapped(call.peer).ip(), unmapped(call.local).ip());
    peer == local || peer.is_loopback()
}

/// An IPv4-mapped IPv6 address as IPv4; the kernel finds both kinds of socket by the IPv4 pair.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
