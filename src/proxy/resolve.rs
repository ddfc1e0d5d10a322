//! Names to addresses: getaddrinfo on blocking threads, one lookup in flight per name, a bound on all of them, and a
//! small cache, so that a resolver that hangs costs neither threads nor a stampede.
//!
//! getaddrinfo gives no TTL: answers are kept for a few seconds ([`ResolveLimits`]), which is also how soon a change is
//! seen. While the resolver fails, the last good answer serves for longer.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::{Limits, Timeouts};

/// How long a failure is used.
const KEEP_BAD: Duration = Duration::from_secs(1);
/// Lookups (blocking threads) at once.
const AT_ONCE: usize = 8;

type Addresses = Arc<[IpAddr]>;
type Answer = Result<Addresses, Arc<str>>;
type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
pub(super) type Lookup = Box<dyn Fn(Arc<str>) -> Found + Send + Sync>;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolveError {
    /// The resolver did not answer in time.
    Timeout,
    /// It answered that there is none, or failed.
    Failed(Arc<str>),
}

/// How long names are waited for and remembered, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveLimits {
    /// How long a request waits for a look-up.
    pub timeout: Duration,
    /// How long an answer is used.
    pub keep: Duration,
    /// How long the last good answer may stand in for a failing resolver, from when it came.
    pub stale: Duration,
    /// Names remembered, those that are looked up or wait for it among them.
    pub names: usize,
}

impl ResolveLimits {
    /// What the config says.
    pub fn of(timeouts: &Timeouts, limits: &Limits) -> ResolveLimits {
        ResolveLimits {
            timeout: timeouts.resolve,
            keep: timeouts.resolve_keep,
            stale: timeouts.resolve_stale,
            names: limits.resolve_names,
        }
    }
}

/// The cache and the lookups in flight.
pub(crate) struct Resolver {
    names: Mutex<HashMap<Arc<str>, Name>>,
    at_once: Arc<Semaphore>,
    lookup: Lookup,
}

struct Name {
    state: State,
    last_good: Option<(Addresses, Instant)>,
}

enum State {
    Looking(watch::Receiver<Option<Answer>>),
    Known { answer: Answer, until: Instant },
}

impl Resolver {
    /// The system's resolver.
    pub(crate) fn system() -> Arc<Resolver> {
        Resolver::with(Box::new(|name: Arc<str>| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((&*name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        }))
    }

    /// Another way to look names up.
    pub(super) fn with(lookup: Lookup) -> Arc<Resolver> {
        Arc::new(Resolver {
            names: Mutex::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            lookup,
        })
    }

    /// The addresses of `name`, at least one, in the order the system gives.
    pub(crate) async fn resolve(
        self: &Arc<Resolver>,
        name: &Arc<str>,
        limits: &ResolveLimits,
    ) -> Result<Addresses, ResolveError> {
        let mut looking = match self.known_or_looking(name, limits) {
            State::Known { answer, .. } => return answer.map_err(ResolveError::Failed),
            State::Looking(looking) => looking,
        };
        let waited = tokio::time::timeout(limits.timeout, looking.wait_for(Option::is_some)).await;
        if let Ok(Ok(answer)) = waited
            && let Some(answer) = &*answer
        {
            return answer.clone().map_err(ResolveError::Failed);
        }
        self.stale(name, limits).ok_or(ResolveError::Timeout)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Arc<str>, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_or_looking(self: &Arc<Resolver>, name: &Arc<str>, limits: &ResolveLimits) -> State {
        let now = Instant::now();
        let mut names = self.names();
        match names.get(name).map(|known| &known.state) {
            Some(State::Looking(looking)) => return State::Looking(looking.clone()),
            Some(State::Known { answer, until }) if now < *until => {
                return State::Known {
                    answer: answer.clone(),
                    until: *until,
                };
            }
            _ => {}
        }
        if !names.contains_key(name) && !make_room(&mut names, limits.names, now) {
            return State::Known {
                answer: Err(Arc::from("too many other names are being looked up")),
                until: now,
            };
        }
        let (found, looking) = watch::channel(None);
        let last_good = names.remove(name).and_then(|known| known.last_good);
        names.insert(
            name.clone(),
            Name {
                state: State::Looking(looking.clone()),
                last_good,
            },
        );
        drop(names);
        // Its own task: whoever asked first may go away while others wait for the same name.
        tokio::spawn(self.clone().look_up(name.clone(), *limits, found));
        State::Looking(looking)
    }

    async fn look_up(
        self: Arc<Resolver>,
        name: Arc<str>,
        limits: ResolveLimits,
        found: watch::Sender<Option<Answer>>,
    ) {
        let permit = self.at_once.clone().acquire_owned().await;
        let answer = match (self.lookup)(name.clone()).await {
            Ok(addresses) if addresses.is_empty() => Err(Arc::from("the name has no address")),
            Ok(addresses) => Ok(Addresses::from(addresses)),
            Err(error) => Err(Arc::from(error.to_string())),
        };
        drop(permit);
        let now = Instant::now();
        let last_good = answer.as_ref().ok().map(|good| (good.clone(), now));
        let mut names = self.names();
        let before = names.remove(&name).and_then(|known| known.last_good);
        let last_good = last_good.or(before.filter(|(_, at)| *at + limits.stale > now));
        let keep = if answer.is_ok() {
            limits.keep
        } else {
            KEEP_BAD
        };
        let answer = match (&last_good, answer) {
            (Some((good, _)), Err(_)) => Ok(good.clone()),
            (_, answer) => answer,
        };
        names.insert(
            name,
            Name {
                state: State::Known {
                    answer: answer.clone(),
                    until: now + keep,
                },
                last_good,
            },
        );
        drop(names);
        found.send_replace(Some(answer));
    }

    fn stale(&self, name: &Arc<str>, limits: &ResolveLimits) -> Option<Addresses> {
        let names = self.names();
        let (good, at) = names.get(name)?.last_good.as_ref()?;
        (*at + limits.stale > Instant::now()).then(|| good.clone())
    }
}

/// Whether there is room for one more name.
fn make_room(names: &mut HashMap<Arc<str>, Name>, most: usize, now: Instant) -> bool {
    if names.len() < most {
        return true;
    }
    names.retain(|_, known| match &known.state {
        State::Looking(_) => true,
        State::Known { until, .. } => now < *until,
    });
    // More than one where a reload allows fewer.
    let over = (names.len() + 1).saturating_sub(most);
    let spare = names
        .iter()
        .filter(|(_, known)| matches!(known.state, State::Known { .. }))
        .map(|(name, _)| name.clone());
    for name in spare.take(over).collect::<Vec<_>>() {
        names.remove(&name);
    }
    names.len() < most
}

#[cfg(test)]
mod tests;
