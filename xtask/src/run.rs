//! `cargo xtask run`: pyscry, built and with the privileges it needs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::tools;

/// What sudo would take away, and programs, cargo and the interpreters are found by.
const KEPT: [&str; 9] = [
    "CARGO_HOME",
    "CARGO_MANIFEST_DIR",
    "CARGO_TARGET_DIR",
    "HOME",
    "PATH",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "PYSCRY_CACHE",
    "RUSTUP_HOME",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For pyscry.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let pyscry = build()?;
    let mut command = if needs_root(&args.args) {
        as_root(&pyscry)?
    } else {
        Command::new(&pyscry)
    };
    // In our place: Control-C, the terminal and the exit code are pyscry's own then.
    let error = command.args(&args.args).exec();
    bail!("{}", cannot_start(&command, &error))
}

/// Builds pyscry as users get it, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    tools::run(tools::cargo().args([
        "build",
        "--release",
        "--package",
        "profiler-userspace",
        "--bin",
        "pyscry",
    ]))?;
    Ok(tools::target().join("release/pyscry"))
}

/// A program with root's privileges: through sudo, unless we have them.
pub(crate) fn as_root(program: &Path) -> Result<Command> {
    if tools::is_root()? {
        return Ok(Command::new(program));
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-E", "env"]);
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            sudo.arg(setting);
        }
    }
    sudo.arg(program);
    Ok(sudo)
}

/// For commands that need root themselves and take `--pyscry`: where pyscry is, built unless it was
/// given. Where we are not root, this very command runs again in our place, with that.
pub(crate) fn build_then_as_root(given: Option<&Path>) -> Result<PathBuf> {
    // Built as the user, so that what is built belongs to them.
    let pyscry = match given {
        Some(given) => given.to_owned(),
        None => build()?,
    };
    if tools::is_root()? {
        return Ok(pyscry);
    }
    let mut command = as_root(&env::current_exe()?)?;
    command.args(env::args_os().skip(1));
    if given.is_none() {
        command.arg("--pyscry").arg(&pyscry);
    }
    let error = command.exec();
    bail!("{}", cannot_start(&command, &error))
}

/// Why a command of [`as_root`] did not start, and what would help.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    if command.get_program() == "sudo" {
        format!("this needs root, and sudo cannot be run ({error}): run it again as root")
    } else {
        format!(
            "cannot run {}: {error}",
            Path::new(command.get_program()).display()
        )
    }
}

/// Whether pyscry needs root for these arguments: what only prints does not.
fn needs_root(args: &[OsString]) -> bool {
    let own = args.iter().take_while(|arg| *arg != "--");
    let prints = |arg: &OsStr| {
        ["-h", "--help", "-V", "--version"]
            .iter()
            .any(|p| arg == *p)
    };
    let first = args.first().and_then(|arg| arg.to_str());
    !matches!(first, None | Some("doctor" | "help")) && !own.map(OsString::as_os_str).any(prints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(line: &str) -> bool {
        needs_root(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn only_recording_needs_root() {
        assert!(needs("--pid 1"));
        assert!(needs("record -- python app.py --help"));
        assert!(!needs(""));
        assert!(!needs("doctor"));
        assert!(!needs("record --help"));
        assert!(!needs("-V"));
    }
}
