//! The span: started once, ended once, handed to a [`Sink`] when it ends.
//!
//! Ends are values ([`End`]); a span dropped without one ends as [`End::Cancelled`], so that no early return, client
//! that left or panic can lose it. Attributes are a compact record; the OTLP form is made later, off the data path.
//! Limits: [`MAX_ATTRIBUTES`], [`MAX_VALUE_BYTES`], [`MAX_BYTES`]; what exceeds them is counted on the span.

mod value;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Context, Flags, Parent, SpanId, new_span_id, semconv};
use value::cut;
pub use value::{Key, Name, Value};

/// Attributes a span keeps (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT's default).
pub const MAX_ATTRIBUTES: usize = 128;
/// Bytes of one attribute value; longer text is cut at a character boundary.
pub const MAX_VALUE_BYTES: usize = 4096;
/// Bytes of text in all attribute values of a span.
pub const MAX_BYTES: usize = 64 * 1024;

/// Which side of a request a span describes (OTel SpanKind).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Serves a request.
    Server,
    /// Makes a request.
    Client,
}

/// One instant on both clocks: the wall for what is exported, the monotonic for durations.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
    /// The same instant on the monotonic clock.
    pub instant: Instant,
}

impl Moment {
    /// Reads both clocks.
    pub fn now() -> Moment {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment {
            unix_nanos: u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX),
            instant: Instant::now(),
        }
    }

    /// `instant` on the wall clock of this moment: steps of the wall clock since do not show.
    pub fn unix_nanos_at(&self, instant: Instant) -> u64 {
        let later = instant.saturating_duration_since(self.instant).as_nanos();
        let earlier = self.instant.saturating_duration_since(instant).as_nanos();
        self.unix_nanos
            .saturating_add(u64::try_from(later).unwrap_or(u64::MAX))
            .saturating_sub(u64::try_from(earlier).unwrap_or(u64::MAX))
    }
}

/// A finished span as the exporter gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// SERVER or CLIENT.
    pub kind: Kind,
    /// The name.
    pub name: Name,
    /// This span's own context. Its baggage is not exported.
    pub context: Context,
    /// The parent's span ID, if there is a parent.
    pub parent_span_id: Option<SpanId>,
    /// Whether the parent came over the network.
    pub parent_is_remote: bool,
    /// Nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_unix_nanos: u64,
    /// Whether the span failed (OTel status Error), with a description where there is something to add.
    pub error: Option<Cow<'static, str>>,
    /// In order of setting; a name occurs once.
    pub attributes: Vec<(Key, Value)>,
    /// Attributes beyond the limit.
    pub dropped_attributes: u32,
    /// Contexts that are related without being the parent.
    pub links: Vec<Context>,
}

/// Where finished spans go. `finished` must not wait: it is called on the data path.
pub trait Sink: Send + Sync {
    /// Takes a finished span.
    fn finished(&self, record: Box<Record>);
}

/// How a span ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The exchange is whole.
    Complete,
    /// It failed. The first is `error.type` (low cardinality), the second says more.
    Failed(&'static str, Option<Cow<'static, str>>),
    /// The other side left, or the task was dropped.
    Cancelled,
}

/// How much a span keeps (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT, OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attributes.
    pub attributes: usize,
    /// Bytes of one attribute value.
    pub value_bytes: usize,
    /// Bytes of text in all attribute values.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            attributes: MAX_ATTRIBUTES,
            value_bytes: MAX_VALUE_BYTES,
            bytes: MAX_BYTES,
        }
    }
}

/// A span in progress. Not recording (unsampled) spans still have a context and cost no record.
pub struct Span {
    context: Context,
    started: Moment,
    record: Option<Box<Record>>,
    limits: Limits,
    /// Bytes of text in the attribute values so far.
    text_bytes: usize,
    sink: Arc<dyn Sink>,
}

impl Span {
    /// Starts a span below `parent`. `sampled` is the sampler's decision for `context`'s trace.
    ///
    /// `context` must come from [`child_context`]; `started` may lie in the past (connect times).
    pub fn start(
        kind: Kind,
        name: Name,
        parent: &Parent,
        context: Context,
        started: Moment,
        sink: Arc<dyn Sink>,
    ) -> Span {
        let record = context.flags.is_sampled().then(|| {
            let (parent_span_id, parent_is_remote) = match parent {
                Parent::Root { .. } => (None, false),
                Parent::Local(parent) => (Some(parent.span_id), false),
                Parent::Remote(parent) => (Some(parent.span_id), true),
                Parent::Joined(parent, evidence) => {
                    (Some(parent.span_id), *evidence == super::Evidence::Header)
                }
            };
            Box::new(Record {
                kind,
                name,
                context: Context {
                    baggage: None,
                    ..context.clone()
                },
                parent_span_id,
                parent_is_remote,
                start_unix_nanos: started.unix_nanos,
                end_unix_nanos: 0,
                error: None,
                attributes: Vec::with_capacity(16),
                dropped_attributes: 0,
                links: Vec::new(),
            })
        });
        Span {
            context,
            started,
            record,
            limits: Limits::default(),
            text_bytes: 0,
            sink,
        }
    }

