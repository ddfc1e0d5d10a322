use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::view::fixture::spans;
use crate::view::span::Span;
use crate::view::waterfall::lay_out;

/// The demo's failing trace: nine spans deep, a call that went well beside the one that failed.
const DEEP: &str = "
order server POST /orders/ 500 0..57
  order app POST 500 1..56
    order client POST http://payment-service/pay/ 500 5..50 evidence=serial
      payment server POST /pay/ 500 6..49
        payment app POST 500 7..48
          payment client GET http://inventory-service/stock/ 200 8..10 evidence=serial
            inventory server GET /stock/ 200 8.5..9.5
              inventory app GET 200 8.75..9.25
          payment client POST http://inventory-service/reserve/ 500 11..47.5 evidence=serial
            inventory server POST /reserve/ 500 12..47
              inventory app POST 500 12.5..46
";

/// What is odd: an orphan, an unlinked call, a call refused, a recovered failure.
const ODD: &str = "
order server GET /orders/ 200 0..40
  order client GET http://inventory:8000/ 502 type=connection_refused 2..3 evidence=serial
  order client GET http://inventory:8000/ 200 4..9 unlinked=several_in_flight
? order client GET http://price/ 200 10..12
    price server GET / 200 10.5..11.5
";

fn drawn(tree: &str, width: usize, color: bool, ascii: bool) -> String {
    draw_spans(&spans(tree), width, color, ascii)
}

fn draw_spans(spans: &[Arc<Span>], width: usize, color: bool, ascii: bool) -> String {
    let style = Style {
        width,
        color,
        ascii,
    };
    draw(&lay_out(spans, 0).unwrap(), &style)
}

/// Compares with a file; `HOPSPAN_GOLDEN=write` writes them anew (then read the difference).
#[test]
fn is_drawn_as_in_the_golden_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/view/terminal/golden");
    for (name, drawn) in [
        ("deep-120.txt", drawn(DEEP, 120, false, false)),
        ("deep-80.txt", drawn(DEEP, 80, false, false)),
        ("deep-50.txt", drawn(DEEP, 50, false, false)),
        ("deep-40.txt", drawn(DEEP, 40, false, false)),
        ("deep-80-color.txt", drawn(DEEP, 80, true, false)),
        ("deep-80-ascii.txt", drawn(DEEP, 80, false, true)),
        ("odd-80.txt", drawn(ODD, 80, false, false)),
    ] {
        let path = format!("{folder}/{name}");
        if std::env::var("HOPSPAN_GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(&path, &drawn).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(drawn, golden, "{name}; drawn:\n{drawn}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for tree in [DEEP, ODD] {
        for columns in 28..200 {
            for ascii in [false, true] {
                for line in drawn(tree, columns, false, ascii).lines().skip(1) {
                    assert!(width(line) <= columns, "{columns}: {} {line}", width(line));
                }
            }
        }
    }
}

#[test]
fn ascii_is_ascii_and_colour_is_only_colour() {
    for tree in [DEEP, ODD] {
        assert!(drawn(tree, 80, false, true).is_ascii());
        let plain = drawn(tree, 80, false, false);
        let mut stripped = String::new();
        for (place, piece) in drawn(tree, 80, true, false).split('\x1b').enumerate() {
            let text = if place == 0 {
                piece
            } else {
                piece.split_once('m').unwrap().1
            };
            stripped.push_str(text);
        }
        assert_eq!(stripped, plain);
        assert!(!plain.contains('\x1b'));
    }
}

/// Every text of a span that can be printed, with whatever a terminal would obey.
fn hostile(text: &str) -> Vec<Arc<Span>> {
    let (mut list, _) = crate::view::decode::from_otlp(crate::view::fixture::request(
        "
order server POST /orders/ 500 0..57
? order client GET http://price/ 200 10..12
    order client POST http://payment/ 503 5..50 evidence=e unlinked=u
",
    ));
    for span in &mut list {
        span.name = text.into();
        span.source = Arc::new(crate::view::span::Source {
            service: text.into(),
            resource: Arc::default(),
            scope: text.into(),
            share: 0,
        });
        for (_, value) in &mut span.attributes {
            if value.is_string() {
                *value = text.into();
            }
        }
        span.status = crate::view::span::Status::Error(text.into());
    }
    list.into_iter().map(Arc::new).collect()
}

#[test]
fn nothing_a_terminal_would_obey_is_printed() {
    let attacks = [
        "\x1b[2J\x1b[H",
        "\x1b]0;title\x07",
        "\u{9b}31m",
        "a\rb",
        "a\nb",
        "a\tb",
        "\x08\x7f",
        "\u{202e}evil",
        "\u{2066}x\u{2069}",
        "\u{200b}\u{feff}",
        "\u{e0041}",
    ];
    for attack in attacks {
        let text = format!("GET {attack} x");
        for ascii in [false, true] {
            let drawn = draw_spans(&hostile(&text), 120, false, ascii);
            for char in drawn.chars().filter(|char| *char != '\n') {
                assert!(
                    !paint::clean(&char.to_string(), false).contains('\u{fffd}')
                        || char == '\u{fffd}',
                    "{attack:?}: {char:?} in {drawn:?}"
                );
            }
            assert_eq!(drawn.lines().count(), drawn.split('\n').count() - 1);
        }
        let json = serde_json::to_string(&lay_out(&hostile(&text), 0).unwrap()).unwrap();
        let cleaned = paint::clean_json(&json);
        assert!(
            cleaned
                .chars()
                .all(|char| !char.is_control() && char != '\u{202e}'),
            "{attack:?}"
        );
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&cleaned), read(&json), "escaping changed the meaning");
    }
}

