//! The files of a recording: which, in which formats, and their writing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::args::Format;
use crate::journal::read;
use crate::journal::read::{Contents, ReadError};
use crate::output::file::{OutputError, OutputFile};
use crate::output::flamegraph::{self, FlamegraphError, Subject};
use crate::output::view::{FrameKind, View};
use crate::output::{chrometrace, folded, gecko, pprof, speedscope};

/// Why formats and names do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "{0:?} can be of several formats: say which: --format speedscope, chrometrace or gecko, or \
         name it as in profile.speedscope.json"
    )]
    WhichJson(PathBuf),
    #[error(
        "{formats} formats and {outputs} files: say --output once, for the beginning of all names, \
         or once for each format"
    )]
    Count { formats: usize, outputs: usize },
}

/// Which files, in which formats. `default` is the name of one of which only the format was said.
pub(super) fn plan(
    formats: &[Format],
    outputs: &[PathBuf],
    default: impl Fn(&str) -> PathBuf,
) -> Result<Vec<(Format, PathBuf)>, PlanError> {
    let mut wanted: Vec<Format> = Vec::new();
    for format in formats {
        if !wanted.contains(format) {
            wanted.push(*format);
        }
    }
    match (wanted.as_slice(), outputs) {
        ([], []) => Ok(vec![(
            Format::Flamegraph,
            default(Format::Flamegraph.extension()),
        )]),
        ([], outputs) => outputs.iter().map(|path| by_name(path)).collect(),
        (formats, []) => Ok(formats
            .iter()
            .map(|format| (*format, default(format.extension())))
            .collect()),
        ([format], [output]) => Ok(vec![(*format, output.clone())]),
        (formats, [output]) => Ok(formats
            .iter()
            .map(|format| (*format, with_end(output, format.extension())))
            .collect()),
        (formats, outputs) if formats.len() == outputs.len() => Ok(formats
            .iter()
            .copied()
            .zip(outputs.iter().cloned())
            .collect()),
        (formats, outputs) => Err(PlanError::Count {
            formats: formats.len(),
            outputs: outputs.len(),
        }),
    }
}

fn by_name(path: &Path) -> Result<(Format, PathBuf), PlanError> {
    let name = path.to_string_lossy();
    match Format::of_name(&name) {
        Some(format) => Ok((format, path.to_owned())),
        None if name.to_lowercase().ends_with(".json") => {
            Err(PlanError::WhichJson(path.to_owned()))
        }
        None => Ok((Format::Flamegraph, path.to_owned())),
    }
}

/// A name with another end.
fn with_end(path: &Path, extension: &str) -> PathBuf {
    let name = path.to_string_lossy();
    let own = Format::of_name(&name).map(Format::extension);
    let stem = own
        .and_then(|own| name.strip_suffix(own)?.strip_suffix('.'))
        .unwrap_or(&name);
    PathBuf::from(format!("{stem}.{extension}"))
}

/// A file cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Flamegraph(#[from] FlamegraphError),
    #[error("cannot make {format:?}: {source}")]
    Format { format: Format, source: io::Error },
    #[error("cannot read what was recorded: {0}")]
    Read(#[from] ReadError),
}

/// One of the files.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) format: Format,
    pub(super) file: OutputFile,
}

/// Opens all files.
pub(super) fn open(plan: Vec<(Format, PathBuf)>) -> Result<Vec<Output>, OutputError> {
    plan.into_iter()
        .map(|(format, path)| {
            let file = OutputFile::open(&path)?;
            Ok(Output { format, file })
        })
        .collect()
}

/// What was written, a line for each file.
pub(super) fn said(outputs: &[Output]) -> String {
    let mut text = String::new();
    for output in outputs {
        let (what, open) = match output.format {
            Format::Flamegraph => ("Flame graph", "open it in a browser"),
            Format::Raw => ("Folded stacks", ""),
            Format::Speedscope => ("Speedscope", "open it at https://www.speedscope.app"),
            Format::Chrometrace => ("Trace", "open it at https://ui.perfetto.dev"),
            Format::Pprof => ("pprof", "go tool pprof -http=: FILE"),
            Format::Gecko => ("Firefox profile", "open it at https://profiler.firefox.com"),
            Format::Pyscry => ("Recording", "pyscry report FILE"),
        };
        let path = output.file.path().display();
        let hint = match open {
            "" => String::new(),
            open => format!("  ({})", open.replace("FILE", &path.to_string())),
        };
        text.push_str(&format!("{what}: {path}{hint}\n"));
    }
    text
}

/// Pictures of sums.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub(super) title: &'a str,
    pub(super) subtitle: &'a str,
    pub(super) subject: Subject,
}

/// Sums that are shown.
#[derive(Debug)]
pub(super) struct Sums {
    /// Weights by folded stack.
    pub(super) lines: BTreeMap<String, u64>,
    /// What frames are, by how they are written.
    pub(super) kinds: BTreeMap<String, FrameKind>,
}

