//! The left side of a row: mark, tree, service, kind, name, status. What does not fit gives way in that order from the
//! end of its importance: evidence, kind, name.

use super::super::waterfall::Row;
use super::paint::{Hue, Painter, cut, width};

/// Longest of each text that is measured at all.
const LONGEST: usize = 200;

/// The branches left of each row.
pub(super) struct Guides(Vec<Guide>);

/// For one row: of each depth above it, whether that branch goes on below; and whether its own does.
#[derive(Clone, Debug, Default)]
pub(super) struct Guide {
    depth: usize,
    /// The innermost levels, at most [`Guide::SHOWN`], outermost first: does the branch at that depth go on below?
    goes_on: Vec<bool>,
    has_children: bool,
}

impl Guide {
    /// Levels that are ever drawn: more would leave no room for names.
    const SHOWN: usize = 24;
}

impl Guides {
    /// Reads the branches off the depths, in one pass from below.
    pub(super) fn of(rows: &[Row]) -> Guides {
        let mut guides = Vec::with_capacity(rows.len());
        // Depth -> whether a row of that depth follows before one that is less deep.
        let mut open: Vec<bool> = Vec::new();
        let mut depth_below = 0;
        for row in rows.iter().rev() {
            open.truncate(row.depth + 1);
            open.resize(row.depth + 1, false);
            let from = open.len().saturating_sub(Guide::SHOWN).max(1);
            guides.push(Guide {
                depth: row.depth,
                goes_on: open.get(from..).unwrap_or_default().to_vec(),
                has_children: depth_below > row.depth,
            });
            if let Some(last) = open.last_mut() {
                *last = true;
            }
            depth_below = row.depth;
        }
        guides.reverse();
        Guides(guides)
    }

    pub(super) fn lines(&self) -> &[Guide] {
        &self.0
    }
}

/// A row's left side, before it is fitted.
pub(super) struct Label {
    guide: Guide,
    error: bool,
    origin: bool,
    owner: String,
    service: String,
    kind: &'static str,
    name: String,
    status: String,
    evidence: String,
}

impl Label {
    pub(super) fn of(row: &Row, guide: &Guide, painter: &Painter) -> Label {
        let clean = |text: &str| cut(&painter.clean(text), LONGEST, painter.style().ascii);
        let status = match (row.status_code, &row.error_type) {
            // An answer that broke off, and hopspan's own to a request, have both; the type says more.
            (Some(code), Some(kind)) if *kind != code.to_string() => format!("{code} {kind}"),
            (Some(code), _) => code.to_string(),
            (None, Some(kind)) => kind.clone(),
            (None, None) if row.error => "failed".to_owned(),
            (None, None) => String::new(),
        };
        Label {
            guide: guide.clone(),
            error: row.error,
            origin: row.origin,
            owner: row.service.clone(),
            service: clean(&row.service),
            kind: if row.to_app { "app" } else { row.kind.as_str() },
            name: clean(&row.name),
            status: clean(&status),
            evidence: row
                .evidence
                .as_ref()
                .map(|evidence| format!("[{}]", clean(evidence)))
                .unwrap_or_default(),
        }
    }

    /// Columns it takes in full.
    pub(super) fn width(&self) -> usize {
        let words = [&self.name, &self.status, &self.evidence];
        let words: usize = words.iter().map(|word| spaced(width(word))).sum();
        2 + 2 * self.guide.depth.min(Guide::SHOWN)
            + width(&self.service)
            + spaced(self.kind.len())
            + words
            + if self.origin { HERE_WIDTH } else { 0 }
    }

