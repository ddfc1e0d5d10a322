//! "Did you mean": the known word that is nearest to one that is not known.

/// The candidate nearest to `word` by edit distance, if near enough to have been meant.
pub fn did_you_mean<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    candidates
        .iter()
        .map(|candidate| (distance(&folded, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .map(|(_, candidate)| candidate)
}

/// Edit distance where a swap of two neighbours counts one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let at = |row: &[usize], i: usize| row.get(i).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (at(&last, j) + usize::from(ca != cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_meant() {
        let keys = ["path", "app", "timeout", "trace", "ratio", "regex"];
        let rows = [
            ("pth", Some("path")),
            ("paht", Some("path")),
            ("Timeout", Some("timeout")),
            ("time-out", Some("timeout")),
            ("apps", Some("app")),
            ("tracing", None),
            ("banana", None),
        ];
        for (word, meant) in rows {
            assert_eq!(did_you_mean(word, &keys), meant, "{word}");
        }
    }
}
