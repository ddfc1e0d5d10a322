//! The rows of `http1.txt`.

use super::bench::{Bench, Case, Outcome, Side};
use super::blocks::{self, expand};
use super::strict::latin;

const ROWS: &str = include_str!("http1.txt");

/// What must come of a row.
#[derive(Clone, Debug)]
struct Wanted {
    /// Statuses of a refusal; none: it is passed on.
    refused: Vec<u16>,
    close: bool,
    checks: Vec<(String, String)>,
}

#[derive(Debug)]
struct Row {
    name: String,
    sides: Vec<(Side, Wanted)>,
    bytes: String,
}

fn rows() -> Vec<Row> {
    let blocks = blocks::read(ROWS).into_iter();
    blocks
        .map(|block| Row {
            sides: block.wanted.iter().flat_map(|text| sides(text)).collect(),
            name: block.name,
            bytes: block.text,
        })
        .collect()
}

fn sides(text: &str) -> Vec<(Side, Wanted)> {
    let (sides, text) = match text.split_once(' ') {
        Some(("inbound", rest)) => (vec![Side::Inbound], rest),
        Some(("outbound", rest)) => (vec![Side::Outbound], rest),
        _ => (vec![Side::Inbound, Side::Outbound], text),
    };
    let mut parts = text.split(" ; ");
    let outcome = parts.next().unwrap().trim();
    let wanted = Wanted {
        close: outcome == "close",
        refused: match outcome {
            "ok" | "close" => Vec::new(),
            statuses => statuses.split(" | ").map(|s| s.parse().unwrap()).collect(),
        },
        checks: parts
            .map(|check| {
                let (kind, value) = check.split_once('=').unwrap();
                (kind.to_owned(), value.to_owned())
            })
            .collect(),
    };
    sides
        .into_iter()
        .map(|side| (side, wanted.clone()))
        .collect()
}

/// What is wrong with the outcome of a row.
fn judge(wanted: &Wanted, outcome: &Outcome, expand: impl Fn(&str) -> String) -> Option<String> {
    let refused = !wanted.refused.is_empty();
    let count = wanted.checks.iter().find(|(kind, _)| kind == "seen");
    let count = count.map_or(usize::from(!refused), |(_, count)| count.parse().unwrap());
    let whole: Vec<_> = outcome.whole().collect();
    if whole.len() != count {
        return Some(format!(
            "{} requests reached the app, not {count}",
            whole.len()
        ));
    }
    let answers = match &outcome.answers {
        Ok(answers) => answers,
        Err(flaw) => return Some(flaw.clone()),
    };
    let (passed, last) = answers.split_at(count.min(answers.len()));
    if passed.len() != count || passed.iter().any(|answer| answer.status != 200) {
        return Some("not every request was answered 200".to_owned());
    }
    let ends_well = match (last, refused, wanted.close) {
        ([sentinel], false, false) => sentinel.status == 200 && outcome.sentinel,
        ([], false, true) => !outcome.sentinel,
        ([], true, _) => wanted.refused.contains(&0) && !outcome.sentinel,
        ([refusal], true, _) => {
            wanted.refused.contains(&refusal.status) && refusal.is_refusal() && !outcome.sentinel
        }
        _ => false,
    };
    if !ends_well {
        return Some(format!("ends wrong, sentinel {}", outcome.sentinel));
    }
    let first = whole.first()?;
    wanted.checks.iter().find_map(|(kind, value)| {
        let value = expand(value);
        let good = match &**kind {
            "line" => first.line == value,
            "body" => latin(&first.body) == value,
            "not" => first.all(&value).is_empty(),
            "has" => match value.split_once(':') {
                Some((name, value)) => {
                    first.all(name) == [value.trim_start()] || first.all(name) == [value.trim()]
                }
                None => first.all(&value).len() == 1,
            },
            "seen" => true,
            other => panic!("there is no check {other:?}"),
        };
        (!good).then(|| format!("not {kind}={value:?}"))
    })
}

#[tokio::test]
async fn what_reaches_the_app_is_one_request_or_the_client_is_told() {
    let bench = Bench::new().await;
    let app = bench.app.address.to_string();
    let (rows, mut cases, mut wanted) = (rows(), Vec::new(), Vec::new());
    for row in &rows {
        assert!(!row.sides.is_empty(), "{} wants nothing", row.name);
        for (side, want) in &row.sides {
            let word = format!("row-{:03}", cases.len());
            let bytes = expand(&row.bytes, &word, &app);
            cases.push(Case {
                side: *side,
                row: word,
                bytes,
            });
            wanted.push((&row.name, want));
        }
    }
    let outcomes = bench.run(&cases).await;
    let mut wrong = Vec::new();
    for ((case, outcome), (name, want)) in cases.iter().zip(&outcomes).zip(&wanted) {
        let expand = |text: &str| latin(&expand(text, &case.row, &app));
        if let Some(why) = judge(want, outcome, expand) {
            wrong.push(format!("{name} ({:?}): {why}\n  {outcome:?}", case.side));
        }
    }
    println!("{} rows, {} exchanges", rows.len(), cases.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!((rows.len(), cases.len()), (179, 357));
    let metrics = bench.hopspan.metrics().await;
    assert!(metrics.contains("hopspan_panics_total 0"), "{metrics}");
    for reason in ["malformed", "too_large"] {
        let counted = format!("hopspan_client_protocol_errors_total{{reason=\"{reason}\"}}");
        assert!(metrics.contains(&counted), "{counted} in {metrics}");
    }
}
