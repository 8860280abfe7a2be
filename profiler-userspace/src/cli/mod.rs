//! The command line: what was typed ([`args`]), and what it does.

pub mod args;
mod choice;
mod default_path;
pub mod doctor;
pub mod dump;
mod outputs;
pub mod pages;
pub mod record;
pub mod report;
pub mod report_file;
mod say;
mod summary;
pub mod top;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

/// Exit code of an error that is not the program's or the usage's.
pub const FAILURE: u8 = 1;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.command {
        None => record::main(&args.record),
        Some(Command::Record(record)) => record::main(&record),
        Some(Command::Top(top)) => top::main(&top),
        Some(Command::Dump(dump)) => dump::main(&dump),
        Some(Command::Report(report)) => report_file::main(&report),
        Some(Command::Completions { shell }) => pages::completions(shell),
        Some(Command::Man { directory }) => pages::man(directory.as_deref()),
        Some(Command::Doctor(doctor)) => return doctor::main(&doctor),
        Some(Command::ExecWhenTold {
            wait,
            report,
            command,
        }) => {
            // SAFETY: the parent opened both for us alone (record::launch).
            let code = unsafe { crate::record::launch::exec_when_told(wait, report, &command) };
            return ExitCode::from(code as u8);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say::message(&format!("pyscry: {error}"));
            ExitCode::from(FAILURE)
        }
    }
}
