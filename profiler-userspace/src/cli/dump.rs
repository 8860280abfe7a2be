//! `pyscry dump`: reads, writes, and says what is missing.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;

use super::args::DumpArgs;
use super::say;
use crate::dump::{DumpError, DumpOptions, Parent, ProcessDump, children, core, json, live, text};
use crate::privilege;
use crate::process::proc_file;

/// Characters of a variable's value for each `--locals`.
const VALUE_CHARS: usize = 128;
/// Columns where there is no terminal.
const COLUMNS: u16 = 80;

/// Runs the subcommand.
///
/// # Errors
/// One line that says what is wrong and, where something helps, what.
pub fn main(args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let options = DumpOptions {
        native: args.native,
        locals: (args.locals > 0).then_some(VALUE_CHARS * usize::from(args.locals)),
        full_filenames: args.full_filenames,
        blocking: args.blocking,
    };
    let mut output = Output::new(args.json);
    match (args.pid, &args.core) {
        (Some(pid), _) if args.subprocesses => family(pid, &options, &mut output)?,
        (Some(pid), _) => {
            let dump = live::dump(pid, &options).map_err(explain)?;
            output.add(dump, None);
        }
        (None, Some(core)) => {
            let dump = core::dump(core, &options).map_err(explain)?;
            output.add(dump, None);
        }
        // The parser asks for one of them.
        (None, None) => bail!("pass --pid or --core"),
    }
    output.write()?;
    Ok(ExitCode::SUCCESS)
}

/// A process and those that came from it.
fn family(pid: u32, options: &DumpOptions, output: &mut Output) -> anyhow::Result<()> {
    let children = children::descendants(pid);
    let mut pythons = 0;
    let mut first_error = None;
    for (pid, parent) in std::iter::once((pid, None)).chain(
        children
            .into_iter()
            .map(|(child, parent)| (child, Some(parent))),
    ) {
        let command = |pid| proc_file::command_line(pid).unwrap_or_default();
        let parent = parent.map(|pid| Parent {
            pid,
            command: command(pid),
        });
        match live::dump(pid, options) {
            Ok(dump) => {
                pythons += 1;
                output.add(dump, parent);
            }
            // One that has ended since is none of them.
            Err(DumpError::NoProcess { .. }) if parent.is_some() => {}
            Err(error) => {
                let why = match error.is_not_python() {
                    true => "[no Python]".to_owned(),
                    false => format!("[{error}]"),
                };
                output.add_nothing(pid, &command(pid), parent.as_ref(), &why);
                // Of several reasons, the one that somebody can do something about.
                if first_error.is_none() || error.is_permission() {
                    first_error = Some(error);
                }
            }
        }
    }
    match first_error {
        Some(error) if pythons == 0 && error.is_not_python() => {
            bail!("neither process {pid} nor one that came from it is a Python")
        }
        Some(error) if pythons == 0 => Err(explain(error)),
        // What is shown is not all.
        Some(error) if error.is_permission() => {
            say::message(&format!("pyscry: {}", explain(error)));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Adds what helps to an error.
fn explain(error: DumpError) -> anyhow::Error {
    if !error.is_permission() {
        return error.into();
    }
    if privilege::is_root() {
        anyhow::anyhow!(
            "{error}\nRoot without CAP_SYS_PTRACE may not look at other processes. In a container:\n  \
             docker run --cap-add SYS_PTRACE …"
        )
    } else {
        anyhow::anyhow!("{error}. Run:\n  {}", privilege::with_sudo())
    }
}

/// What is written when all is read.
struct Output {
    json: bool,
    dumps: Vec<(ProcessDump, Option<Parent>)>,
    texts: Vec<String>,
}

impl Output {
    fn new(json: bool) -> Self {
        Self {
            json,
            dumps: Vec::new(),
            texts: Vec::new(),
        }
    }

    fn add(&mut self, dump: ProcessDump, parent: Option<Parent>) {
        if self.json {
            self.dumps.push((dump, parent));
        } else {
            self.texts.push(text::process(&dump, parent.as_ref()));
        }
    }

    fn add_nothing(&mut self, pid: u32, command: &str, parent: Option<&Parent>, why: &str) {
        self.texts.push(text::nothing(pid, command, parent, why));
    }

    fn write(&self) -> anyhow::Result<()> {
        let written = if self.json {
            let text = json::processes(&self.dumps)?;
            writeln!(io::stdout(), "{text}")
        } else {
            // Without escape sequences where nobody understands them, or wants them (NO_COLOR).
            let separator = text::separator(usize::from(columns()));
            let text = self.texts.join(&separator);
            let mut stdout = anstream::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
        };
        match written {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Columns of the terminal.
fn columns() -> u16 {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the kernel writes a size into ours.
    let asked = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match (asked, size.ws_col) {
        (0, columns) if columns > 0 => columns,
        _ => COLUMNS,
    }
}
