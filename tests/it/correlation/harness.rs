//! What the hops do around the correlator, in a hundred lines: requests to the app with their presence, and an
//! outbound side that compares every answer with the truth in the URL.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hopspan::correlation::{AppEnd, CallBytes, Correlator, Options, OutboundCall, Stamp, Unlinked};
use hopspan::proxy::stamped::{self, Received, Stamped};
use hopspan::telemetry::metrics::Metrics;
use hopspan::trace::{Context, TraceId};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::joins::{LATE, are_enough};
use crate::support::process::thread_cpu;

/// Requests that between them do whatever a program might: acts of `prefork.py`.
pub(crate) const EVERYTHING: [&str; 13] = [
    "burn,fresh",
    "leave",
    "collect,burn,pooled",
    "sleep,pooled,leave",
    "collect",
    "child,sleep",
    "child,pooled",
    "split,fire,fresh",
    "shared,fresh",
    "fresh;after,pooled",
    "burn;after,fresh",
    "sleep",
    "thread,pooled",
];

/// Requests of which some accept another before they are answered.
pub(crate) const NESTED: [&str; 4] = ["nested,pooled", "burn,fresh", "leave", "collect,fresh"];

/// What came of all calls so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Claimed, and true.
    pub(crate) right: u64,
    /// Claimed, and not true: must stay 0. What was claimed and what was true.
    pub(crate) wrong: Vec<(String, String)>,
    /// Not claimed though a request caused it, by reason.
    pub(crate) missed: BTreeMap<&'static str, u64>,
    /// Not claimed, rightly: no request caused it.
    pub(crate) rightly_none: u64,
    /// Microseconds that each answer took.
    pub(crate) micros: Vec<u64>,
    /// Nanoseconds of CPU time that the asking thread spent meanwhile; of use where there is one thread only.
    pub(crate) cpu: Vec<u64>,
}

impl Tally {
    /// Calls that a request caused.
    pub(crate) fn caused(&self) -> u64 {
        self.right + self.missed.values().sum::<u64>() + self.wrong.len() as u64
    }

    /// See [`are_enough`].
    pub(crate) fn are_enough(&self, percent: usize) -> bool {
        let late = LATE.map(|code| self.missed.get(code).copied());
        let late: u64 = late.into_iter().flatten().sum();
        let [joined, caused, late] = [self.right, self.caused(), late].map(|count| count as usize);
        are_enough(joined, caused, late, percent)
    }

    /// Joined per caused, in percent.
    pub(crate) fn rate(&self) -> f64 {
        100.0 * self.right as f64 / self.caused().max(1) as f64
    }
}

/// The correlator between a test's requests and the app's calls.
pub(crate) struct Harness {
    pub(crate) correlator: Arc<Correlator>,
    pub(crate) outbound: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    next: AtomicU64,
}

impl Harness {
    /// With the serial rung alone.
    pub(crate) async fn start() -> Arc<Harness> {
        Harness::with(false, true).await
    }