    /// Keeps as much as `limits` say instead of the defaults. Call it before the first attribute.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Span {
        self.limits = limits;
        self
    }

    /// The context that leaves with requests made under this span.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// When it started.
    pub fn started(&self) -> Moment {
        self.started
    }

    /// Whether attributes are kept. Ask before building costly ones.
    pub fn is_recording(&self) -> bool {
        self.record.is_some()
    }

    /// Replaces the name (a route known late).
    pub fn rename(&mut self, name: Name) {
        if let Some(record) = &mut self.record {
            record.name = name;
        }
    }

    /// Sets an attribute; a name set twice keeps the later value.
    pub fn attribute(&mut self, key: impl Into<Key>, value: impl Into<Value>) {
        let Some(record) = &mut self.record else {
            return;
        };
        let key = key.into();
        let known = record
            .attributes
            .iter()
            .position(|(name, _)| name.as_str() == key.as_str());
        self.set(key, value.into(), known);
    }

    /// Sets an attribute whose name is not set yet, without a look at those that are.
    pub fn new_attribute(&mut self, key: &'static str, value: impl Into<Value>) {
        debug_assert!(
            self.record.as_ref().is_none_or(|record| {
                let mut names = record.attributes.iter().map(|(name, _)| name.as_str());
                names.all(|name| name != key)
            }),
            "{key} is set twice"
        );
        self.set(Key::Static(key), value.into(), None);
    }

    /// `known`: where a value of this name is.
    fn set(&mut self, key: Key, value: Value, known: Option<usize>) {
        let Some(record) = &mut self.record else {
            return;
        };
        let room = record.attributes.len() < self.limits.attributes;
        let text = matches!(value, Value::Text(_) | Value::List(_));
        if known.is_none() && !text && room {
            // What most are: no text of the request.
            return record.attributes.push((key, value));
        }
        let value = cut(value, self.limits.value_bytes);
        let known = known.and_then(|at| record.attributes.get_mut(at));
        let before = known.as_ref().map_or(0, |(_, value)| value.text_bytes());
        let text_bytes = self.text_bytes - before + value.text_bytes();
        // What is no text of the request (a status, an error.type) is kept whatever that has taken.
        if text_bytes > self.limits.bytes && text_bytes > self.text_bytes {
            record.dropped_attributes += 1;
        } else if let Some(known) = known {
            known.1 = value;
            self.text_bytes = text_bytes;
        } else if room {
            record.attributes.push((key, value));
            self.text_bytes = text_bytes;
        } else {
            record.dropped_attributes += 1;
        }
    }

    /// Adds a link to a related context.
    pub fn link(&mut self, context: Context) {
        if let Some(record) = &mut self.record {
            record.links.push(context);
        }
    }

    /// Marks the span as failed without ending it (a 5xx whose body still streams).
    pub fn fail(&mut self, error_type: impl Into<Value>, description: Option<Cow<'static, str>>) {
        self.attribute(semconv::ERROR_TYPE, error_type);
        if let Some(record) = &mut self.record {
            record.error = Some(description.unwrap_or_default());
        }
    }

    /// Ends the span, once.
    pub fn end(self, end: End) {
        self.end_at(end, Instant::now());
    }

    /// Ends it at a moment that somebody has just read off the clock.
    pub fn end_at(mut self, end: End, now: Instant) {
        self.finish(end, now);
    }

    fn finish(&mut self, end: End, now: Instant) {
        match end {
            End::Complete => {}
            End::Failed(error_type, description) => self.fail(error_type, description),
            End::Cancelled => self.fail(
                semconv::error_type::CANCELLED,
                Some(Cow::Borrowed("cancelled")),
            ),
        }
        if let Some(mut record) = self.record.take() {
            record.end_unix_nanos = self.started.unix_nanos_at(now);
            self.sink.finished(record);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.finish(End::Cancelled, Instant::now());
        }
    }
}

/// The context of a new span below `parent`, with the sampler's decision in its flags.
///
/// A child keeps trace ID, random flag, tracestate and baggage; a root gets fresh IDs and the random flag. An unsampled
/// child keeps the parent's span ID too: hopspan records nothing, so the caller's span stays the nearest one that may exist.
pub fn child_context(parent: &Parent, root: Context, sampled: bool) -> Context {
    match parent.context() {
        None => Context {
            flags: root.flags.with_sampled(sampled),
            ..root
        },
        Some(parent) => Context {
            trace_id: parent.trace_id,
            span_id: if sampled {
                new_span_id()
            } else {
                parent.span_id
            },
            flags: Flags::from_bits(parent.flags.bits()).with_sampled(sampled),
            tracestate: parent.tracestate.clone(),
            baggage: parent.baggage.clone(),
        },
    }
}

#[cfg(test)]
mod tests;
