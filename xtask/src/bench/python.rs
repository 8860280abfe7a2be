//! The interpreter that the bundled programs run with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::tools;

/// An interpreter.
#[derive(Debug)]
pub(crate) struct Python {
    /// The executable itself: a version manager's wrapper would be another process.
    pub(crate) exe: PathBuf,
    /// As it says itself: `3.12.1`.
    pub(crate) version: String,
}

impl Python {
    /// The given one, or the `python3` on `PATH`.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self> {
        let name = given.unwrap_or(Path::new("python3"));
        let program = "import sys; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3])";
        let said = tools::output(Command::new(name).args(["-I", "-c", program]))?;
        match said.lines().collect::<Vec<_>>()[..] {
            [exe, version] if !exe.is_empty() => Ok(Self {
                exe: PathBuf::from(exe),
                version: version.to_owned(),
            }),
            _ => bail!("{} does not know where it is: {said:?}", name.display()),
        }
    }

    /// A program of the tests, to be run with it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg(tools::workspace().join("tests/programs").join(name));
        command
    }
}
