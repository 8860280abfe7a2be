//! Why there is no dump.

use std::io;
use std::path::PathBuf;

use super::core::CoreError;
use super::stop::StopError;
use crate::python::InspectError;
use crate::python::locate::LocateError;

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The pid.
        pid: u32,
    },
    /// The pid is a thread's.
    #[error("{tid} is a thread of process {pid}: pass --pid {pid}")]
    ThreadOf {
        /// The thread.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// It ended, and nobody asked yet how.
    #[error("process {pid} has ended, and its parent has not looked how yet")]
    Ended {
        /// The pid.
        pid: u32,
    },
    /// No Python that can be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// The core file cannot be read.
    #[error("{}: {source}", path.display())]
    Core {
        /// The core file.
        path: PathBuf,
        /// Why.
        source: CoreError,
    },
}

impl DumpError {
    /// Whether we are not allowed to look.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Inspect(
                InspectError::Memory { source, .. }
                | InspectError::Locate(LocateError::Maps { source, .. }),
            ) => denied(source),
            Self::Stop(error) => error.is_permission(),
            _ => false,
        }
    }

    /// Whether the process runs something else than a Python.
    #[must_use]
    pub fn is_not_python(&self) -> bool {
        matches!(
            self,
            Self::Inspect(InspectError::Locate(LocateError::NotPython { .. }))
        )
    }
}
