//! Colour, width and safety of what is printed.
//!
//! Names and values come from anyone who can send a span. [`Painter::clean`] replaces whatever could move the cursor,
//! change colours or reorder text: control characters (C0, DEL, C1), bidirectional and invisible formatting characters.

use std::borrow::Cow;
use std::collections::BTreeMap;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns where nobody says.
const DEFAULT_WIDTH: usize = 80;
/// Fewer cannot hold a duration and a name.
const MIN_WIDTH: usize = 28;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR or TERM=dumb; CLICOLOR_FORCE anywhere.
    #[default]
    Auto,
    /// Whatever the environment says.
    Always,
    /// Never.
    Never,
}

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// With ANSI colours.
    pub color: bool,
    /// ASCII only.
    pub ascii: bool,
}

impl Style {
    /// The style for a stream: flags first, then NO_COLOR, CLICOLOR_FORCE, TERM and COLUMNS, then the terminal.
    ///
    /// `terminal_columns` is the width of the terminal that the stream is, or `None` where it is none.
    pub fn detect(
        color: ColorWhen,
        ascii: bool,
        terminal_columns: Option<usize>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Style {
        let set = |name| env(name).is_some_and(|value: String| !value.is_empty());
        let forced = env("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let color = match color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto if set("NO_COLOR") => false,
            ColorWhen::Auto if forced => true,
            ColorWhen::Auto => terminal_columns.is_some() && env("TERM").as_deref() != Some("dumb"),
        };
        let columns = env("COLUMNS")
            .and_then(|columns| columns.parse().ok())
            .filter(|columns| *columns > 0)
            .or(terminal_columns)
            .unwrap_or(DEFAULT_WIDTH);
        Style {
            width: columns.max(MIN_WIDTH),
            color,
            ascii,
        }
    }
}

/// What a piece of text is, and so its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hue<'a> {
    /// A service's name or bar.
    Service(&'a str),
    /// Something failed.
    Error,
    /// Where it broke.
    Origin,
    /// Worth a look.
    Notice,
    /// Beside the point.
    Dim,
}

/// 256-colour codes near Okabe and Ito's palette, told apart with colour blindness too; no red, which means failure.
const SERVICE_COLORS: [u8; 8] = [39, 214, 36, 175, 33, 142, 80, 180];

/// Paints for one style and one set of services.
pub(super) struct Painter {
    style: Style,
    services: BTreeMap<String, u8>,
}

impl Painter {
    /// A service's colour comes from its name; where two of a trace would share one, the later name takes the next.
    pub(super) fn new(style: &Style, names: &[String]) -> Painter {
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort();
        let mut taken = [false; SERVICE_COLORS.len()];
        let mut services = BTreeMap::new();
        for name in sorted {
            let first = hash(name) as usize % SERVICE_COLORS.len();
            let place = (0..SERVICE_COLORS.len())
                .map(|step| (first + step) % SERVICE_COLORS.len())
                .find(|place| taken.get(*place) == Some(&false))
                .unwrap_or(first);
            if let (Some(taken), Some(color)) = (taken.get_mut(place), SERVICE_COLORS.get(place)) {
                *taken = true;
                services.insert(name.clone(), *color);
            }
        }
        Painter {
            style: *style,
            services,
        }
    }

    pub(super) fn style(&self) -> &Style {
        &self.style
    }

    /// The mark of a failure.
    pub(super) fn cross(&self) -> &'static str {
        if self.style.ascii { "x" } else { "✗" }
    }

    /// Text in its colour, which ends with it.
    pub(super) fn paint(&self, hue: Hue<'_>, text: &str) -> String {
        if !self.style.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match hue {
            Hue::Service(name) => match self.services.get(name) {
                Some(color) => format!("38;5;{color}"),
                None => return text.to_owned(),
            },
            Hue::Error => "31".to_owned(),
            Hue::Origin => "1;31".to_owned(),
            Hue::Notice => "33".to_owned(),
            Hue::Dim => "2".to_owned(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Foreign text that cannot do more than be read.
    pub(super) fn clean(&self, text: &str) -> String {
        clean(text, self.style.ascii)
    }
}

/// Replaces what a terminal would obey, and with `ascii` what it may not know.
pub(super) fn clean(text: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            _ if steers(char) => out.push(if ascii { '?' } else { '\u{fffd}' }),
            '…' if ascii => out.push_str("..."),
            'µ' if ascii => out.push('u'),
            _ if ascii && !char.is_ascii() => out.push('?'),
            _ => out.push(char),
        }
    }
    out
}

/// Controls, and formatting that is invisible or reorders what is around it (Trojan Source).
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// JSON text with the characters that steer a terminal as escapes. They occur in strings only, where that is the same.
pub fn clean_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|char| char != '\n' && steers(char)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char != '\n' && steers(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(char);
        }
    }
    Cow::Owned(out)
}

/// Columns that text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Text in at most `columns`, with an ellipsis where it was longer.
pub(super) fn cut(text: &str, columns: usize, ascii: bool) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let ellipsis = if ascii { "~" } else { "…" };
    let mut out = String::new();
    let mut used = 0;
    for char in text.chars() {
        let wide = char.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(char);
    }
    if columns > 0 {
        out.push_str(ellipsis);
    }
    out
}

/// Text in lines of at most `columns`, broken at spaces, and within a word only where it is longer than a line.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_owned();
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if width(line) + gap + width(&word) <= columns || columns == 0 {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(&word);
                break;
            }
            if line.is_empty() {
                let head = head(&word, columns);
                word = word.get(head.len()..).unwrap_or("").to_owned();
                line.push_str(&head);
            }
            lines.push(String::new());
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// As much of a word as fits, one character at least.
fn head(word: &str, columns: usize) -> String {
    let mut used = 0;
    word.chars()
        .enumerate()
        .take_while(|(place, char)| {
            used += char.width().unwrap_or(0);
            used <= columns || *place == 0
        })
        .map(|(_, char)| char)
        .collect()
}

/// FNV-1a: the same name has the same colour in every run and on every machine.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
