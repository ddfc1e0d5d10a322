//! Nanoseconds in words people read.

/// Three digits, for columns: `640 ns`, `41.2 ms`, `1.24 s`, `75.0 s`, `2 m 05 s`. `µs` is `us` with `ascii`.
pub fn duration(nanos: u64, ascii: bool) -> String {
    let micro = if ascii { "us" } else { "µs" };
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..999_500 => three(nanos, 1_000, micro),
        999_500..999_500_000 => three(nanos, 1_000_000, "ms"),
        999_500_000..99_950_000_000 => three(nanos, 1_000_000_000, "s"),
        _ => minutes(nanos),
    }
}

/// Two digits, for sentences: `41 ms`, `4.2 ms`, `2.0 s`, `2 m 05 s`.
pub fn brief(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..999_500 => two(nanos, 1_000, "µs"),
        999_500..999_500_000 => two(nanos, 1_000_000, "ms"),
        999_500_000..99_500_000_000 => two(nanos, 1_000_000_000, "s"),
        _ => minutes(nanos),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn three(nanos: u64, unit: u64, name: &str) -> String {
    let number = nanos as f64 / unit as f64;
    match nanos {
        _ if number < 9.995 => format!("{number:.2} {name}"),
        _ if number < 99.95 => format!("{number:.1} {name}"),
        _ => format!("{number:.0} {name}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn two(nanos: u64, unit: u64, name: &str) -> String {
    let number = nanos as f64 / unit as f64;
    if number < 9.95 {
        format!("{number:.1} {name}")
    } else {
        format!("{number:.0} {name}")
    }
}

fn minutes(nanos: u64) -> String {
    let seconds = nanos.saturating_add(500_000_000) / 1_000_000_000;
    match seconds {
        0..3_600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_three_and_two_digits() {
        for (nanos, three, two) in [
            (0, "0 ns", "0 ns"),
            (999, "999 ns", "999 ns"),
            (4_200, "4.20 µs", "4.2 µs"),
            (999_499, "999 µs", "999 µs"),
            (999_500, "1.00 ms", "1.0 ms"),
            (41_230_000, "41.2 ms", "41 ms"),
            (99_960_000, "100 ms", "100 ms"),
            (1_240_000_000, "1.24 s", "1.2 s"),
            (75_000_000_000, "75.0 s", "75 s"),
            (125_000_000_000, "2 m 05 s", "2 m 05 s"),
            (7_260_000_000_000, "2 h 01 m", "2 h 01 m"),
        ] {
            assert_eq!(duration(nanos, false), three);
            assert_eq!(brief(nanos), two);
        }
        assert_eq!(duration(4_200, true), "4.20 us");
        assert_eq!(duration(u64::MAX, true), "5124095 h 34 m");
    }
}
