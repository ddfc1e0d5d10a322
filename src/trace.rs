//! What a trace means: W3C Trace Context, spans, semantic conventions, sampling, redaction.
//!
//! Follows W3C Trace Context level 2, W3C Baggage, and OpenTelemetry's HTTP semantic conventions. It moves no bytes,
//! knows no route and sends nothing: finished spans go to a [`span::Sink`].

pub mod baggage;
pub mod redact;
pub mod sampling;
pub mod semconv;
pub mod span;
pub mod w3c;

use http::HeaderValue;
pub use opentelemetry::trace::{SpanId, TraceId};

/// W3C trace-flags (Trace Context level 2, 3.2.2.5): a bit field of which unknown bits are kept off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// The caller may have recorded the trace.
    pub const SAMPLED: Flags = Flags(0x01);
    /// The right-most 7 bytes of the trace ID are random (level 2).
    pub const RANDOM: Flags = Flags(0x02);

    /// Keeps the bits that level 2 defines.
    pub fn from_bits(bits: u8) -> Flags {
        Flags(bits & 0x03)
    }

    /// The bits as sent.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether the sampled bit is set.
    pub fn is_sampled(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Whether the random bit is set.
    pub fn is_random(self) -> bool {
        self.0 & 0x02 != 0
    }

    /// These flags with the sampled bit as given.
    pub fn with_sampled(self, sampled: bool) -> Flags {
        Flags((self.0 & !0x01) | u8::from(sampled))
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// All that travels with a request: the W3C trace context (level 2) and baggage.
///
/// `tracestate` and `baggage` are kept as received, byte for byte. OTel's own `SpanContext` is not used on the data
/// path since it re-parses and re-allocates them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// 16 bytes, never all zero.
    pub trace_id: TraceId,
    /// The span that a receiver takes for its parent: 8 bytes, never all zero.
    pub span_id: SpanId,
    /// trace-flags.
    pub flags: Flags,
    /// `tracestate`, verbatim, lines joined by commas.
    pub tracestate: Option<HeaderValue>,
    /// `baggage` (W3C Baggage), verbatim, lines joined by commas.
    pub baggage: Option<HeaderValue>,
}

impl Context {
    /// A fresh trace: random IDs with the random flag set, not sampled until a sampler says so.
    pub fn new_root() -> Context {
        Context {
            trace_id: new_trace_id(),
            span_id: new_span_id(),
            flags: Flags::RANDOM,
            tracestate: None,
            baggage: None,
        }
    }
}

/// A random trace ID, never zero. Not from a cryptographic source: IDs are not secrets.
pub fn new_trace_id() -> TraceId {
    loop {
        let id = fastrand::u128(..);
        if id != 0 {
            return TraceId::from_bytes(id.to_be_bytes());
        }
    }
}

/// A random span ID, never zero.
pub fn new_span_id() -> SpanId {
    loop {
        let id = fastrand::u64(..);
        if id != 0 {
            return SpanId::from_bytes(id.to_be_bytes());
        }
    }
}

/// How hopspan knows that a span is the parent. Exported as `hopspan.parent.evidence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// The request itself carried a valid `traceparent`.
    Header,
    /// The in-app shim carried hopspan's token.
    Token,
    /// The kernel saw one thread read the request and write the call.
    Thread,
    /// The process served exactly one request while it made the call.
    Serial,
}

impl Evidence {
    /// All kinds, the first that proves wins.
    pub const ALL: [Evidence; 4] = [
        Evidence::Header,
        Evidence::Token,
        Evidence::Thread,
        Evidence::Serial,
    ];

    /// The attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Header => "header",
            Evidence::Token => "token",
            Evidence::Thread => "thread",
            Evidence::Serial => "serial",
        }
    }
}

/// Why a call was not joined to its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// `hopspan.unlinked.reason`: of a closed set.
    pub reason: &'static str,
    /// `hopspan.unlinked.code`: what `hopspan explain` has a page for.
    pub code: &'static str,
}

/// The span that caused a new one.
#[derive(Clone, Debug, PartialEq)]
pub enum Parent {
    /// None: a new trace. `unlinked` says why an outbound call was not joined.
    Root {
        /// Where a join was looked for.
        unlinked: Option<Unproven>,
    },
    /// A span that hopspan itself started in this exchange.
    Local(Context),
    /// A context that came in headers.
    Remote(Context),
    /// A context that hopspan proved.
    Joined(Context, Evidence),
}

impl Parent {
    /// The parent's context, if there is one.
    pub fn context(&self) -> Option<&Context> {
        match self {
            Parent::Root { .. } => None,
            Parent::Local(context) | Parent::Remote(context) | Parent::Joined(context, _) => {
                Some(context)
            }
        }
    }
}
