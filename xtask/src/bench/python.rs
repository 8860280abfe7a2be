//! The interpreter that the bundled programs run with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// An interpreter.
#[derive(Debug)]
pub(crate) struct Python {
    /// The executable itself: a version manager's wrapper would be another process.
    pub(crate) exe: PathBuf,
    /// As it says itself: `3.12.1`.
    pub(crate) version: String,
    /// What programs find in their environment besides ours.
    variables: Vec<(&'static str, PathBuf)>,
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
                variables: Vec::new(),
            }),
            _ => bail!("{} does not know where it is: {said:?}", name.display()),
        }
    }

    /// A program of the tests, to be run with it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg(tools::workspace().join("tests/programs").join(name));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same with further modules.
    pub(super) fn with_modules(&self, directory: PathBuf) -> Self {
        self.with_variable(self.exe.clone(), "PYTHONPATH", directory)
    }

    /// The same without debug information, as `exe`. With it, functions that were inlined are
    /// shown as frames of their own.
    pub(super) fn stripped(&self, exe: &Path) -> Result<Self> {
        let program = "import sys; print(sys.base_prefix)";
        let prefix = tools::output(Command::new(&self.exe).args(["-I", "-c", program]))?;
        let own = fs::canonicalize(&self.exe)
            .with_context(|| format!("cannot follow {}", self.exe.display()))?;
        let mut strip = Command::new("strip");
        tools::run(strip.arg("--strip-debug").arg("-o").arg(exe).arg(own))?;
        let home = PathBuf::from(prefix.trim());
        Ok(self.with_variable(exe.to_owned(), "PYTHONHOME", home))
    }

    fn with_variable(&self, exe: PathBuf, name: &'static str, value: PathBuf) -> Self {
        let mut variables = self.variables.clone();
        variables.push((name, value));
        Self {
            exe,
            version: self.version.clone(),
            variables,
        }
    }
}
