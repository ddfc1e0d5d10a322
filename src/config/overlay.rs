//! The environment laid over the file: OpenTelemetry's own variables win.

use super::{Config, OtelEnv};

impl Config {
    /// Applies what the environment says; what it does not mention stays.
    pub fn overlay(&mut self, env: &OtelEnv) {
        fn set<T: Clone>(slot: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *slot = value.clone();
            }
        }
        if env.service.is_some() {
            self.service.clone_from(&env.service);
        }
        self.resource.extend(env.resource.iter().cloned());
        set(&mut self.propagators, &env.propagators);
        if let Some((parent_based, ratio)) = env.sampler {
            self.sampling.parent_based = parent_based;
            self.sampling.ratio = ratio;
        }
        let export = &mut self.export;
        set(&mut export.disabled, &env.disabled);
        if env.endpoint.is_some() {
            // An endpoint for all signals in the environment wins over the file's, also over one for traces.
            export.endpoint.clone_from(&env.endpoint);
            export.traces_endpoint = None;
        }
        if env.traces_endpoint.is_some() {
            export.traces_endpoint.clone_from(&env.traces_endpoint);
        }
        set(&mut export.protocol, &env.protocol);
        set(&mut export.headers, &env.headers);
        set(&mut export.timeout, &env.timeout);
        set(&mut export.compression, &env.compression);
        if env.insecure.is_some() {
            export.insecure = env.insecure;
        }
        for (slot, value) in [
            (&mut export.certificate, &env.certificate),
            (&mut export.client_certificate, &env.client_certificate),
            (&mut export.client_key, &env.client_key),
        ] {
            if value.is_some() {
                slot.clone_from(value);
            }
        }
        set(&mut export.schedule_delay, &env.schedule_delay);
        set(&mut export.queue_spans, &env.queue_spans);
        set(&mut export.max_batch, &env.max_batch);
        // The specification: a batch is never larger than the queue.
        export.max_batch = export.max_batch.min(export.queue_spans);
        set(&mut self.limits.attributes, &env.attributes);
        set(&mut self.limits.attribute_bytes, &env.attribute_bytes);
    }
}
