//! Tokens: every inbound request carries an opaque one to the app, and a call that brings it back is joined to it.
//!
//! A token is 22 characters of 6 random bits each from the operating system, 132 bits in all (a UUIDv4 has 122), so it
//! names one request and cannot be guessed: with 4,096 in flight, 2^60 guesses hit one with a chance of 2^-60. It is
//! worth something only while that request is in flight. For the newest [`REMEMBERED`] requests that ended it still says
//! which one it was, for a span link: never for a parent.
//!
//! The app sends it back by itself or by the shim (`deploy/python/shim`). The hop writes the header towards the app and
//! takes it off everything else ([`strip`]).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::trace::{Context, Flags, SpanId, TraceId};

/// The header that carries a token: towards the app, and from the app to hopspan's outbound listener. Nowhere else.
pub const HEADER: HeaderName = HeaderName::from_static(NAME);
const NAME: &str = "hopspan-token";

/// What the shim adds to the token of a request that its app is done with: such a call may be linked, never joined.
const ENDED: &[u8] = b";ended";

/// Ended requests that are remembered.
const REMEMBERED: usize = 4096;

/// Characters of a token; 132 random bits.
const LENGTH: usize = 22;

/// RFC 4648 base64url.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a token that came with a call stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// The request in flight that caused the call.
    Joined(Context),
    /// A request that has ended: the call descends from it, and outlived it. Without tracestate and baggage.
    Dead(Context),
    /// No request that hopspan knows: forged, from another hopspan, or too old.
    Unknown,
}

/// Takes the token off a message, under any spelling that a server may take for the same name (CGI and WSGI know no
/// difference between `-` and `_`). The value is returned where there is exactly one, spelled as hopspan does.
pub fn strip(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut misspelled = Vec::new();
    let mut spelled = false;
    for name in headers.keys() {
        if name == HEADER {
            spelled = true;
        } else if is_misspelled(name.as_str()) {
            misspelled.push(name.clone());
        }
    }
    for name in misspelled {
        headers.remove(name);
    }
    if !spelled {
        return None;
    }
    let mut values = headers.get_all(HEADER).iter();
    let first = values.next().cloned().filter(|_| values.next().is_none());
    headers.remove(HEADER);
    first
}

fn is_misspelled(name: &str) -> bool {
    name.len() == NAME.len()
        && name
            .bytes()
            .zip(NAME.bytes())
            .all(|(has, wants)| has == wants || (wants == b'-' && matches!(has, b'_' | b'.')))
}

/// A token as sent.
type Token = [u8; LENGTH];

/// A request by its token.
#[derive(Debug)]
enum Known {
    InFlight(Box<Context>),
    Ended(TraceId, SpanId, Flags),
}

/// The keys are random and never a peer's choice, so their first bytes are a hash.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Six random bits a byte, so that every part of the hash is random.
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| hash.rotate_left(6) ^ u64::from(*byte));
    }

    fn write_usize(&mut self, _length: usize) {}
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Token, Known, BuildHasherDefault<FirstBytes>>,
    /// Ended ones, oldest first.
    ended: VecDeque<Token>,
}

/// All tokens that are known.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    table: Mutex<Table>,
}

/// A request in flight under a token. Dropped, the token is dead.
#[derive(Debug)]
pub(super) struct Held {
    tokens: Arc<Tokens>,
    token: Token,
}

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // The critical sections do not panic half-way; a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins. `None` where the operating system gives no random bytes: then it has no token.
    pub(super) fn enter(self: &Arc<Tokens>, context: Context) -> Option<Held> {
        let token = random()?;
        match self.lock().known.entry(token) {
            Entry::Vacant(vacant) => vacant.insert(Known::InFlight(Box::new(context))),
            // 1 in 2^132: rather none than another's.
            Entry::Occupied(_) => return None,
        };
        Some(Held {
            tokens: self.clone(),
            token,
        })
    }

    /// What a token stands for now.
    pub(super) fn by_token(&self, value: &HeaderValue) -> TokenAnswer {
        let bytes = value.as_bytes();
        let Some((token, rest)) = bytes.split_first_chunk::<LENGTH>() else {
            return TokenAnswer::Unknown;
        };
        let over = rest == ENDED;
        if !over && !rest.is_empty() {
            return TokenAnswer::Unknown;
        }
        match self.lock().known.get(token) {
            None => TokenAnswer::Unknown,
            Some(Known::InFlight(context)) if !over => TokenAnswer::Joined((**context).clone()),
            Some(known) => TokenAnswer::Dead(known.bare()),
        }
    }

    /// Requests in flight, and ended ones that are remembered.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let table = self.lock();
        (table.known.len() - table.ended.len(), table.ended.len())
    }

    fn leave(&self, token: &Token) {
        let mut table = self.lock();
        let Some(known) = table.known.get_mut(token) else {
            return;
        };
        let Context {
            trace_id,
            span_id,
            flags,
            ..
        } = known.bare();
        *known = Known::Ended(trace_id, span_id, flags);
        table.ended.push_back(*token);
        if table.ended.len() > REMEMBERED
            && let Some(oldest) = table.ended.pop_front()
        {
            table.known.remove(&oldest);
        }
    }
}

impl Known {
    /// The context without what a link has no use for.
    fn bare(&self) -> Context {
        let (trace_id, span_id, flags) = match self {
            Known::InFlight(context) => (context.trace_id, context.span_id, context.flags),
            Known::Ended(trace_id, span_id, flags) => (*trace_id, *span_id, *flags),
        };
        Context {
            trace_id,
            span_id,
            flags,
            tracestate: None,
            baggage: None,
        }
    }
}

impl Held {
    /// The value of [`HEADER`] for this request.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(&self.token).ok()?;
        // Debug output of requests leaves it out.
        value.set_sensitive(true);
        Some(value)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tokens.leave(&self.token);
    }
}

/// A new token.
fn random() -> Option<Token> {
    let mut token = [0_u8; LENGTH];
    getrandom::fill(&mut token).ok()?;
    for byte in &mut token {
        *byte = *ALPHABET.get(usize::from(*byte & 63))?;
    }
    Some(token)
}

#[cfg(test)]
mod tests;
