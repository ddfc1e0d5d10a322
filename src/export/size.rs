//! What a waiting span costs: the estimate that the queue's byte limit works with.
//!
//! Meant to be cheap and never below the encoded size; it is not the allocator's truth.

use std::mem::size_of;

use crate::trace::Context;
use crate::trace::span::{Key, Record, Value};

/// Bytes a record holds in memory, about. Text shared with the configuration counts too: it will be encoded.
pub(super) fn estimate(record: &Record) -> usize {
    let events = record
        .events
        .iter()
        .map(|event| size_of_val(event) + attributes(&event.attributes));
    let links = record
        .links
        .iter()
        .map(|link| size_of_val(link) + state_of(link));
    size_of::<Record>()
        + record.name.target.as_ref().map_or(0, |target| target.len())
        + record.error.as_ref().map_or(0, |text| text.len())
        + state_of(&record.context)
        + attributes(&record.attributes)
        + events.sum::<usize>()
        + links.sum::<usize>()
}

fn state_of(context: &Context) -> usize {
    context.tracestate.as_ref().map_or(0, |state| state.len())
}

fn attributes(list: &[(Key, Value)]) -> usize {
    let sizes = list.iter().map(|(key, value)| {
        let value = match value {
            Value::Static(text) => text.len(),
            Value::Shared(text) => text.len(),
            Value::Text(text) => text.len(),
            Value::List(texts) => texts.iter().map(|text| text.len() + 24).sum(),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => 0,
        };
        key.as_str().len() + value
    });
    size_of_val(list) + sizes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::encode;
    use crate::export::tests::support::{record, typical};

    #[test]
    fn is_above_what_is_sent() {
        for record in [record(1), typical(1)] {
            let mut out = Vec::new();
            encode::span(&mut out, &record);
            assert!(estimate(&record) >= out.len());
        }
    }
}
