//! How each kind of `OTEL_*` value is read: a bad one is a warning, except an endpoint.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::OtelEnv;
use crate::config::Propagator;
use crate::config::export;
use crate::config::values::Ratio;

/// What is wrong with a value.
pub(super) enum Trouble {
    /// Said, and the default used.
    Warning(String),
    /// hopspan does not start.
    Error(String),
}

pub(super) fn keep<T>(slot: &mut Option<T>, value: T) -> Result<(), Trouble> {
    *slot = Some(value);
    Ok(())
}

fn warning<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Warning(why.into()))
}

pub(super) fn boolean(text: &str) -> Result<bool, Trouble> {
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

pub(super) fn count(text: &str) -> Result<usize, Trouble> {
    match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => warning(format!(
            "`{text}` is not a whole number above 0; the default is used"
        )),
    }
}

pub(super) fn millis(text: &str) -> Result<Duration, Trouble> {
    match text.parse::<u64>() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => warning(format!(
            "`{text}` is not a number of milliseconds; the default is used"
        )),
    }
}

pub(super) fn endpoint(text: &str) -> Result<String, Trouble> {
    match export::check_endpoint(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(advice) => Err(Trouble::Error(format!(
            "{}: {}",
            advice.message, advice.help
        ))),
    }
}

pub(super) fn sdk_disabled(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    keep(&mut env.disabled, boolean(text)?)
}

pub(super) fn traces_exporter(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
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

pub(super) fn resource_attributes(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
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

pub(super) fn propagators(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
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

pub(super) fn sampler(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
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

pub(super) fn sampler_argument(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    if !env.takes_ratio {
        return Ok(());
    }
    let Some(ratio) = text.parse().ok().and_then(Ratio::new) else {
        return warning(format!("`{text}` is not a ratio from 0 to 1; 1 is used"));
    };
    env.sampler = env.sampler.map(|(parent_based, _)| (parent_based, ratio));
    Ok(())
}

pub(super) fn protocol(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match text.parse() {
        Ok(protocol) => keep(&mut env.protocol, protocol),
        Err(why) => warning(format!("{why}; http/protobuf is used")),
    }
}

pub(super) fn headers(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match export::parse_headers(text) {
        Ok(headers) => keep(&mut env.headers, headers),
        Err(why) => warning(format!("{why}; the whole list is ignored")),
    }
}

pub(super) fn compression(env: &mut OtelEnv, text: &str) -> Result<(), Trouble> {
    match text {
        "gzip" => keep(&mut env.compression, true),
        "none" => keep(&mut env.compression, false),
        other => warning(format!(
            "hopspan compresses by gzip or none, not by `{other}`; none is used"
        )),
    }
}
