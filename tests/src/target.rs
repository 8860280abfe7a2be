//! A Python program that is profiled.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

use crate::Interpreter;

/// A running program; it is killed when this is dropped.
#[derive(Debug)]
pub struct Target {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Its file, as it sees it.
    pub file: PathBuf,
}

impl Target {
    /// Starts a program that prints `ready` once it does what it is made for.
    ///
    /// # Panics
    /// When it cannot be started or does not say so.
    #[must_use]
    pub fn start(interpreter: &Interpreter, name: &str, program: &str) -> Self {
        Self::start_with(interpreter, name, program, &[])
    }

    /// As [`Target::start`], with arguments.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn start_with(interpreter: &Interpreter, name: &str, program: &str, args: &[&str]) -> Self {
        let file = interpreter.place(name, program);
        let mut child = interpreter
            .command()
            .arg("-u")
            .arg(&file)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run Python {}: {error}", interpreter.version));
        let stdout = child.stdout.take().expect("its output");
        let mut target = Self {
            child,
            stdout: BufReader::new(stdout),
            file,
        };
        let line = target.line();
        assert_eq!(
            line, "ready",
            "Python {}: {name} did not get ready",
            interpreter.version
        );
        target
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to it.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        // In one piece: the target may end as soon as it has read the line.
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .expect("the target reads");
    }

    /// The next line that it prints.
    ///
    /// # Panics
    /// When its output cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("a line of the target");
        line.trim_end().to_owned()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
