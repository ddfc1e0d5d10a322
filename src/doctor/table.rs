//! The report for people: a table by group, or a line for each finding.

use super::report::{Check, Mark, Report};

/// Everything, by group; at the end what to read next.
pub fn table(report: &Report, color: bool) -> String {
    let mut out = format!("hopspan doctor {}: {}\n", report.hopspan, report.subject);
    let mut group = None;
    for check in &report.checks {
        if group != Some(check.group) {
            group = Some(check.group);
            out.push_str(&format!("\n{}\n", check.group.as_str()));
        }
        let mark = paint(
            check.mark,
            &format!("{} {:<5}", sign(check.mark), check.mark.as_str()),
            color,
        );
        out.push_str(&format!("  {mark}  {}  {}\n", check.code, check.found));
        if !check.fix.is_empty() {
            out.push_str(&format!("                   -> {}\n", check.fix));
        }
    }
    out.push_str(&format!("\n{}\n", verdict(report)));
    out
}

/// What is wrong and nothing else, a line each, to paste.
pub fn short(report: &Report, color: bool) -> String {
    let mut out = String::new();
    for check in report
        .checks
        .iter()
        .filter(|check| check.mark >= Mark::Warn)
    {
        let mark = paint(check.mark, check.mark.as_str(), color);
        let fix = match check.fix.as_str() {
            "" => String::new(),
            fix => format!(" -> {fix}"),
        };
        out.push_str(&format!(
            "{mark} {} {}: {}{fix}\n",
            check.code,
            check.group.as_str(),
            check.found
        ));
    }
    out.push_str(&format!("{}\n", verdict(report)));
    out
}

/// How many of what, and the page to read first.
fn verdict(report: &Report) -> String {
    let summary = report.summary;
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let counted = format!(
        "{}, {}, {}",
        count(summary.error, "error"),
        count(summary.warn, "warning"),
        count(summary.note, "note")
    );
    let worst = |mark| {
        report
            .checks
            .iter()
            .find(move |check: &&Check| check.mark == mark)
    };
    match worst(Mark::Error).or_else(|| worst(Mark::Warn)) {
        Some(check) => format!("{counted}; read first: hopspan explain {}", check.code),
        None => format!("{counted}: nothing to mend"),
    }
}

fn sign(mark: Mark) -> &'static str {
    match mark {
        Mark::Ok => "✓",
        Mark::Note => "·",
        Mark::Warn => "!",
        Mark::Error => "✗",
    }
}

fn paint(mark: Mark, text: &str, color: bool) -> String {
    let code = match mark {
        Mark::Ok => "32",
        Mark::Note => "2",
        Mark::Warn => "33",
        Mark::Error => "1;31",
    };
    match color {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
