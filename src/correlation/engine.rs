//! The thread that looks calls up: no look-up ever runs on the reactor.
//!
//! One thread, since look-ups share what they learn and take some tens of microseconds. Its queue is bounded; a call
//! that finds it full, or that waited too long in it, goes on without a parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::OutboundCall;
use super::clock::RealTime;
use super::in_flight::{InFlight, Nanos};
use super::live::Live;
use super::process;
use super::serial::{ACCEPTING, Call, Caller, Look, Pending, Serial};
use super::server::Place;
use super::unlinked::Unlinked;
use crate::trace::Context;

/// How long the caller is waited for to park, from the first look on, where it gets its turn on a CPU.
const BUDGET: Duration = Duration::from_millis(3);
/// A caller that had less CPU time than this since the first look did not get its turn.
const STARVED: Nanos = Duration::from_millis(2).as_nanos() as Nanos;
/// From the question to the last look: passes only where the machine is so busy that no thread gets its turn.
const TURN: Duration = Duration::from_millis(25);
/// Bytes that came longer ago than this are not asked about: ended requests are remembered little longer.
const STALE: Nanos = Duration::from_millis(200).as_nanos() as Nanos;
/// Calls that may wait to be looked up.
const QUEUE: usize = 256;
/// Pauses between looks while the caller is not parked yet; the last one repeats.
const PAUSES: [Nanos; 12] = [
    40_000, 60_000, 100_000, 200_000, 300_000, 500_000, 500_000, 500_000, 500_000, 500_000,
    500_000, 1_000_000,
];
/// Turns after which the CPU time is read, if not before.
const TURNS: u32 = 8;
/// How often clocks are compared while nothing is asked.
const TICK: Duration = Duration::from_secs(1);

type Answer = Result<Context, Unlinked>;

enum Message {
    Call(Box<Job>),
    App(Place),
}

/// A call in the making.
struct Job {
    call: OutboundCall,
    asked: Nanos,
    answer: oneshot::Sender<Answer>,
    /// Made of `call` at the first look.
    facts: Option<Call>,
    /// As seen at the first look.
    caller: Option<Caller>,
    looks: usize,
    due: Nanos,
    /// When to answer with what is known.
    give_up: Nanos,
    /// CPU time that the caller's main thread had had when it was first seen to run.
    ran: Option<Nanos>,
}

/// The way to the thread. The thread ends when this is dropped.
pub(super) struct Engine {
    sender: SyncSender<Message>,
    cost: Arc<Cost>,
}

/// What looking up has cost so far.
#[derive(Debug, Default)]
struct Cost {
    /// Nanoseconds of CPU time.
    cpu: AtomicU64,
    /// Questions to the kernel about sockets and processes.
    questions: AtomicU64,
}

impl Engine {
    /// Starts the thread; `None` where this kernel cannot be asked.
    pub(super) fn start(in_flight: Arc<InFlight>) -> Option<Engine> {
        let live = Live::new().ok()?;
        let (sender, receiver) = sync_channel(QUEUE);
        let cost = Arc::new(Cost::default());
        let worker = Worker {
            serial: Serial::default(),
            live,
            in_flight,
            real_time: RealTime::default(),
            jobs: Vec::new(),
            cost: cost.clone(),
        };
        let thread = std::thread::Builder::new().name("hopspan-join".to_owned());
        thread.spawn(move || worker.run(&receiver)).ok()?;
        Some(Engine { sender, cost })
    }

    /// A rung that always gives this answer.
    #[cfg(test)]
    pub(super) fn answering(answer: Answer) -> Engine {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::spawn(move || {
            while let Ok(message) = receiver.recv() {
                if let Message::Call(job) = message {
                    let _ = job.answer.send(answer.clone());
                }
            }
        });
        Engine {
            sender,
            cost: Arc::default(),
        }
    }

    /// Tells of an address of the app. Where the queue is full, a later connection tells again.
    pub(super) fn app(&self, app: Place) -> bool {
        self.sender.try_send(Message::App(app)).is_ok()
    }

    /// Asks, and waits for the answer: [`BUDGET`], and on a starved machine [`TURN`] more.
    pub(super) async fn ask(&self, call: OutboundCall) -> Answer {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            call,
            asked: process::monotonic(),
            answer,
            facts: None,
            caller: None,
            looks: 0,
            due: 0,
            give_up: 0,
            ran: None,
        };
        match self.sender.try_send(Message::Call(Box::new(job))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Unlinked::Overloaded),
            Err(TrySendError::Disconnected(_)) => return Err(Unlinked::Off),
        }
        match tokio::time::timeout(BUDGET + TURN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unlinked::Off),
            Err(_) => Err(Unlinked::TimedOut),
        }
    }

    /// CPU time spent looking up, in nanoseconds.
    pub(super) fn cpu_nanos(&self) -> u64 {
        self.cost.cpu.load(Ordering::Relaxed)
    }

    /// Questions to the kernel about sockets and processes.
    pub(super) fn questions(&self) -> u64 {
        self.cost.questions.load(Ordering::Relaxed)
    }
}

