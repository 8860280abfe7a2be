//! What is said to a person. Nobody may be listening any more (`pyscry doctor | head -1`): that is
//! no reason to fail, and in the middle of a recording it would lose it.

use std::io::Write;

/// A line of a result, on the standard output.
pub(super) fn result(line: &str) {
    let _nobody_listens = writeln!(std::io::stdout(), "{line}");
}

/// A message beside the result, on the standard error output.
pub(super) fn message(text: &str) {
    let _nobody_listens = writeln!(std::io::stderr(), "{}", text.trim_end());
}
