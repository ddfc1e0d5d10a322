//! Steady requests from many clients while a test does something to hopspan, and what came of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{self, Request};
use super::journal::Journal;
use super::raw::Peer;

/// What came of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Answered as they should be.
    pub(crate) good: usize,
    /// What went wrong, in words.
    pub(crate) failures: Vec<String>,
    /// From the request's first byte to the answer's last.
    pub(crate) durations: Vec<Duration>,
}

impl Tally {
    /// The duration that `share` (0 to 1) of the requests did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.durations.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = (sorted.len() as f64 * share) as usize;
        sorted.get(at.min(last)).copied().unwrap_or_default()
    }

    /// Asserts that every request was answered, and that there were at least `least`.
    pub(crate) fn assert_all_good(&self, least: usize) {
        assert!(
            self.failures.is_empty(),
            "{} of {} failed, the first: {:#?}",
            self.failures.len(),
            self.good + self.failures.len(),
            &self.failures[..self.failures.len().min(5)]
        );
        assert!(self.good >= least, "only {} requests ran", self.good);
    }
}

/// Running clients.
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<Tally>,
    /// An entry per answer: await progress with `at_least`.
    pub(crate) answers: Journal<()>,
}

/// What a client sends: made anew for every request from the client's and the request's number.
type Make = dyn Fn(usize, usize) -> Request + Send + Sync;

/// Starts `count` clients, each on a connection that it keeps, one request after the other, expecting 200.
pub(crate) fn start(
    count: usize,
    make: impl Fn(usize, usize) -> Request + Send + Sync + 'static,
) -> Load {
    let (stop, answers) = (CancellationToken::new(), Journal::default());
    let make: Arc<Make> = Arc::new(make);
    let mut clients = JoinSet::new();
    for number in 0..count {
        let client = Client {
            number,
            make: Arc::clone(&make),
            stop: stop.clone(),
            answers: answers.clone(),
            tally: Tally::default(),
        };
        clients.spawn(client.run());
    }
    Load {
        stop,
        clients,
        answers,
    }
}

/// `count` clients that GET `target`.
pub(crate) fn gets(count: usize, address: SocketAddr, target: &'static str) -> Load {
    start(count, move |_, _| client::get(address, target))
}

impl Load {
    /// Lets every client finish its request, and adds up.
    pub(crate) async fn finish(self) -> Tally {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until the clients end by themselves, since nobody listens any more.
    pub(crate) async fn ended(mut self) -> Tally {
        let mut total = Tally::default();
        let all = async {
            while let Some(tally) = self.clients.join_next().await {
                let tally = tally.unwrap();
                total.good += tally.good;
                total.failures.extend(tally.failures);
                total.durations.extend(tally.durations);
            }
        };
        super::within("the clients' end", all).await;
        total
    }
}

struct Client {
    number: usize,
    make: Arc<Make>,
    stop: CancellationToken,
    answers: Journal<()>,
    tally: Tally,
}

/// What one attempt came to.
enum Attempt {
    Answered(bool),
    Refused,
    Failed(String),
}

impl Client {
    async fn run(mut self) -> Tally {
        let mut kept = None;
        for serial in 0.. {
            if self.stop.is_cancelled() {
                break;
            }
            let request = (self.make)(self.number, serial);
            let begun = Instant::now();
            match self.attempt(&request, &mut kept).await {
                Attempt::Answered(true) => {
                    self.tally.good += 1;
                    self.tally.durations.push(begun.elapsed());
                    self.answers.push(());
                }
                // Nobody listens: not a request that anybody took.
                Attempt::Refused => break,
                Attempt::Answered(false) => {}
                Attempt::Failed(why) => self.tally.failures.push(why),
            }
        }
        self.tally
    }

    async fn attempt(&mut self, request: &Request, kept: &mut Option<Peer>) -> Attempt {
        let reused = kept.is_some();
        let mut peer = match kept.take() {
            Some(peer) => peer,
            None => match request.connect().await {
                Ok(peer) => peer,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return Attempt::Refused;
                }
                Err(error) => return Attempt::Failed(format!("connect: {error}")),
            },
        };
        let _ = peer.try_write(request.bytes()).await;
        let Some(answer) = request.try_answer(&mut peer).await else {
            // A kept connection that was closed just as this was sent, too: a stop is to wait for it.
            let unread = peer.unread();
            return Attempt::Failed(format!(
                "closed without an answer, kept {reused}: {unread:?}"
            ));
        };
        if answer.status != 200 || !answer.complete {
            let failure = format!(
                "{} complete={} {:?}: {}",
                answer.status,
                answer.complete,
                answer.header("proxy-status"),
                answer.text()
            );
            self.tally.failures.push(failure);
            return Attempt::Answered(false);
        }
        if answer.header("connection") != Some("close") {
            *kept = Some(peer);
        }
        Attempt::Answered(true)
    }
}