/// Writes the formats that have sums only, if there are any. Whichever cannot be written, the others
/// are; the first error is returned.
pub(super) fn write_sums(
    outputs: &mut [Output],
    picture: &Picture<'_>,
    sums: impl FnOnce() -> Sums,
) -> Result<(), WriteError> {
    write_each(
        outputs,
        |format| !format.has_times(),
        || Ok(sums()),
        |format, sums| match format {
            Format::Flamegraph => {
                let Picture {
                    title,
                    subtitle,
                    subject,
                } = *picture;
                let svg = flamegraph::draw(&sums.lines, &sums.kinds, title, subtitle, subject);
                Ok(svg?)
            }
            _ => Ok(folded::to_text(&sums.lines).into_bytes()),
        },
    )
}

/// Writes the formats that are made from the order of time, if there are any, as [`write_sums`] does.
pub(super) fn write_times(
    outputs: &mut [Output],
    view: impl FnOnce() -> Result<View, WriteError>,
) -> Result<(), WriteError> {
    write_each(
        outputs,
        |format| format.has_times() && format != Format::Pyscry,
        view,
        |format, view| {
            let mut content = Vec::new();
            let written = match format {
                Format::Speedscope => speedscope::write(view, &mut content),
                Format::Chrometrace => chrometrace::write(view, &mut content),
                Format::Pprof => pprof::write(view, &mut content),
                Format::Gecko => gecko::write(view, &mut content),
                Format::Flamegraph | Format::Raw | Format::Pyscry => Ok(()),
            };
            written.map_err(|source| WriteError::Format { format, source })?;
            Ok(content)
        },
    )
}

/// Writes the outputs of some formats, from something that is made once, and only when there are any.
fn write_each<T>(
    outputs: &mut [Output],
    is_one: impl Fn(Format) -> bool,
    from: impl FnOnce() -> Result<T, WriteError>,
    content: impl Fn(Format, &T) -> Result<Vec<u8>, WriteError>,
) -> Result<(), WriteError> {
    let mut of_these = outputs
        .iter_mut()
        .filter(|output| is_one(output.format))
        .peekable();
    if of_these.peek().is_none() {
        return Ok(());
    }
    let from = from()?;
    let mut first = Ok(());
    for output in of_these {
        let written =
            content(output.format, &from).and_then(|content| Ok(output.file.write(&content)?));
        first = first.and(written);
    }
    first
}

/// Reads a recording that is written or was, from its beginning.
pub(super) fn reread(file: &File) -> Result<Contents, ReadError> {
    // A description of its own: the writer's position stays where it is.
    let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    read::read(BufReader::new(again))
}

/// Copies a recording into the files that it is to be in, but is not written to bit by bit.
pub(super) fn copy_to_others(file: &File, outputs: &mut [Output]) -> Result<(), WriteError> {
    let same = file.metadata().map(|found| (found.dev(), found.ino()));
    for output in outputs {
        if output.format != Format::Pyscry
            || output.file.identity().ok() == same.as_ref().ok().copied()
        {
            continue;
        }
        let format = output.format;
        let failed = |source| WriteError::Format { format, source };
        let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut content = Vec::new();
        again
            .and_then(|mut again| again.read_to_end(&mut content))
            .map_err(failed)?;
        output.file.write(&content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(formats: &[Format], outputs: &[&str]) -> Result<Vec<(Format, String)>, PlanError> {
        let outputs: Vec<PathBuf> = outputs.iter().map(PathBuf::from).collect();
        let planned = plan(formats, &outputs, |end| {
            PathBuf::from(format!("default.{end}"))
        })?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok(planned
            .into_iter()
            .map(|(format, path)| (format, text(path)))
            .collect())
    }

    #[test]
    fn formats_and_names() {
        use Format::{Flamegraph, Pprof, Pyscry, Raw, Speedscope};
        let one = |format, name: &str| Ok(vec![(format, name.to_owned())]);
        assert_eq!(planned(&[], &[]), one(Flamegraph, "default.svg"));
        assert_eq!(planned(&[Raw], &[]), one(Raw, "default.txt"));
        assert_eq!(planned(&[Raw], &["a.svg"]), one(Raw, "a.svg"));
        assert_eq!(planned(&[], &["a.pyscry"]), one(Pyscry, "a.pyscry"));
        assert_eq!(planned(&[], &["out"]), one(Flamegraph, "out"));
        let both = |first: &str, second: &str| {
            Ok(vec![
                (Pprof, first.to_owned()),
                (Speedscope, second.to_owned()),
            ])
        };
        let formats = [Pprof, Speedscope, Pprof];
        assert_eq!(
            planned(&formats, &["a"]),
            both("a.pb.gz", "a.speedscope.json")
        );
        assert_eq!(
            planned(&formats, &["x/a.svg"]),
            both("x/a.pb.gz", "x/a.speedscope.json")
        );
        assert_eq!(planned(&formats, &["a", "b"]), both("a", "b"));
        assert_eq!(
            planned(&[], &["a.pb.gz", "b.speedscope.json"]),
            both("a.pb.gz", "b.speedscope.json")
        );
        assert!(planned(&[], &["a.json"]).is_err());
        assert!(planned(&formats, &["a", "b", "c"]).is_err());
    }
}
