//! The configuration as a user meets it: mistakes and how they are shown, the documented file, the examples.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hopspan::config::{ClientTls, Config, InboundRoute, OutboundRoute, Source};
use hopspan::routing::load;
use proptest::prelude::*;
use serde_json::Value;

/// The errors of a text as `hopspan check` shows them.
fn errors_of(text: &str) -> String {
    match load(&Source::new("hopspan.yaml", text), &|_| {}, 1) {
        Ok(_) => "no error".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

/// `mistakes.txt`: a config, `----`, what is said about it, `====`.
#[test]
fn mistakes_are_shown_with_place_and_advice() {
    let mut rows = 0;
    for row in include_str!("config/mistakes.txt").split("====\n") {
        let (text, said) = row.split_once("----\n").expect(row);
        assert_eq!(errors_of(text), said.trim_end(), "for\n{text}");
        rows += 1;
    }
    assert!(rows >= 12, "{rows}");
}

#[test]
fn every_mistake_is_found_at_once_even_behind_others() {
    let text = "sevice: shop
inbound:
  app: nowhere
  trust: [10.0.0.1/8]
  routes:
    - pth: a/<in:pk>
    - path: b
      timeout: 5
    - path: b
sampling: { ratio: 2 }
timeouts: { connect: 5sec }
limits: { head_bytes: 16KB, headers: none }
export: { protocol: udp, endpoint: 'ftp://x' }
admin: { listen: 0.0.0.0:8080 }
";
    let errors = load(&Source::new("f", text), &|_| {}, 1).unwrap_err();
    let lines: Vec<usize> = errors.0.iter().map(|error| error.line).collect();
    assert_eq!(
        lines,
        [1, 3, 4, 6, 6, 8, 9, 10, 11, 12, 12, 13, 13, 14],
        "{errors}"
    );
    assert!(
        errors.0.iter().all(|error| error.help.is_some()),
        "{errors}"
    );
}

#[test]
fn colour_is_only_added_when_asked_for() {
    let errors = Config::parse(&Source::new("f", "a: 1")).unwrap_err();
    assert!(!errors.render(false).contains('\x1b'));
    let coloured = errors.render(true);
    assert!(coloured.contains("\x1b[1;31merror:\x1b[0m"));
    let mut plain = coloured;
    for code in ["\x1b[0m", "\x1b[1m", "\x1b[34m", "\x1b[1;31m", "\x1b[1;36m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, errors.render(false));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Source {
    Source::read(path).unwrap()
}

#[test]
fn the_documented_file_says_the_defaults() {
    let source = read(&root().join("config/hopspan.yaml"));
    let (config, _) = load(&source, &|_| {}, 1).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config, Config::default());

    let mut expected = BTreeSet::new();
    keys(&with_routes().to_json(), &mut expected);
    assert!(expected.len() > 60, "{expected:?}");
    let written: BTreeSet<String> = source
        .text
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', ' ', '-']).split_once(':'))
        .map(|(key, _)| key.to_owned())
        .collect();
    let missing: Vec<&String> = expected.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "not in config/hopspan.yaml: {missing:?}"
    );
    // The commented routes work when the comment signs are taken away.
    let uncommented = source
        .text
        .replace("routes: []", "routes:")
        .replace("\n  #  ", "\n    ");
    let source = Source::new("uncommented", uncommented);
    let (config, _) = load(&source, &|_| {}, 1).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.inbound.routes.len(), 4);
    assert_eq!(config.outbound.routes.len(), 4);
}

#[test]
fn the_documented_file_marks_what_needs_a_restart() {
    let text = read(&root().join("config/hopspan.yaml")).text;
    let mut marked = Vec::new();
    let (mut section, mut restart) = (String::new(), false);
    for line in text.lines().skip_while(|line| line.starts_with('#')) {
        let Some((key, _)) = line
            .split_once(':')
            .filter(|_| !line.trim_start().starts_with('#'))
        else {
            restart |= line.contains("(restart)");
            continue;
        };
        let path = match key.strip_prefix("  ") {
            Some(inner) => format!("{section}.{inner}"),
            None => key.to_owned(),
        };
        if !key.starts_with(' ') {
            section = key.to_owned();
        }
        if std::mem::take(&mut restart) {
            marked.push(path);
        }
    }
    marked.sort();
    let mut cold: Vec<&str> = Config::cold_keys().collect();
    cold.sort_unstable();
    assert_eq!(marked, cold);
}

