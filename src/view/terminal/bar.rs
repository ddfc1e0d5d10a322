//! A span's time as a bar, in eighths of a column.

/// Eighths from the left: one to eight.
const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// The bar of a span that starts `start` after the trace and takes `length` of its `total` nanoseconds, `columns` wide
/// at most, with the blanks before it; and the columns used. It starts at a whole column and is never empty.
pub(super) fn bar(
    start: u64,
    length: u64,
    total: u64,
    columns: usize,
    ascii: bool,
) -> (String, usize) {
    let eighths = |nanos: u64| match total {
        0 => 0,
        // Fits: columns are at most thousands.
        _ => usize::try_from(
            u128::from(nanos.min(total)) * (columns as u128) * 8 / u128::from(total),
        )
        .unwrap_or(usize::MAX),
    };
    let first = (eighths(start) / 8).min(columns.saturating_sub(1));
    let end = eighths(start.saturating_add(length)).clamp(first * 8 + 1, columns.max(1) * 8);
    let filled = end - first * 8;
    let (whole, rest) = (filled / 8, filled % 8);
    let mut bar = " ".repeat(first);
    if ascii {
        let cells = filled.div_ceil(8);
        bar.extend(std::iter::repeat_n('#', cells));
        return (bar, first + cells);
    }
    bar.extend(std::iter::repeat_n('█', whole));
    if let Some(part) = rest.checked_sub(1).and_then(|rest| EIGHTHS.get(rest)) {
        bar.push(*part);
    }
    (bar, first + whole + usize::from(rest > 0))
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn draws_eighths() {
        for (start, length, expected) in [
            (0, 100, "██████████"),
            (0, 0, "▏"),
            (0, 1, "▏"),
            (0, 15, "█▌"),
            (50, 25, "     ██▌"),
            (99, 1, "         █"),
            (100, 0, "         █"),
            (90, 1_000, "         █"),
        ] {
            let (drawn, width) = bar(start, length, 100, 10, false);
            assert_eq!(drawn, expected, "{start}+{length}");
            assert_eq!(width, expected.chars().count());
        }
        assert_eq!(bar(50, 25, 100, 10, true).0, "     ###");
        assert_eq!(bar(0, 0, 0, 10, false).0, "▏");
        assert_eq!(bar(u64::MAX, u64::MAX, u64::MAX, 10, false).1, 10);
        assert_eq!(bar(5, 5, 10, 1, false).0, "█");
    }
}
