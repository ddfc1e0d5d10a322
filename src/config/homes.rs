//! Where a key belongs that was written in the wrong place.

use serde_json::Value;

use super::{ClientTls, Config, InboundRoute, OutboundRoute};

/// Advice for a key that stands where it is not known: the sections that have it; `None` if none has.
pub(crate) fn of(key: &str) -> Option<String> {
    let mut homes = Vec::new();
    collect(&complete(), "", key, &mut homes);
    let homes: Vec<String> = homes
        .iter()
        .map(|home| match home.as_str() {
            "" => "at the top level".to_owned(),
            section => format!("under `{section}:`"),
        })
        .collect();
    match homes.as_slice() {
        [] => None,
        [only] => Some(format!("`{key}` belongs {only}")),
        [others @ .., last] => Some(format!("`{key}` belongs {} or {last}", others.join(", "))),
    }
}

/// The config with one route in each list, so that their keys can be seen.
fn complete() -> Value {
    let mut config = Config::default();
    config.inbound.routes.push(InboundRoute {
        path: Some(String::new()),
        regex: Some(String::new()),
        app: config.inbound.app.clone(),
        protocol: Some(config.inbound.protocol),
        timeout: Some(config.timeouts.header),
        ratio: Some(config.sampling.ratio),
        ..InboundRoute::default()
    });
    config.outbound.routes.push(OutboundRoute {
        host: String::new(),
        to: Some(String::new()),
        protocol: config.inbound.protocol,
        tls: ClientTls {
            server_name: Some(String::new()),
            ..ClientTls::default()
        },
        rewrite_host: false,
        propagate: true,
        trace: true,
        timeout: Some(config.timeouts.header),
        ratio: Some(config.sampling.ratio),
    });
    serde_json::to_value(&config).unwrap_or_default()
}

fn collect(value: &Value, path: &str, key: &str, homes: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            if entries.contains_key(key) && !homes.iter().any(|home| home == path) {
                let home = if path.is_empty() {
                    "the top level"
                } else {
                    path
                };
                homes.push(home.to_owned());
            }
            for (name, inner) in entries {
                let dot = if path.is_empty() { "" } else { "." };
                collect(inner, &format!("{path}{dot}{name}"), key, homes);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, path, key, homes);
            }
        }
        _ => {}
    }
}