/// A config in which every key is there.
fn with_routes() -> Config {
    let mut config = Config::default();
    let ratio = Some(config.sampling.ratio);
    let timeout = Some(config.timeouts.idle);
    config.inbound.routes.push(InboundRoute {
        path: Some("a".to_owned()),
        regex: Some("b".to_owned()),
        app: config.inbound.app.clone(),
        protocol: Some(config.inbound.protocol),
        timeout,
        trace: true,
        ratio,
    });
    config.outbound.routes.push(OutboundRoute {
        host: "c".to_owned(),
        to: Some("http://d".to_owned()),
        protocol: config.inbound.protocol,
        tls: ClientTls {
            server_name: Some("e".to_owned()),
            ..ClientTls::default()
        },
        rewrite_host: true,
        propagate: true,
        trace: true,
        timeout,
        ratio,
    });
    config
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                found.insert(key.clone());
                keys(inner, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_example_is_a_good_config_and_reads_back_as_written() {
    let folder = root().join("config/examples");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = read(&entry.unwrap().path());
        let (config, _) = load(&source, &|_| {}, 1).unwrap_or_else(|errors| panic!("{errors}"));
        assert_ne!(config, Config::default(), "{} says nothing", source.name);
        let again = Source::new("written back", config.to_yaml());
        let again =
            Config::parse(&again).unwrap_or_else(|errors| panic!("{errors}\n{}", again.text));
        assert_eq!(again, config, "{}", source.name);
        examples += 1;
    }
    assert!(examples > 0);
    for deployed in [
        "demo/order.yaml",
        "demo/payment.yaml",
        "kubernetes/hopspan.yaml",
    ] {
        let source = read(&root().join("deploy").join(deployed));
        load(&source, &|_| {}, 1).unwrap_or_else(|errors| panic!("{errors}"));
    }
    assert_eq!(
        Config::parse(&Source::new("f", Config::default().to_yaml())).unwrap(),
        Config::default()
    );
}

#[test]
fn secrets_are_not_shown() {
    let text = "export:
  endpoint: http://user:CANARY1@collector:4318
  traces_endpoint: http://CANARY2@collector:4318/v1/traces
  headers: { authorization: Bearer CANARY3 }
";
    let config = Config::parse(&Source::new("f", text)).unwrap();
    assert_eq!(
        config.export.headers,
        [("authorization".to_owned(), "Bearer CANARY3".to_owned())]
    );
    for shown in [config.to_yaml(), config.to_json().to_string()] {
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(
            shown.contains("***@collector") && shown.contains("authorization"),
            "{shown}"
        );
    }
    let debug = format!("{config:?}");
    assert!(!debug.contains("CANARY"), "{debug}");

    // Not in errors either, wherever on the line they are and whatever is wrong.
    for wrong in [
        "export:\n  headers:\n    authorization: CANARY: b\n",
        "export:\n  headers:\n    'a b': CANARY\n",
        "export:\n  headers: authorization=CANARY\n",
        "export:\n  headers: [CANARY]\n",
        "export:\n  headers:\n    a: [CANARY]\n",
        "exprt:\n  heders: 1\n  headers: { a: CANARY }\n",
        "export: { protocl: x, headers: { a: CANARY } }\n",
        "export:\n  endpoint: ftp://a:CANARY@b\n",
        "export:\n  headers:\n    a: \"CANARY\n",
    ] {
        let errors = Config::parse(&Source::new("f", wrong)).unwrap_err();
        assert!(!errors.to_string().contains("CANARY"), "{errors}");
        assert!(!format!("{errors:?}").contains("CANARY"), "{errors:?}");
    }
}

#[test]
fn anchors_merges_and_json_are_read() {
    let text = "inbound:
  routes:
    - &slow { path: a, timeout: 90s }
    - { <<: *slow, path: b }
";
    let config = Config::parse(&Source::new("f", text)).unwrap();
    assert_eq!(
        config.inbound.routes[1].timeout,
        config.inbound.routes[0].timeout
    );
    assert_eq!(config.inbound.routes[1].path.as_deref(), Some("b"));
    let json = r#"{"service": "shop", "inbound": {"app": ["127.0.0.1:1", "127.0.0.1:2"]}}"#;
    let config = Config::parse(&Source::new("f", json)).unwrap();
    assert_eq!(config.inbound.app.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A file cut or with a byte changed anywhere is a config or errors, never a panic; and errors point into it.
    #[test]
    fn no_text_panics(at in 0_usize..8000, byte in "[ :\\-\\[{}\"'#&*!|>%@\n\t<a0]", cut in any::<bool>()) {
        let whole = read(&root().join("config/hopspan.yaml")).text + "\nx: y\n";
        let at = (0..=at.min(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap();
        let text = if cut { whole[..at].to_owned() } else { format!("{}{byte}{}", &whole[..at], &whole[at..]) };
        if let Err(errors) = load(&Source::new("f", text.clone()), &|_| {}, 1) {
            let lines = text.lines().count() + 1;
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|error| error.line <= lines));
        }
    }
}
