//! The command line: what was typed ([`args`]), and what it does.

pub mod args;
mod choice;
mod default_path;
pub mod doctor;
pub mod record;
pub mod report;
mod say;
mod summary;

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
