//! Frames of a recording, and how they are written.

use std::sync::Arc;

use crate::output::text::clean;
use crate::output::view::FrameKind;

/// One frame as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FrameText {
    /// A Python function.
    Python {
        /// Its qualified name.
        name: Arc<str>,
        /// Its file, as the interpreter has it.
        file: Arc<str>,
        /// The part of that which is shown.
        short_file: Arc<str>,
        /// The line; `None` where the instruction has none.
        line: Option<u32>,
        /// The line on which the function begins.
        first_line: u32,
    },
    /// Native code.
    Native {
        /// The function, or what stands for it.
        name: Arc<str>,
        /// The file with its source, else the module; `None` where the name says it.
        place: Option<Arc<str>>,
        /// The line in the source.
        line: Option<u32>,
    },
    /// The kernel's code.
    Kernel {
        /// The function.
        name: Arc<str>,
        /// The kernel, or its module, in brackets; `None` where the function is not known.
        place: Option<Arc<str>>,
    },
    /// Another process, by its name.
    Process(Arc<str>),
    /// Something of ours, in brackets.
    Marker(Arc<str>),
}

/// Which lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// Those that ran.
    #[default]
    Exact,
    /// Those on which functions begin: each function is one frame.
    Function,
    /// None.
    None,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Which lines.
    pub lines: Lines,
    /// Files as the interpreter has them, and not only the part that tells them apart.
    pub full_files: bool,
}

impl FrameText {
    /// One that stands for what is not known.
    #[must_use]
    pub fn marker(text: &str) -> Self {
        Self::Marker(text.into())
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Python { .. } => FrameKind::Python,
            Self::Native { .. } => FrameKind::Native,
            Self::Kernel { .. } => FrameKind::Kernel,
            Self::Process(_) | Self::Marker(_) => FrameKind::Marker,
        }
    }

    /// The file, or what stands for it, and the line that are written.
    #[must_use]
    pub fn place(&self, naming: Naming) -> (Option<&Arc<str>>, Option<u32>) {
        match self {
            Self::Python {
                file,
                short_file,
                line,
                first_line,
                ..
            } => {
                let file = if naming.full_files { file } else { short_file };
                let line = match naming.lines {
                    Lines::Exact => *line,
                    Lines::Function => Some(*first_line),
                    Lines::None => None,
                };
                (Some(file), line)
            }
            Self::Native { place, line, .. } => {
                let line = match naming.lines {
                    Lines::Exact => *line,
                    Lines::Function | Lines::None => None,
                };
                (place.as_ref(), line)
            }
            Self::Kernel { place, .. } => (place.as_ref(), None),
            Self::Process(_) | Self::Marker(_) => (None, None),
        }
    }

    /// The function.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Python { name, .. } | Self::Native { name, .. } | Self::Kernel { name, .. } => {
                name
            }
            Self::Process(name) | Self::Marker(name) => name,
        }
    }

    /// As py-spy writes it, on one line and without what separates frames: `name (file:line)`.
    #[must_use]
    pub fn text(&self, naming: Naming) -> String {
        let name = clean(self.name());
        if matches!(self, Self::Process(_)) {
            return format!("process {name}");
        }
        match self.place(naming) {
            (Some(file), Some(line)) => format!("{name} ({}:{line})", clean(file)),
            (Some(file), None) => format!("{name} ({})", clean(file)),
            (None, _) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_write_a_frame() {
        let frame = FrameText::Python {
            name: "C.f".into(),
            file: "/lib/a;b/c.py".into(),
            short_file: "b/c.py".into(),
            line: Some(12),
            first_line: 10,
        };
        let text = |lines, full_files| frame.text(Naming { lines, full_files });
        assert_eq!(text(Lines::Exact, false), "C.f (b/c.py:12)");
        assert_eq!(text(Lines::Exact, true), "C.f (/lib/a:b/c.py:12)");
        assert_eq!(text(Lines::Function, false), "C.f (b/c.py:10)");
        assert_eq!(text(Lines::None, false), "C.f (b/c.py)");
        let native = FrameText::Native {
            name: "read".into(),
            place: Some("read.c".into()),
            line: Some(3),
        };
        assert_eq!(native.text(Naming::default()), "read (read.c:3)");
        let naming = Naming {
            lines: Lines::None,
            ..Naming::default()
        };
        assert_eq!(native.text(naming), "read (read.c)");
        assert_eq!(FrameText::marker("[x]").text(naming), "[x]");
        assert_eq!(
            FrameText::Process("a\nb".into()).text(naming),
            "process a b"
        );
    }
}
