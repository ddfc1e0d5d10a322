//! As much of JSON Schema (2020-12) as the repository's schemas use; a keyword that is not known here fails the test.

use serde_json::Value;

/// Everything in which `document` is not as `schema` says, by its place.
pub(crate) fn faults(schema: &Value, document: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, document, "", &mut faults);
    faults
}

fn check(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    for (keyword, wanted) in schema.as_object().unwrap() {
        let good = match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" => true,
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => is_a(wanted.as_str().unwrap(), value),
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "pattern" => matches(wanted.as_str().unwrap(), value.as_str().unwrap_or_default()),
            "required" => {
                let names = wanted.as_array().unwrap().iter();
                names
                    .map(|name| name.as_str().unwrap())
                    .all(|name| value.get(name).is_some())
            }
            "additionalProperties" => {
                assert_eq!(*wanted, Value::Bool(false));
                let known = schema["properties"].as_object().unwrap();
                value
                    .as_object()
                    .is_none_or(|value| value.keys().all(|key| known.contains_key(key)))
            }
            "properties" => {
                for (name, inner) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(inner, value, &format!("{at}/{name}"), faults);
                    }
                }
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(wanted, item, &format!("{at}/{index}"), faults);
                }
                true
            }
            other => panic!("the keyword {other} is not known here"),
        };
        if !good {
            faults.push(format!("{at}: {keyword} {wanted}, but is {value}"));
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not known here"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    regex_automata::meta::Regex::new(pattern)
        .unwrap()
        .is_match(text)
}

#[test]
fn a_document_that_is_not_as_the_schema_says_is_found_out() {
    let schema = serde_json::json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "type": "integer", "minimum": 1 }, "b": { "enum": ["x"] }, "c": { "pattern": "^y$" } },
    });
    for (document, count) in [
        (serde_json::json!({ "a": 1, "b": "x", "c": "y" }), 0),
        (serde_json::json!({ "a": 0, "b": "z", "c": "yy" }), 3),
        (serde_json::json!({ "d": 1 }), 2),
        (serde_json::json!([]), 2),
    ] {
        let faults = faults(&schema, &document);
        assert_eq!(faults.len(), count, "{document}: {faults:?}");
    }
}