    /// The label in at most `columns`, painted, and the columns it takes.
    pub(super) fn fit(&self, columns: usize, painter: &Painter) -> (String, usize) {
        let ascii = painter.style().ascii;
        let levels = levels(columns);
        let branches = self.branches(levels, columns < NARROW, ascii);
        let mut room = columns.saturating_sub(2 + width(&branches));
        let says_here = self.origin && room >= 24;
        let here = if says_here { HERE_WIDTH } else { 0 };
        let status = match room {
            // The mark tells that it failed.
            0..12 => String::new(),
            _ => cut(&self.status, room / 2, ascii),
        };
        let fixed = spaced(width(&status)) + here;
        let service = cut(&self.service, room.saturating_sub(fixed), ascii);
        room = room.saturating_sub(width(&service) + fixed);
        let (kind, evidence, name) = self.middle(room, ascii);

        let mut out = Line::default();
        let mark = match self.error {
            true => painter.paint(self.hue(), painter.cross()) + " ",
            false => "  ".to_owned(),
        };
        out.add(mark, 2);
        out.add(painter.paint(Hue::Dim, &branches), width(&branches));
        out.add(
            painter.paint(Hue::Service(&self.owner), &service),
            width(&service),
        );
        out.word(painter.paint(Hue::Dim, kind), kind.len());
        out.word(name.clone(), width(&name));
        let status_painted = if self.error {
            painter.paint(self.hue(), &status)
        } else {
            status.clone()
        };
        out.word(status_painted, width(&status));
        if says_here {
            let here = if ascii { "< here" } else { "◀ here" };
            out.word(painter.paint(Hue::Origin, here), width(here));
        }
        out.word(painter.paint(Hue::Dim, evidence), width(evidence));
        (out.text, out.width)
    }

    /// What stands before a note below the row, and its columns.
    pub(super) fn below(&self, columns: usize, painter: &Painter) -> (String, usize) {
        let ascii = painter.style().ascii;
        let narrow = columns < NARROW;
        let own = self.branches(levels(columns), narrow, ascii);
        // Branches go straight on, or end: the note belongs to the row above.
        let straight: String = own
            .chars()
            .map(|char| match char {
                '├' | '│' => '│',
                '|' => '|',
                _ => ' ',
            })
            .collect();
        let child = match (self.guide.has_children, ascii) {
            (false, _) => " ",
            (true, false) => "│",
            (true, true) => "|",
        };
        let text = format!("  {straight}{child} ");
        let used = width(&text);
        (painter.paint(Hue::Dim, &text), used)
    }

    /// Kind, evidence and name in what room there is.
    fn middle(&self, room: usize, ascii: bool) -> (&'static str, &str, String) {
        let name = width(&self.name);
        for (kind, evidence, least) in [
            (self.kind, &*self.evidence, name),
            (self.kind, "", name.min(12)),
            ("", "", 0),
        ] {
            let taken = spaced(kind.len()) + spaced(width(evidence));
            let left = room.saturating_sub(taken + 1);
            if taken <= room && left >= least {
                let name = if left < 3 {
                    String::new()
                } else {
                    cut(&self.name, left, ascii)
                };
                return (kind, evidence, name);
            }
        }
        ("", "", String::new())
    }

    fn hue(&self) -> Hue<'static> {
        if self.origin { Hue::Origin } else { Hue::Error }
    }

    /// The branches, the innermost `levels` of them.
    fn branches(&self, levels: usize, narrow: bool, ascii: bool) -> String {
        let (straight, tee, corner, none) = match (ascii, narrow) {
            (false, false) => ("│ ", "├ ", "└ ", "  "),
            (true, false) => ("| ", "|-", "`-", "  "),
            (false, true) => ("│", "├", "└", " "),
            (true, true) => ("|", "|", "`", " "),
        };
        let shown = self.guide.goes_on.len().min(levels);
        let hidden = self.guide.depth - shown;
        let mut out = String::new();
        if hidden > 0 {
            out.push(if ascii { '~' } else { '…' });
            out.push_str(none.get(1..).unwrap_or(""));
        }
        let skipped = self.guide.goes_on.len() - shown;
        for (place, goes_on) in self.guide.goes_on.iter().enumerate().skip(skipped) {
            let own = place + 1 == self.guide.goes_on.len();
            out.push_str(match (own, goes_on) {
                (true, true) => tee,
                (true, false) => corner,
                (false, true) => straight,
                (false, false) => none,
            });
        }
        out
    }
}

/// ` ◀ here`
const HERE_WIDTH: usize = 7;

/// Below this many columns a level of branches takes one of them, else two.
const NARROW: usize = 36;

/// Levels of branches that leave room for names.
fn levels(columns: usize) -> usize {
    (columns / 5).clamp(1, Guide::SHOWN)
}

/// A word with the space before it, if there is a word.
fn spaced(width: usize) -> usize {
    if width == 0 { 0 } else { width + 1 }
}

#[derive(Default)]
struct Line {
    text: String,
    width: usize,
}

impl Line {
    fn add(&mut self, text: String, width: usize) {
        self.text += &text;
        self.width += width;
    }

    fn word(&mut self, text: String, width: usize) {
        if width > 0 {
            self.add(" ".to_owned(), 1);
            self.add(text, width);
        }
    }
}
