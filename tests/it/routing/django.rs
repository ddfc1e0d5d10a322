//! Patterns match as Django matches them, by a table that Django itself made (`django.txt`), and by properties.

use std::fmt::Write as _;

use hopspan::config::Source;
use hopspan::routing::{Snapshot, load};
use proptest::prelude::*;

/// A YAML text in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn compile<'a>(routes: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Snapshot, String> {
    let mut yaml = "inbound:\n  routes:\n".to_owned();
    for (kind, pattern) in routes {
        writeln!(yaml, "    - {kind}: {}", quoted(pattern)).unwrap();
    }
    load(&Source::new("hopspan.yaml", yaml), &|_| {}, 1)
        .map(|(_, snapshot)| snapshot)
        .map_err(|errors| errors.to_string())
}

/// Index of the route that a path takes.
fn first(snapshot: &Snapshot, path: &str) -> Option<usize> {
    let route = snapshot.inbound.route(path);
    snapshot
        .inbound
        .routes()
        .iter()
        .position(|known| std::sync::Arc::ptr_eq(known, route))
}

#[test]
fn matches_as_django_does() {
    let golden = include_str!("django.txt");
    let (mut sets, mut rows, mut hits) = (0, 0, 0);
    for set in golden.split("\n\n").filter(|set| !set.trim().is_empty()) {
        let lines: Vec<(&str, &str)> = set
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once('\t').unwrap())
            .collect();
        let is_route = |line: &&(&str, &str)| matches!(line.0, "path" | "regex");
        let snapshot = compile(lines.iter().filter(is_route).copied()).unwrap();
        for (path, index) in lines.iter().filter(|line| !is_route(line)) {
            let expected = index.parse::<usize>().ok();
            assert_eq!(first(&snapshot, path), expected, "{path} in\n{set}");
            rows += 1;
            hits += usize::from(expected.is_some());
        }
        sets += 1;
    }
    assert_eq!((sets, rows), (5, 325));
    assert!(hits > 50, "{hits}");
}

/// Pieces that patterns are made of; no two give the same regex.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", "b", "a/", "b/", "<int:%>", "<slug:%>", "<str:%>", "<path:%>", "1",
    ])
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..5).prop_map(|pieces| {
        let mut names = 0;
        let mut text = String::new();
        for piece in pieces {
            names += 1;
            text.push_str(&piece.replace('%', &format!("n{names}")));
        }
        text
    })
}

/// Django's way: one pattern after another. Tries every split, needing no regex.
fn fits(pattern: &str, path: &str) -> bool {
    let Some(open) = pattern.find('<') else {
        return pattern == path;
    };
    let (before, rest) = pattern.split_at(open);
    let close = rest.find('>').unwrap();
    let (parameter, after) = (&rest[1..close], &rest[close + 1..]);
    let Some(path) = path.strip_prefix(before) else {
        return false;
    };
    let allowed = |c: char| match parameter.split(':').next().unwrap() {
        "int" => c.is_ascii_digit(),
        "slug" => c.is_ascii_alphanumeric() || c == '-' || c == '_',
        "str" => c != '/',
        _ => c != '\n',
    };
    (1..=path.len())
        .filter(|end| path.is_char_boundary(*end))
        .take_while(|end| path[..*end].chars().all(allowed))
        .any(|end| fits(after, &path[end..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_first_that_fits_wins(
        patterns in prop::collection::vec(pattern(), 1..12),
        paths in prop::collection::vec("[ab1/-]{0,8}", 1..20),
    ) {
        let mut kept: Vec<String> = Vec::new();
        for pattern in patterns {
            kept.push(pattern);
            // What can never be reached is refused; leave it out.
            if compile(kept.iter().map(|text| ("path", text.as_str()))).is_err() {
                kept.pop();
            }
        }
        let snapshot = compile(kept.iter().map(|text| ("path", text.as_str()))).unwrap();
        for path in paths {
            let expected = kept.iter().position(|pattern| fits(pattern, &path));
            prop_assert_eq!(first(&snapshot, &format!("/{path}")), expected, "/{} in {:?}", path, kept);
        }
    }

    #[test]
    fn no_pattern_and_no_path_panics(
        kind in prop::sample::select(vec!["path", "regex"]),
        pattern in prop_oneof!["\\PC{0,20}", "[<>:a-z()/\\[\\]*+?^$|.\\\\0-9]{0,20}"],
        path in "\\PC{0,20}",
    ) {
        if let Ok(snapshot) = compile([(kind, pattern.as_str())].into_iter()) {
            snapshot.inbound.route(&path);
            snapshot.inbound.route(&format!("/{path}%2"));
        }
    }
}

#[test]
fn a_thousand_routes_give_the_first_that_fits() {
    let patterns: Vec<String> = (0..1000)
        .map(|n| match n % 4 {
            0 => format!("shop{}/<int:pk>/", n / 8),
            1 => format!("shop{}/<slug:name>/", n / 8),
            2 => format!("api/v{n}/<path:rest>"),
            _ => format!("page/{n}/"),
        })
        .collect();
    let mut distinct = patterns.clone();
    distinct.sort();
    distinct.dedup();
    let routes: Vec<String> = patterns
        .into_iter()
        .filter(|pattern| {
            let at = distinct.binary_search(pattern);
            at.is_ok_and(|at| !std::mem::take(&mut distinct[at]).is_empty())
        })
        .collect();
    let snapshot = compile(routes.iter().map(|text| ("path", text.as_str()))).unwrap();
    let mut checked = 0;
    for n in 0..1000 {
        for path in [
            format!("shop{}/{n}/", n / 8),
            format!("shop{}/n-{n}/", n / 8),
            format!("api/v{n}/a/b"),
            format!("page/{n}/"),
            format!("page/{n}"),
        ] {
            let expected = routes.iter().position(|pattern| fits(pattern, &path));
            assert_eq!(first(&snapshot, &format!("/{path}")), expected, "{path}");
            checked += 1;
        }
    }
    assert_eq!(checked, 5000);
}
