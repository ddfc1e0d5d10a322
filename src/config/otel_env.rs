//! Every `OTEL_*` variable that concerns traces, in one table: how it is read, or why it is not.
//!
//! Follows the OpenTelemetry environment variable specification: an empty value is as good as none, a bad value is
//! warned about and the default used. The one exception is an endpoint that is no URL: sending spans nowhere in
//! silence helps nobody, so that is an error. It reads no environment by itself; the caller hands one in.

mod read;

use std::path::PathBuf;
use std::time::Duration;

use super::export::Protocol;
use super::sections::Propagator;
use super::values::Ratio;
use read::{
    Trouble, boolean, compression, count, endpoint, headers, keep, millis, propagators, protocol,
    resource_attributes, sampler, sampler_argument, sdk_disabled, traces_exporter,
};

/// What the environment says; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OtelEnv {
    /// `OTEL_SDK_DISABLED`, or `OTEL_TRACES_EXPORTER=none`.
    pub disabled: Option<bool>,
    /// `OTEL_SERVICE_NAME`, else `service.name` of the resource attributes.
    pub service: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES` without `service.name`, percent-decoded.
    pub resource: Vec<(String, String)>,
    /// `OTEL_PROPAGATORS`.
    pub propagators: Option<Vec<Propagator>>,
    /// `OTEL_TRACES_SAMPLER`: whether it is parent-based, and its ratio.
    pub sampler: Option<(bool, Ratio)>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    pub traces_endpoint: Option<String>,
    /// `OTEL_EXPORTER_OTLP_PROTOCOL`, of which the traces variant wins (so of all below).
    pub protocol: Option<Protocol>,
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Option<Vec<(String, String)>>,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`, milliseconds.
    pub timeout: Option<Duration>,
    /// `OTEL_EXPORTER_OTLP_COMPRESSION`: whether it is gzip.
    pub compression: Option<bool>,
    /// `OTEL_EXPORTER_OTLP_INSECURE`.
    pub insecure: Option<bool>,
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`.
    pub certificate: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`.
    pub client_certificate: Option<PathBuf>,
    /// `OTEL_EXPORTER_OTLP_CLIENT_KEY`.
    pub client_key: Option<PathBuf>,
    /// `OTEL_BSP_SCHEDULE_DELAY`, milliseconds.
    pub schedule_delay: Option<Duration>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub queue_spans: Option<usize>,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch: Option<usize>,
    /// `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`, else `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub attributes: Option<usize>,
    /// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, else `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
    pub attribute_bytes: Option<usize>,
    /// Whether `OTEL_TRACES_SAMPLER_ARG` is a ratio for the sampler.
    takes_ratio: bool,
    /// Bad values (for which the default is used) and variables that hopspan cannot honour; to be logged once.
    pub warnings: Vec<String>,
}

type Read = fn(&mut OtelEnv, &str) -> Result<(), Trouble>;

/// What hopspan does with a variable.
enum Handling {
    /// Reads it.
    Honoured(Read),
    /// Says once why not.
    Refused(&'static str),
}

use Handling::{Honoured, Refused};

/// The table, in order of reading: a later row wins over an earlier one, so a variable for all signals stands before
/// the one for traces.
#[rustfmt::skip]
const TABLE: &[(&str, Handling)] = &[
    ("OTEL_SDK_DISABLED", Honoured(sdk_disabled)),
    ("OTEL_TRACES_EXPORTER", Honoured(traces_exporter)),
    ("OTEL_RESOURCE_ATTRIBUTES", Honoured(resource_attributes)),
    ("OTEL_SERVICE_NAME", Honoured(|env, text| keep(&mut env.service, text.to_owned()))),
    ("OTEL_PROPAGATORS", Honoured(propagators)),
    ("OTEL_TRACES_SAMPLER", Honoured(sampler)),
    ("OTEL_TRACES_SAMPLER_ARG", Honoured(sampler_argument)),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", Honoured(|env, text| keep(&mut env.endpoint, endpoint(text)?))),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Honoured(|env, text| keep(&mut env.traces_endpoint, endpoint(text)?))),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", Honoured(protocol)),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", Honoured(protocol)),
    ("OTEL_EXPORTER_OTLP_HEADERS", Honoured(headers)),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", Honoured(headers)),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", Honoured(|env, text| keep(&mut env.timeout, millis(text)?))),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", Honoured(|env, text| keep(&mut env.timeout, millis(text)?))),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", Honoured(compression)),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", Honoured(compression)),
    ("OTEL_EXPORTER_OTLP_INSECURE", Honoured(|env, text| keep(&mut env.insecure, boolean(text)?))),
    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", Honoured(|env, text| keep(&mut env.insecure, boolean(text)?))),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", Honoured(|env, text| keep(&mut env.certificate, text.into()))),
    ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", Honoured(|env, text| keep(&mut env.certificate, text.into()))),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", Honoured(|env, text| keep(&mut env.client_certificate, text.into()))),
    (
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        Honoured(|env, text| keep(&mut env.client_certificate, text.into())),
    ),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", Honoured(|env, text| keep(&mut env.client_key, text.into()))),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", Honoured(|env, text| keep(&mut env.client_key, text.into()))),
    ("OTEL_BSP_SCHEDULE_DELAY", Honoured(|env, text| keep(&mut env.schedule_delay, millis(text)?))),
    ("OTEL_BSP_MAX_QUEUE_SIZE", Honoured(|env, text| keep(&mut env.queue_spans, count(text)?))),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", Honoured(|env, text| keep(&mut env.max_batch, count(text)?))),
    ("OTEL_BSP_EXPORT_TIMEOUT", Refused("one export may take OTEL_EXPORTER_OTLP_TIMEOUT")),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", Honoured(|env, text| keep(&mut env.attributes, count(text)?))),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", Honoured(|env, text| keep(&mut env.attributes, count(text)?))),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", Honoured(|env, text| keep(&mut env.attribute_bytes, count(text)?))),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", Honoured(|env, text| keep(&mut env.attribute_bytes, count(text)?))),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", Refused("hopspan's spans have no events")),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", Refused("hopspan's spans have one link at most")),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", Refused("hopspan's spans have no events")),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", Refused("hopspan's span links have no attributes")),
    ("OTEL_LOG_LEVEL", Refused("set HOPSPAN_LOG for hopspan's own log")),
    ("OTEL_CONFIG_FILE", Refused("write a hopspan.yaml, see `hopspan check`")),
    ("OTEL_EXPERIMENTAL_CONFIG_FILE", Refused("write a hopspan.yaml, see `hopspan check`")),
];

impl OtelEnv {
    /// Reads all variables of the table through `get`, which is `std::env::var` in life.
    ///
    /// # Errors
    /// An endpoint that is no URL, one message each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<OtelEnv, Vec<String>> {
        let mut env = OtelEnv::default();
        let mut errors = Vec::new();
        for (name, handling) in TABLE {
            let Some(text) = get(name) else { continue };
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let trouble = match handling {
                Refused(why) => Some(Trouble::Warning(format!("it is not used: {why}"))),
                Honoured(read) => read(&mut env, text).err(),
            };
            match trouble {
                None => {}
                Some(Trouble::Warning(why)) => env.warnings.push(format!("{name}: {why}")),
                Some(Trouble::Error(why)) => errors.push(format!("{name}: {why}")),
            }
        }
        if errors.is_empty() {
            Ok(env)
        } else {
            Err(errors)
        }
    }

    /// The names in the table, honoured or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests;