#[test]
fn flags_then_environment_then_the_terminal_decide() {
    let detect = |color, terminal, env: &'static [(&'static str, &'static str)]| {
        let style = Style::detect(color, false, terminal, |name| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        });
        (style.color, style.width)
    };
    use ColorWhen::{Always, Auto, Never};
    for (expected, got) in [
        ((true, 100), detect(Auto, Some(100), &[])),
        ((false, 80), detect(Auto, None, &[])),
        ((false, 100), detect(Auto, Some(100), &[("NO_COLOR", "1")])),
        ((true, 100), detect(Auto, Some(100), &[("NO_COLOR", "")])),
        ((true, 80), detect(Auto, None, &[("CLICOLOR_FORCE", "1")])),
        ((false, 80), detect(Auto, None, &[("CLICOLOR_FORCE", "0")])),
        (
            (false, 80),
            detect(Auto, None, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]),
        ),
        ((false, 100), detect(Auto, Some(100), &[("TERM", "dumb")])),
        ((true, 80), detect(Always, None, &[("NO_COLOR", "1")])),
        (
            (false, 100),
            detect(Never, Some(100), &[("CLICOLOR_FORCE", "1")]),
        ),
        ((true, 60), detect(Auto, Some(100), &[("COLUMNS", "60")])),
        ((true, 100), detect(Auto, Some(100), &[("COLUMNS", "wide")])),
        ((true, 28), detect(Auto, Some(3), &[])),
    ] {
        assert_eq!(expected, got);
    }
}

#[test]
fn services_of_a_trace_differ_in_colour() {
    let names: Vec<String> = (0..8).map(|number| format!("service-{number}")).collect();
    let style = Style {
        width: 80,
        color: true,
        ascii: false,
    };
    let painter = Painter::new(&style, &names);
    let mut seen: Vec<String> = names
        .iter()
        .map(|name| painter.paint(Hue::Service(name), "x"))
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), names.len());
}

#[test]
fn dates_are_right() {
    for (nanos, text) in [
        (0, "1970-01-01 00:00:00.000 UTC"),
        (951_782_400_000_000_000, "2000-02-29 00:00:00.000 UTC"),
        (1_735_689_599_999_000_000, "2024-12-31 23:59:59.999 UTC"),
        (u64::MAX, "2554-07-21 23:34:33.709 UTC"),
    ] {
        assert_eq!(moment(nanos), text);
    }
}

proptest! {
    #[test]
    fn any_text_keeps_to_the_width(text in ".{0,60}", columns in 28_usize..140, ascii: bool) {
        let drawn = draw_spans(&hostile(&text), columns, false, ascii);
        for line in drawn.lines().skip(1) {
            prop_assert!(width(line) <= columns, "{} {line:?}", width(line));
        }
    }
}
