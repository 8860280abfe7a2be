//! The binary `pyscry`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pyscry::cli::main()
}
