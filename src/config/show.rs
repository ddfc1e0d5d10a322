//! The config in use, written back as YAML for `/config`. Secrets are masked: no header value and no password is shown.

use serde_json::Value;

use super::Config;

impl Config {
    /// The whole config, defaults included, as YAML that [`Config::parse`] reads.
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self.to_json() {
            Value::Object(entries) => {
                for (key, value) in &entries {
                    write_entry(&mut out, key, value, 0);
                }
            }
            other => write_scalar(&mut out, &other),
        }
        out
    }

    /// The whole config as JSON, masked as in [`Config::to_yaml`].
    pub fn to_json(&self) -> Value {
        // Keys are texts and values are plain: this cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn write_entry(out: &mut String, key: &str, value: &Value, indent: usize) {
    out.push_str(&" ".repeat(indent));
    write_scalar(out, &Value::String(key.to_owned()));
    out.push(':');
    write_value(out, value, indent + 2);
}

fn write_value(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            for (key, value) in entries {
                write_entry(out, key, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                write_item(out, item, indent);
            }
        }
        scalar => {
            out.push(' ');
            write_scalar(out, scalar);
            out.push('\n');
        }
    }
}

/// A list entry; of a mapping, the first key stands beside the dash.
fn write_item(out: &mut String, item: &Value, indent: usize) {
    let dash = format!("{}- ", " ".repeat(indent));
    out.push_str(&dash);
    match item {
        Value::Object(entries) if !entries.is_empty() => {
            let mut block = String::new();
            for (key, value) in entries {
                write_entry(&mut block, key, value, indent + 2);
            }
            out.push_str(block.trim_start());
        }
        scalar => {
            write_scalar(out, scalar);
            out.push('\n');
        }
    }
}

/// Plain where YAML cannot take it for something else; else as JSON, which is YAML.
fn write_scalar(out: &mut String, value: &Value) {
    match value {
        Value::String(text) if is_plain(text) => out.push_str(text),
        Value::Null => {} // an empty value
        other => out.push_str(&other.to_string()),
    }
}

fn is_plain(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._/-<>+".contains(c);
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    // `10s` and `127.0.0.1:80` are texts for YAML; a colon needs something right behind it.
    let address = text.split(':').count() <= 2
        && !text.ends_with(':')
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic() || c == ':')
        && !text.starts_with("0x")
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == ':');
    (starts && !word && text.chars().all(safe)) || (address && text.matches('.').count() == 3)
}
