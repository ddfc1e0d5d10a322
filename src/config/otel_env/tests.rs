use super::*;
use crate::config::Config;

fn read(pairs: &[(&str, &str)]) -> Result<OtelEnv, Vec<String>> {
    OtelEnv::read(|name| {
        pairs
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

/// The config of defaults under some variables, and the warnings.
fn config(pairs: &[(&str, &str)]) -> (Config, Vec<String>) {
    let env = read(pairs).unwrap();
    let mut config = Config::default();
    config.overlay(&env);
    (config, env.warnings)
}

#[test]
fn nothing_set_or_set_to_nothing_changes_nothing() {
    assert_eq!(read(&[]).unwrap(), OtelEnv::default());
    let names: Vec<&str> = OtelEnv::names().collect();
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (*name, " ")).collect();
    assert_eq!(read(&empty).unwrap(), OtelEnv::default());
    assert!(names.len() > 30);
    assert_eq!(config(&empty).0, Config::default());
}

/// Variable, value, and what the config then says.
type Row = (
    &'static str,
    &'static str,
    fn(&Config) -> String,
    &'static str,
);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("OTEL_SERVICE_NAME", "shop", |c| format!("{:?}", c.service), "Some(\"shop\")"),
    ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b", |c| format!("{:?}", c.service), "Some(\"a b\")"),
    ("OTEL_RESOURCE_ATTRIBUTES", "k=1, x = a%2Cb", |c| format!("{:?}", c.resource), "{\"k\": \"1\", \"x\": \"a,b\"}"),
    ("OTEL_SDK_DISABLED", "TRUE", |c| c.export.disabled.to_string(), "true"),
    ("OTEL_TRACES_EXPORTER", "none", |c| c.export.disabled.to_string(), "true"),
    ("OTEL_TRACES_EXPORTER", "otlp", |c| c.export.disabled.to_string(), "false"),
    ("OTEL_PROPAGATORS", "tracecontext", |c| format!("{:?}", c.propagators), "[TraceContext]"),
    ("OTEL_PROPAGATORS", "none", |c| format!("{:?}", c.propagators), "[]"),
    ("OTEL_TRACES_SAMPLER", "always_on", sampling, "false 1"),
    ("OTEL_TRACES_SAMPLER", "always_off", sampling, "false 0"),
    ("OTEL_TRACES_SAMPLER", "traceidratio", sampling, "false 1"),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_on", sampling, "true 1"),
    ("OTEL_TRACES_SAMPLER", "parentbased_always_off", sampling, "true 0"),
    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", sampling, "true 1"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", |c| format!("{:?}", c.export.endpoint), "Some(\"http://c:4318\")"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317", |c| format!("{:?}", c.export.endpoint), "Some(\"c:4317\")"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", |c| c.export.protocol.as_str().to_owned(), "grpc"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%3D", |c| format!("{:?}", c.export.headers), "[(\"a\", \"b=\")]"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500", |c| format!("{:?}", c.export.timeout), "2.5s"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", |c| c.export.compression.to_string(), "true"),
    ("OTEL_EXPORTER_OTLP_INSECURE", "True", |c| format!("{:?}", c.export.insecure), "Some(true)"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a", |c| format!("{:?}", c.export.certificate), "Some(\"/a\")"),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/a", |c| format!("{:?}", c.export.client_certificate), "Some(\"/a\")"),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/a", |c| format!("{:?}", c.export.client_key), "Some(\"/a\")"),
    ("OTEL_BSP_SCHEDULE_DELAY", "100", |c| format!("{:?}", c.export.schedule_delay), "100ms"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "100", |c| format!("{} {}", c.export.queue_spans, c.export.max_batch), "100 100"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100", |c| c.export.max_batch.to_string(), "100"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "9", |c| c.limits.attributes.to_string(), "9"),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9", |c| c.limits.attribute_bytes.to_string(), "9"),
];

fn sampling(config: &Config) -> String {
    format!(
        "{} {}",
        config.sampling.parent_based,
        config.sampling.ratio.get()
    )
}

#[test]
fn each_variable_does_what_the_specification_says() {
    for (name, value, says, expected) in ROWS {
        let (config, warnings) = config(&[(name, value)]);
        assert_eq!(says(&config), *expected, "{name}={value}");
        assert!(warnings.is_empty(), "{name}={value}: {warnings:?}");
    }
}

#[test]
fn the_traces_variant_wins() {
    for (name, value, says, expected) in ROWS {
        let Some(rest) = name.strip_prefix("OTEL_EXPORTER_OTLP_") else {
            continue;
        };
        let traces = format!("OTEL_EXPORTER_OTLP_TRACES_{rest}");
        assert!(OtelEnv::names().any(|known| known == traces), "{traces}");
        if rest == "ENDPOINT" {
            continue; // kept apart: that for traces is used as it is
        }
        let (set, _) = config(&[(&traces, value)]);
        assert_eq!(says(&set), *expected, "{traces}={value}");
    }
    let (both, _) = config(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2/v1/traces"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_SERVICE_NAME", "a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b"),
    ]);
    assert_eq!(both.export.timeout, Duration::from_millis(2));
    assert_eq!(both.export.endpoint.as_deref(), Some("http://a:1"));
    assert_eq!(
        both.export.traces_endpoint.as_deref(),
        Some("http://b:2/v1/traces")
    );
    assert_eq!(both.limits.attributes, 2);
    assert_eq!(sampling(&both), "true 0.25");
    assert_eq!(both.service.as_deref(), Some("a"));
}

#[test]
fn a_bad_value_is_warned_about_and_the_default_used() {
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%ff"),
        ("OTEL_PROPAGATORS", "b3"),
        ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-5"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "5"),
        ("OTEL_LOG_LEVEL", "debug"),
    ] {
        let (config, warnings) = config(&[(name, value)]);
        assert_eq!(config, Config::default(), "{name}={value}");
        assert_eq!(warnings.len(), 1, "{name}={value}: {warnings:?}");
        assert!(warnings[0].starts_with(name), "{warnings:?}");
    }
    let (config, warnings) = config(&[
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_PROPAGATORS", "b3,tracecontext"),
    ]);
    assert_eq!(sampling(&config), "false 1");
    assert_eq!(config.propagators, [Propagator::TraceContext]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn an_endpoint_that_is_none_is_an_error_each() {
    let wrong = [
        "ftp://x",
        "http://",
        "collector",
        "http://a:99999",
        "http://a b",
        "x:y:z",
    ];
    for value in wrong {
        let errors = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", value),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value),
        ])
        .unwrap_err();
        assert_eq!(errors.len(), 2, "{value}: {errors:?}");
        assert!(errors[0].contains("write a URL"), "{errors:?}");
    }
    let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://user:secret@x")]).unwrap_err();
    assert!(!error[0].contains("secret"), "{error:?}");
}
