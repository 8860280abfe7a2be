//! The kernel's own profiler.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::recorder::{Format, Tool};
use crate::tools;

/// The one on `PATH`.
pub(super) fn find() -> Result<Tool> {
    let exe = PathBuf::from("perf");
    // Also where there is a wrapper that looks for one that fits the kernel.
    tools::output(Command::new(&exe).arg("--version"))
        .context("perf does not run (Debian has it in linux-perf)")?;
    Ok(Tool {
        exe,
        format: Format::Perf,
    })
}
