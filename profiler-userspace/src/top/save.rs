//! What is shown, as a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use profiler_common::cause::Cause;

use super::model::{Model, Save};
use super::rows::{Choice, Counted};
use super::store::Store;
use crate::output::file::{OutputError, OutputFile};
use crate::output::flamegraph::{self, FlamegraphError, Subject};
use crate::output::folded;
use crate::output::view::FrameKind;
use crate::record::frame::Naming;

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The file.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The picture.
    #[error(transparent)]
    Flamegraph(#[from] FlamegraphError),
    /// There is nothing yet.
    #[error("nothing to save yet")]
    Nothing,
}

/// Writes what is shown, all of it since the beginning, to the file that `path` gives for an
/// extension. Returns the file.
///
/// # Errors
/// [`SaveError`].
pub fn save(
    model: &Model,
    what: Save,
    path: impl FnOnce(&str) -> PathBuf,
) -> Result<PathBuf, SaveError> {
    let naming = Naming {
        full_files: model.setup.full_paths,
        ..Naming::default()
    };
    let lines = lines(&model.store, &model.choice, naming);
    if lines.is_empty() {
        return Err(SaveError::Nothing);
    }
    match what {
        Save::Folded => write(&path("txt"), folded::to_text(&lines).as_bytes()),
        Save::Flamegraph => {
            let (subtitle, subject) = match model.choice.counted {
                Counted::OnCpu => ("CPU time", Subject::Wall),
                Counted::Waiting => ("time off the CPUs", Subject::OffCpu),
                Counted::Both => ("all time", Subject::Wall),
            };
            let title = format!("pyscry top: {}", model.setup.subject);
            let svg = flamegraph::draw(
                &lines,
                &kinds(&model.store, naming),
                &title,
                subtitle,
                subject,
            )?;
            write(&path("svg"), &svg)
        }
    }
}

fn write(path: &Path, content: &[u8]) -> Result<PathBuf, SaveError> {
    let mut file = OutputFile::open(path)?;
    file.write(content)?;
    Ok(file.path().to_owned())
}

/// What frames are, by how they are written.
fn kinds(store: &Store, naming: Naming) -> BTreeMap<String, FrameKind> {
    let frames = store.frames().iter();
    let frames = frames.map(|frame| (frame.text(naming), frame.kind()));
    let causes = Cause::ALL.iter();
    let causes = causes.map(|cause| (cause.frame().to_owned(), FrameKind::Waiting));
    frames.chain(causes).collect()
}

/// Folded lines, microseconds. Processes are at the root where there are several.
fn lines(store: &Store, choice: &Choice, naming: Naming) -> BTreeMap<String, u64> {
    let many = store.only_process().is_none();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for (cell, time) in store.cells().filter(|(cell, _)| choice.shows(cell)) {
        let process = many.then(|| {
            let name = store.process_name(cell.thread.0);
            format!("process {}", name.replace(';', ":"))
        });
        let frames = store.stack(cell.stack).iter();
        let frames = frames
            .filter_map(|id| store.frame(*id))
            .map(|frame| frame.text(naming));
        let cause = cell.waits.map(|cause| cause.frame().to_owned());
        let parts: Vec<String> = process.into_iter().chain(frames).chain(cause).collect();
        *lines.entry(parts.join(";")).or_default() += time.all;
    }
    for weight in lines.values_mut() {
        *weight = (*weight + 500) / 1000;
    }
    lines.retain(|_, weight| *weight != 0);
    lines
}
