//! Every `OTEL_*` variable that concerns traces, in one table: how it is read, or why it is not.
//!
//! Follows the OpenTelemetry environment variable specification: an empty value is as good as none, a bad value is
//! warned about and the default used. The one exception is an endpoint that is no URL: sending spans nowhere in
//! silence helps nobody, so that is an error. It reads no environment by itself; the caller hands one in.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::export::{self, Protocol};
use super::sections::Propagator;
use super::values::Ratio;

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

/// What is wrong with a value.
enum Trouble {
    /// Said, and the default used.
    Warning(String),
    /// hopspan does not start.
    Error(String),
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
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", Refused("hopspan's spans have few events, and bounds them itself")),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", Refused("hopspan's spans have one link at most")),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", Refused("hopspan's span events have few attributes")),
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

fn keep<T>(slot: &mut Option<T>, value: T) -> Result<(), Trouble> {
    *slot = Some(value);
    Ok(())
}

fn warning<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Warning(why.into()))
}

fn boolean(text: &str) -> Result<bool, Trouble> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        warning(format!(
            "`{text}` is neither true nor false; it counts as false"
        ))
    }
}

fn count(text: &str) -> Result<usize, Trouble> {
    match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => warning(format!(
            "`{text}` is not a whole number above 0; the default is used"
        )),
    }
}

fn millis(text: &str) -> Result<Duration, Trouble> {
    match text.parse::<u64>() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => warning(format!(
            "`{text}` is not a number of milliseconds; the default is used"
        )),
    }
}

fn endpoint(text: &str) -> Result<String, Trouble> {
    match export::check_endpoint(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(advice) => Err(Trouble::Error(format!(
            "{}: {}",
            advice.message, advice.help
        ))),
    }
}

fn sdk_disabled(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    keep(&mut env.disabled, boolean(text)?)
}

fn traces_exporter(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    let mut unknown = Vec::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match name {
            "otlp" => {}
            "none" => env.disabled = Some(true),
            other => unknown.push(other),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    warning(format!(
        "hopspan exports by otlp (or none), not by {}; otlp is used",
        unknown.join(", ")
    ))
}

fn resource_attributes(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    let mut pairs = Vec::new();
    for member in text
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
    {
        let Some((key, value)) = member.split_once('=') else {
            return warning(format!("`{member}` lacks `=`; the whole list is ignored"));
        };
        let decoded = |text: &str| {
            percent_decode_str(text.trim())
                .decode_utf8()
                .ok()
                .map(String::from)
        };
        let (Some(key), Some(value)) = (decoded(key), decoded(value)) else {
            return warning(format!(
                "`{member}` is not UTF-8 once decoded; the whole list is ignored"
            ));
        };
        if key.is_empty() {
            return warning(format!("`{member}` has no key; the whole list is ignored"));
        }
        pairs.push((key, value));
    }
    for (key, value) in pairs {
        if key == "service.name" {
            env.service = Some(value);
        } else {
            env.resource.retain(|(known, _)| *known != key);
            env.resource.push((key, value));
        }
    }
    Ok(())
}

fn propagators(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match name {
            "none" => {}
            "tracecontext" => known.push(Propagator::TraceContext),
            "baggage" => known.push(Propagator::Baggage),
            other => unknown.push(other),
        }
    }
    known.dedup();
    if unknown.is_empty() {
        return keep(&mut env.propagators, known);
    }
    if !known.is_empty() {
        env.propagators = Some(known);
    }
    warning(format!(
        "hopspan propagates tracecontext and baggage, not yet {}",
        unknown.join(", ")
    ))
}

fn sampler(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    let (parent_based, name) = match text.strip_prefix("parentbased_") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let share = match name {
        "always_on" | "traceidratio" => 1.0,
        "always_off" => 0.0,
        _ => {
            return warning(format!(
                "hopspan has no sampler `{text}`; parentbased_always_on is used"
            ));
        }
    };
    env.sampler = Ratio::new(share).map(|ratio| (parent_based, ratio));
    env.takes_ratio = name == "traceidratio";
    Ok(())
}

fn sampler_argument(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    if !env.takes_ratio {
        return Ok(());
    }
    let Some(ratio) = text.parse().ok().and_then(Ratio::new) else {
        return warning(format!("`{text}` is not a ratio from 0 to 1; 1 is used"));
    };
    env.sampler = env.sampler.map(|(parent_based, _)| (parent_based, ratio));
    Ok(())
}

fn protocol(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match text.parse() {
        Ok(protocol) => keep(&mut env.protocol, protocol),
        Err(why) => warning(format!("{why}; http/protobuf is used")),
    }
}

fn headers(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match export::parse_headers(text) {
        Ok(headers) => keep(&mut env.headers, headers),
        Err(why) => warning(format!("{why}; the whole list is ignored")),
    }
}

fn compression(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match text {
        "gzip" => keep(&mut env.compression, true),
        "none" => keep(&mut env.compression, false),
        other => warning(format!(
            "hopspan compresses by gzip or none, not by `{other}`; none is used"
        )),
    }
}

#[cfg(test)]
mod tests;
