//! A waterfall in the terminal: the tree left, a bar right, the verdict beneath.
//!
//! ```text
//! trace 4bf92f3577b34da6a3ce929d0e0e4736 · 2025-09-22 08:47:03.123 UTC · 57.0 ms · 3 spans · 2 services · 1 failure
//!
//! ✗ order server POST /orders/ 500           ████████████████████████   57.0 ms
//! ✗ └ order client POST 500 [serial]           █████████████████▌       45.0 ms
//! ✗   └ payment server POST /pay/ 500 ◀ here  █████████████████        43.0 ms
//!
//! ✗ payment answered 500 to POST /pay/ after 43 ms; none of its own calls failed; order passed it on
//! ```
//!
//! Nothing is told by colour alone. Names come from others: what could steer a terminal is replaced ([`paint`]).

mod bar;
mod label;
pub mod paint;

use super::units::duration;
use super::waterfall::{Row, Waterfall};
use label::{Guides, Label};
pub use paint::{ColorWhen, Style};
use paint::{Hue, Painter, width};

/// Narrower than this the bars say less than the names they would push out.
const NO_BARS_BELOW: usize = 36;

/// Draws a waterfall; every line ends with a newline and is at most `style.width` columns wide, but for the header's
/// trace ID, which is never cut.
pub fn draw(waterfall: &Waterfall, style: &Style) -> String {
    let painter = Painter::new(style, &waterfall.services);
    let mut out = String::new();
    header(&mut out, waterfall, &painter);
    out.push('\n');
    rows(&mut out, waterfall, &painter);
    footer(&mut out, waterfall, &painter);
    out
}

fn header(out: &mut String, waterfall: &Waterfall, painter: &Painter) {
    let ascii = painter.style().ascii;
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let parts = [
        format!("trace {}", painter.clean(&waterfall.trace_id)),
        moment(waterfall.start_unix_nano),
        duration(waterfall.duration_ns, ascii),
        count(waterfall.rows.len(), "span"),
        count(waterfall.services.len(), "service"),
        count(waterfall.failures, "failure"),
    ];
    let separator = if ascii { ", " } else { " · " };
    let mut line = String::new();
    for part in parts {
        let joined = width(&line) + width(separator) + width(&part);
        if line.is_empty() {
            line = part;
        } else if joined <= painter.style().width {
            line = line + separator + &part;
        } else {
            out.push_str(&line);
            out.push('\n');
            line = part;
        }
    }
    out.push_str(&line);
    out.push('\n');
}

fn rows(out: &mut String, waterfall: &Waterfall, painter: &Painter) {
    let style = painter.style();
    let guides = Guides::of(&waterfall.rows);
    let times: Vec<String> = waterfall
        .rows
        .iter()
        .map(|row| duration(row.duration_ns, style.ascii))
        .collect();
    let time_width = times.iter().map(|time| width(time)).max().unwrap_or(0);
    let labels: Vec<Label> = waterfall
        .rows
        .iter()
        .zip(guides.lines())
        .map(|(row, guide)| Label::of(row, guide, painter))
        .collect();
    let columns = Columns::of(style.width, time_width, &labels);
    for ((row, label), time) in waterfall.rows.iter().zip(&labels).zip(&times) {
        let (left, left_width) = label.fit(columns.label, painter);
        out.push_str(&left);
        if columns.bar > 0 {
            pad(out, columns.label - left_width.min(columns.label) + 1);
            let (bar, bar_width) = bar::bar(
                row.start_ns,
                row.duration_ns,
                waterfall.duration_ns,
                columns.bar,
                style.ascii,
            );
            let hue = if row.origin {
                Hue::Origin
            } else {
                Hue::Service(&row.service)
            };
            out.push_str(&painter.paint(hue, &bar));
            pad(out, columns.bar - bar_width.min(columns.bar));
        } else {
            pad(out, columns.label - left_width.min(columns.label));
        }
        pad(out, 1 + time_width - width(time));
        out.push_str(time);
        out.push('\n');
        note(out, row, label, columns.label, painter);
    }
}

/// What is odd about a row, on a line of its own.
fn note(out: &mut String, row: &Row, label: &Label, columns: usize, painter: &Painter) {
    let said = if row.orphan {
        let parent = row.parent_id.as_deref().unwrap_or("");
        format!("parent {parent} is not here (yet)")
    } else if row.cycle {
        "its parents form a circle, which is cut here".to_owned()
    } else if let Some(reason) = &row.unlinked {
        format!("not joined to what caused it: {reason}")
    } else {
        return;
    };
    let (guide, used) = label.below(columns, painter);
    let room = painter.style().width.saturating_sub(used + 2);
    let said = paint::cut(&painter.clean(&said), room, painter.style().ascii);
    out.push_str(&guide);
    out.push_str(&painter.paint(Hue::Dim, &format!("! {said}")));
    out.push('\n');
}

fn footer(out: &mut String, waterfall: &Waterfall, painter: &Painter) {
    let style = painter.style();
    let mut said = Vec::new();
    if let Some(verdict) = &waterfall.verdict {
        let (mark, hue) = match waterfall.failed {
            true => (painter.cross(), Hue::Error),
            false => ("!", Hue::Notice),
        };
        said.push((mark, hue, painter.clean(&verdict.sentence)));
    }
    if waterfall.not_kept > 0 {
        let sentence = format!(
            "{} more spans were not kept: the trace is larger than the viewer allows",
            waterfall.not_kept
        );
        said.push(("!", Hue::Notice, sentence));
    }
    for (mark, hue, sentence) in said {
        out.push('\n');
        for (number, line) in paint::wrap(&sentence, style.width.saturating_sub(2))
            .iter()
            .enumerate()
        {
            let mark = if number == 0 { mark } else { " " };
            out.push_str(&painter.paint(hue, &format!("{mark} {line}")));
            out.push('\n');
        }
    }
}

/// How the width is shared out. `label + 1 + bar + 1 + time` is the width, or without bars `label + 1 + time`.
struct Columns {
    label: usize,
    bar: usize,
}

impl Columns {
    fn of(width: usize, time: usize, labels: &[Label]) -> Columns {
        let wanted = labels.iter().map(Label::width).max().unwrap_or(0);
        let room = width.saturating_sub(time + 1);
        if width < NO_BARS_BELOW {
            return Columns {
                label: room,
                bar: 0,
            };
        }
        // Wide terminals share fairly; narrow ones favour the names.
        let least_bar = match width {
            100.. => room * 2 / 5,
            60..100 => room / 4,
            _ => 8,
        };
        let label = wanted.min(room.saturating_sub(least_bar + 1));
        Columns {
            label,
            bar: room.saturating_sub(label + 1),
        }
    }
}

fn pad(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// UTC, to the millisecond.
fn moment(unix_nanos: u64) -> String {
    let millis = unix_nanos / 1_000_000;
    let seconds = millis / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03} UTC",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        millis % 1_000
    )
}

/// The Gregorian date of a day since 1970-01-01. Years are counted from March, so that the leap day comes last.
fn date(day: u64) -> (u64, u64, u64) {
    let since_march_0 = day + 719_468;
    let (era, of_era) = (since_march_0 / 146_097, since_march_0 % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, over) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + over, month, day)
}

#[cfg(test)]
mod tests;