struct Worker {
    serial: Serial<Live>,
    live: Live,
    in_flight: Arc<InFlight>,
    real_time: RealTime,
    jobs: Vec<Job>,
    cost: Arc<Cost>,
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Message>) {
        process::sleep_precisely();
        process::take_short_turns();
        self.note_time();
        let mut turns = 0;
        loop {
            let now = process::monotonic();
            let due = self.jobs.iter().map(|job| job.due).min();
            let pause = due.map_or(TICK, |due| Duration::from_nanos(due.saturating_sub(now)));
            match receiver.recv_timeout(pause.min(TICK)) {
                Ok(Message::Call(job)) => self.jobs.push(*job),
                Ok(Message::App(app)) => self.serial.app(app),
                Err(RecvTimeoutError::Timeout) if self.jobs.is_empty() => {
                    self.note_time();
                    turns = TURNS;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look_at_due();
            // A thread's CPU clock counts all that it did, the waiting excluded. To read it takes as long as some looks do.
            turns += 1;
            if turns >= TURNS {
                turns = 0;
                let cpu = process::thread_cpu();
                self.cost.cpu.store(cpu, Ordering::Relaxed);
            }
        }
    }

    fn note_time(&mut self) {
        self.live.note_time();
        let now = process::monotonic();
        self.real_time.note(now, process::realtime());
    }

    fn look_at_due(&mut self) {
        let now = process::monotonic();
        for mut job in std::mem::take(&mut self.jobs) {
            if job.answer.is_closed() {
                continue; // the hop went on without
            }
            if job.due > now {
                self.jobs.push(job);
                continue;
            }
            let looked = self.look(&mut job);
            // Before the answer: who has it finds that it was asked for.
            let questions = self.live.questions();
            self.cost.questions.store(questions, Ordering::Relaxed);
            match looked {
                Some(answer) => {
                    // Nobody waits any more: nothing is lost.
                    let _ = job.answer.send(answer);
                }
                None => self.jobs.push(job),
            }
        }
    }

    /// One look; `None`: again later.
    fn look(&mut self, job: &mut Job) -> Option<Answer> {
        let facts = match job.facts {
            Some(facts) => facts,
            None => match self.facts(job) {
                Ok(facts) => *job.facts.insert(facts),
                Err(reason) => return Some(Err(reason)),
            },
        };
        let look = self
            .serial
            .look(&mut self.live, &self.in_flight, &facts, &mut job.caller);
        match look {
            Err(reason) => Some(Err(reason)),
            Ok(Look::Proven(claim)) => {
                // The last condition: the request is in flight still.
                let context = self.in_flight.context(claim.connection, claim.request);
                Some(context.ok_or(Unlinked::NoInbound))
            }
            Ok(Look::Again(pending)) => {
                let pause = PAUSES.get(job.looks).or(PAUSES.last());
                job.looks += 1;
                job.due = process::monotonic() + pause.copied().unwrap_or_default();
                self.patient(job, facts.deadline, pending).err().map(Err)
            }
        }
    }

    /// Whether to look again at `job.due`. A caller that gets no turn on a busy machine loses nothing by a wait: it
    /// cannot go on either. One that has had its time and does not wait for the answer does something else.
    fn patient(
        &mut self,
        job: &mut Job,
        deadline: Nanos,
        pending: Pending,
    ) -> Result<(), Unlinked> {
        let late = job.due >= job.give_up;
        let reason = match pending {
            Pending::Blocked => Unlinked::NotParked,
            Pending::Unread(reason) => reason,
            Pending::Running(id) => {
                if late || job.ran.is_none() {
                    let ran = self.serial.ran(&mut self.live, id);
                    let before = *job.ran.get_or_insert(ran.unwrap_or_default());
                    let starved = ran.is_some_and(|ran| ran < before + STARVED);
                    if late && starved && job.due < deadline {
                        job.give_up = deadline.min(job.due + BUDGET.as_nanos() as Nanos);
                        return Ok(());
                    }
                }
                Unlinked::NotParked
            }
        };
        if late { Err(reason) } else { Ok(()) }
    }

    /// What the proof needs to know of the call's times.
    fn facts(&mut self, job: &mut Job) -> Result<Call, Unlinked> {
        let stamp = job.call.received.ok_or(Unlinked::NoTimestamp)?;
        let now = process::monotonic();
        self.real_time.note(now, process::realtime());
        let turn = job.asked + TURN.as_nanos() as Nanos;
        if now >= turn {
            return Err(Unlinked::TimedOut);
        }
        job.give_up = now + BUDGET.as_nanos() as Nanos;
        let bounds = self
            .real_time
            .bounds(stamp.realtime_ns, stamp.monotonic_ns, STALE);
        let (earliest, latest) = bounds.ok_or(Unlinked::NoTimestamp)?;
        if now.saturating_sub(earliest) > STALE {
            return Err(Unlinked::Stale);
        }
        let age = Instant::now().saturating_duration_since(job.call.accepted);
        let accepted = now.saturating_sub(age.as_nanos() as Nanos).min(earliest);
        Ok(Call {
            peer: super::unmapped(job.call.peer),
            local: super::unmapped(job.call.local),
            made: accepted.saturating_sub(ACCEPTING),
            earliest,
            latest,
            deadline: turn,
        })
    }
}