    /// With the rungs that are chosen.
    pub(crate) async fn with(thread: bool, serial: bool) -> Arc<Harness> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        stamped::enable(&listener).unwrap();
        let outbound = listener.local_addr().unwrap();
        let options = Options {
            thread,
            serial,
            outbound: Some(outbound),
            ..Options::default()
        };
        let correlator = Correlator::new(Metrics::new(), options);
        correlator.settled().await;
        let tally = Arc::new(Mutex::new(Tally::default()));
        tokio::spawn(accept(listener, correlator.clone(), tally.clone()));
        Arc::new(Harness {
            correlator,
            outbound,
            tally,
            next: AtomicU64::new(1),
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until so many calls were judged.
    pub(crate) async fn at_least(&self, calls: usize) -> Tally {
        loop {
            let tally = self.tally();
            if tally.micros.len() >= calls {
                return tally;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn context(&self) -> (u64, Context) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut context = Context::new_root();
        context.trace_id = TraceId::from_bytes(u128::from(number).to_be_bytes());
        (number, context)
    }

    /// One request on a connection of its own, as towards gunicorn's sync workers.
    pub(crate) async fn request(&self, app: SocketAddr, what: &str) {
        let mut connection = AppSide::open(self, app).await;
        connection.request(self, what, false).await;
    }

    /// Requests on one kept connection.
    pub(crate) async fn keepalive(&self, app: SocketAddr, what: &[&str]) {
        let mut connection = AppSide::open(self, app).await;
        for what in what {
            connection.request(self, what, true).await;
        }
    }
}

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

struct AppSide {
    // Declared first, so dropped before the socket: as the pool does.
    _told: hopspan::correlation::AppConnection,
    stream: BufReader<Stamped>,
    received: Arc<Received>,
    id: u64,
}

impl AppSide {
    async fn open(harness: &Harness, app: SocketAddr) -> AppSide {
        let began = Instant::now();
        let stream = TcpStream::connect(app).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        stamped::enable(&stream).unwrap();
        let received = Arc::new(Received::default());
        let end = AppEnd::Tcp { local, app: peer };
        let written = Some(received.written().clone());
        AppSide {
            _told: harness.correlator.app_connection(id, end, began, written),
            stream: BufReader::new(Stamped::new(stream, received.clone())),
            received,
            id,
        }
    }

    async fn request(&mut self, harness: &Harness, what: &str, keep: bool) {
        let (number, context) = harness.context();
        let presence = harness
            .correlator
            .enter(self.id, context, Some(self.received.total()));
        let kept = if keep { "keep-alive" } else { "close" };
        let head =
            format!("GET /{what}?id={number} HTTP/1.1\r\nHost: a\r\nConnection: {kept}\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
        let length = content_length(&mut self.stream)
            .await
            .expect("the app answered")
            .length;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        presence.finished(self.received.last().map(stamp));
    }
}

fn stamp(time: stamped::Timestamp) -> Stamp {
    Stamp {
        realtime_ns: time.realtime_ns,
        monotonic_ns: time.monotonic_ns,
    }
}

/// A head that was read.
struct Head {
    line: String,
    /// Of the body.
    length: usize,
    /// Of the head itself.
    bytes: u64,
}

/// Reads a head; its first line and the length of what follows.
async fn content_length<R: AsyncBufReadExt + Unpin>(stream: &mut R) -> Option<Head> {
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    let mut bytes = 0;
    loop {
        line.clear();
        match stream.read_line(&mut line).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes += count as u64,
        }
        if line == "\r\n" {
            return Some(Head {
                line: first,
                length,
                bytes,
            });
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
}

async fn accept(listener: TcpListener, correlator: Arc<Correlator>, tally: Arc<Mutex<Tally>>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            return;
        };
        let accepted = Instant::now();
        stream.set_nodelay(true).unwrap();
        let local = stream.local_addr().unwrap();
        let (correlator, tally) = (correlator.clone(), tally.clone());
        tokio::spawn(async move {
            let received = Arc::new(Received::default());
            let mut stream = BufReader::new(Stamped::new(stream, received.clone()));
            while let Some(Head {
                line,
                length,
                bytes,
            }) = content_length(&mut stream).await
            {
                let before = received.before();
                if let Some(before) = before {
                    received.ends(before + bytes + length as u64);
                }
                let call = OutboundCall {
                    peer,
                    local,
                    accepted,
                    received: received.first().map(stamp),
                    bytes: before
                        .ok_or(Unlinked::StartUnknown)
                        .map(|before| CallBytes {
                            before,
                            read: received.total(),
                            head: (length > 0).then_some(bytes),
                        }),
                };
                let (started, cpu) = (Instant::now(), thread_cpu());
                let found = correlator.parent_of(call).await;
                let micros = started.elapsed().as_micros() as u64;
                let cpu = thread_cpu().saturating_sub(cpu);
                tally.lock().unwrap().cpu.push(cpu);
                let truth = line
                    .split(' ')
                    .nth(1)
                    .unwrap()
                    .split("truth=")
                    .nth(1)
                    .unwrap();
                let claim = found.map(|(context, _)| {
                    u128::from_be_bytes(context.trace_id.to_bytes()).to_string()
                });
                note(&mut tally.lock().unwrap(), claim, truth, micros);
                tokio::io::copy(
                    &mut (&mut stream).take(length as u64),
                    &mut tokio::io::sink(),
                )
                .await
                .unwrap();
                received.mark();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn note(
    tally: &mut Tally,
    claim: Result<String, hopspan::correlation::Unlinked>,
    truth: &str,
    micros: u64,
) {
    tally.micros.push(micros);
    match claim {
        Ok(claim) if claim == truth => tally.right += 1,
        Ok(claim) => tally.wrong.push((claim, truth.to_owned())),
        Err(_) if truth == "none" => tally.rightly_none += 1,
        Err(reason) => *tally.missed.entry(reason.as_str()).or_default() += 1,
    }
}

/// `prefork.py`, running. Ends when dropped.
pub(crate) struct App {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl App {
    pub(crate) fn start(outbound: SocketAddr, workers: usize, flags: &[&str]) -> App {
        use std::io::BufRead;
        use std::os::unix::process::CommandExt;
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/correlation/prefork.py"
        );
        let mut process = Command::new("python3")
            .arg(script)
            .args([outbound.port().to_string(), workers.to_string()])
            .args(flags)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .unwrap();
        let port: u16 = line.trim().parse().expect("the app prints its port");
        App {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // The whole group: workers, and what they forked.
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

/// `clients` clients, each making requests as `next` says until it says no more.
pub(crate) async fn load(
    harness: &Arc<Harness>,
    app: SocketAddr,
    clients: usize,
    each: usize,
    what: impl Fn(usize) -> String + Send + Sync + 'static,
) {
    let what = Arc::new(what);
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let (harness, what) = (harness.clone(), what.clone());
            tokio::spawn(async move {
                for number in 0..each {
                    harness.request(app, &what(client * each + number)).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}
