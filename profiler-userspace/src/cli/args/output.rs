//! What is written, and how.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::record::frame::{Lines, Naming};

/// Where help lists what is written.
pub(super) const OUTPUT: &str = "What to write";

/// The formats of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Format {
    /// A picture (SVG) to open in a browser.
    Flamegraph,
    /// Folded stacks, a line each: samples, or microseconds with --wall or --off-cpu.
    Raw,
    /// For speedscope (https://www.speedscope.app), with real times.
    Speedscope,
    /// For Perfetto (https://ui.perfetto.dev) and Chrome, with real times.
    Chrometrace,
    /// For `go tool pprof` and all that read its files.
    Pprof,
    /// For the Firefox Profiler (https://profiler.firefox.com), with real times.
    Gecko,
    /// All that was recorded: `pyscry report` makes any other of it, later and elsewhere.
    Pyscry,
}

impl Format {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::Flamegraph,
        Self::Raw,
        Self::Speedscope,
        Self::Chrometrace,
        Self::Pprof,
        Self::Gecko,
        Self::Pyscry,
    ];

    /// What file names end with, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Flamegraph => "svg",
            Self::Raw => "txt",
            Self::Speedscope => "speedscope.json",
            Self::Chrometrace => "chrometrace.json",
            Self::Pprof => "pb.gz",
            Self::Gecko => "gecko.json",
            Self::Pyscry => "pyscry",
        }
    }

    /// The format that a file's name asks for.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        const OTHERS: [(&str, Format); 7] = [
            ("folded", Format::Raw),
            ("collapsed", Format::Raw),
            ("raw", Format::Raw),
            ("pprof", Format::Pprof),
            ("pprof.gz", Format::Pprof),
            ("pb", Format::Pprof),
            ("trace.json", Format::Chrometrace),
        ];
        let own = Self::ALL.map(|format| (format.extension(), format));
        let name = name.to_lowercase();
        let fits = |end: &str| {
            let start = name.strip_suffix(end);
            start.is_some_and(|start| start.ends_with('.'))
        };
        let all = own.iter().chain(&OTHERS);
        all.copied()
            .find(|(end, _)| fits(end))
            .map(|(_, format)| format)
    }

    /// Whether it has the order of time, and not only sums.
    #[must_use]
    pub fn has_times(self) -> bool {
        !matches!(self, Self::Flamegraph | Self::Raw)
    }
}

/// What is written.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// File to write [default: a name that says what of and when, as in python3-TIME.svg,
    /// 1234-TIME.svg, all-TIME.svg; of a recording file, its own with another end]. Its end says
    /// the format where --format does not. With several formats: a file for each, in their order,
    /// or one name, to which each adds its own end.
    #[arg(short = 'o', long = "output", value_name = "FILE", help_heading = OUTPUT)]
    pub files: Vec<PathBuf>,
    /// What to write; several with commas, or by more of this option [default: flamegraph].
    #[arg(
        short = 'f', long = "format", value_enum, ignore_case = true, value_name = "FORMAT",
        value_delimiter = ',', help_heading = OUTPUT
    )]
    pub formats: Vec<Format>,
    /// How frames are written.
    #[command(flatten)]
    pub naming: NamingArgs,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct NamingArgs {
    /// One frame for each function, with the line on which it begins, and not one for each line
    /// that ran.
    #[arg(short = 'F', long, conflicts_with = "nolineno", help_heading = OUTPUT)]
    pub function: bool,
    /// No line numbers.
    #[arg(long, help_heading = OUTPUT)]
    pub nolineno: bool,
    /// Full paths of Python files, not only the part from the package's directory on.
    #[arg(long, help_heading = OUTPUT)]
    pub full_filenames: bool,
}

impl NamingArgs {
    /// How frames are written.
    #[must_use]
    pub fn naming(&self) -> Naming {
        Naming {
            lines: match (self.function, self.nolineno) {
                (true, _) => Lines::Function,
                (false, true) => Lines::None,
                (false, false) => Lines::Exact,
            },
            full_files: self.full_filenames,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_formats() {
        for (name, format) in [
            ("a.svg", Some(Format::Flamegraph)),
            ("A.SVG", Some(Format::Flamegraph)),
            ("x/out.speedscope.json", Some(Format::Speedscope)),
            ("out.json", None),
            ("out", None),
            ("svg", None),
            ("a.pb.gz", Some(Format::Pprof)),
            ("a.folded", Some(Format::Raw)),
            ("a.pyscry", Some(Format::Pyscry)),
            ("speedscope.json", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
        for format in Format::ALL {
            assert_eq!(
                Format::of_name(&format!("a.{}", format.extension())),
                Some(format)
            );
        }
        assert_eq!(Format::ALL.len(), Format::value_variants().len());
    }
}
