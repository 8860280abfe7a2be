//! What functions are called in a table.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::text::one_line;
use crate::record::frame::{FrameText, Lines, Naming};

/// How files and lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whole paths.
    pub full_paths: bool,
    /// Lines are told apart.
    pub lines: bool,
}

/// A name, and where that is: `busy`, `(th.py:3)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// The function, or what else it is.
    pub name: String,
    /// Its file, in parentheses; empty where it has none.
    pub place: String,
}

impl Label {
    /// One without a file.
    #[must_use]
    pub fn name(name: String) -> Self {
        Self {
            name,
            place: String::new(),
        }
    }

    /// As it is written where there is room.
    #[must_use]
    pub fn text(&self) -> String {
        match self.place.is_empty() {
            true => self.name.clone(),
            false => format!("{} {}", self.name, self.place),
        }
    }

    /// As much of both as fits into so many columns: the name above all.
    #[must_use]
    pub fn fit(&self, columns: usize) -> Self {
        let name = fit(&self.name, columns);
        let left = columns.saturating_sub(name.width() + 1);
        // Less than this says nothing.
        let place = match left >= 6 && !self.place.is_empty() {
            true => fit(&self.place, left),
            false => String::new(),
        };
        Self { name, place }
    }
}

/// As much of a text as fits into so many columns; an ellipsis says that there is more.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut short = String::new();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        short.push(c);
    }
    if columns > 0 {
        short.push('…');
    }
    short
}

/// What a frame is called.
#[must_use]
pub fn label(frame: &FrameText, style: Style) -> Label {
    let naming = Naming {
        lines: match style.lines {
            true => Lines::Exact,
            false => Lines::None,
        },
        full_files: style.full_paths,
    };
    let name = one_line(frame.name());
    if matches!(frame, FrameText::Process(_)) {
        return Label::name(format!("process {name}"));
    }
    let place = match frame.place(naming) {
        (Some(file), Some(line)) => format!("({}:{line})", one_line(file)),
        (Some(file), None) => format!("({})", one_line(file)),
        (None, _) => String::new(),
    };
    Label { name, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(line: Option<u32>) -> FrameText {
        FrameText::Python {
            name: "busy".into(),
            file: "/srv/app/th.py".into(),
            short_file: "th.py".into(),
            line,
            first_line: 1,
        }
    }

    #[test]
    fn labels() {
        let style = |full_paths, lines| Style { full_paths, lines };
        for (frame, style, expected) in [
            (python(Some(3)), style(false, false), "busy (th.py)"),
            (python(Some(3)), style(false, true), "busy (th.py:3)"),
            (python(None), style(false, true), "busy (th.py)"),
            (python(None), style(true, false), "busy (/srv/app/th.py)"),
            (
                FrameText::Native {
                    name: "clock".into(),
                    place: Some("libc.so.6".into()),
                    line: None,
                },
                style(false, false),
                "clock (libc.so.6)",
            ),
            (
                FrameText::marker("[no Python]"),
                style(false, false),
                "[no Python]",
            ),
        ] {
            assert_eq!(label(&frame, style).text(), expected);
        }
    }

    #[test]
    fn what_does_not_fit() {
        let label = label(
            &python(Some(3)),
            Style {
                full_paths: false,
                lines: true,
            },
        );
        for (columns, expected) in [
            (80, "busy (th.py:3)"),
            (14, "busy (th.py:3)"),
            (13, "busy (th.py:…"),
            (11, "busy (th.p…"),
            (10, "busy"),
            (3, "bu…"),
            (1, "…"),
            (0, ""),
        ] {
            assert_eq!(label.fit(columns).text(), expected, "{columns}");
        }
        // Two columns each.
        assert_eq!(fit("工工工", 6), "工工工");
        assert_eq!(fit("工工工", 5), "工工…");
        assert_eq!(fit("工工工", 4), "工…");
    }
}
