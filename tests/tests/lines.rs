//! [`LineTable`] against every interpreter's own answer, for every instruction of its standard
//! library.

use std::env;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use profiler_common::lines::LineTable;

/// Writes the stream that is read here.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/dump_lines.py");
/// The file of interpreters, one a line: `VERSION<TAB>EXE<TAB>ROOT`, `-` for no chroot.
const PYTHONS: &str = "PYSCRY_PYTHONS";
/// Fewer code objects than any standard library has.
const CODES_MIN: u32 = 5000;
/// Interpreters that run at once.
const WORKERS: usize = 2;
/// Differences of one interpreter that are described, and bytes of the table shown with each.
const DESCRIBED: usize = 5;
const TABLE_SHOWN: usize = 64;

struct Python {
    version: String,
    exe: String,
    root: Option<String>,
}

impl Python {
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<_> = line.split('\t').collect();
        let [version, exe, root] = fields[..] else {
            bail!("not VERSION, EXE and ROOT: {line:?}");
        };
        Ok(Self {
            version: version.to_owned(),
            exe: exe.to_owned(),
            root: (root != "-").then(|| root.to_owned()),
        })
    }

    fn command(&self) -> Command {
        match &self.root {
            None => Command::new(&self.exe),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.args([root, &self.exe]);
                command
            }
        }
    }

    /// Whether `version` is some 3.`minor`.
    fn is_minor(&self, minor: u8) -> bool {
        let rest = self.version.strip_prefix(&format!("3.{minor}"));
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

fn pythons() -> Result<Vec<Python>> {
    let Some(path) = env::var_os(PYTHONS) else {
        bail!("{PYTHONS} is not set: run `cargo xtask test`");
    };
    let text =
        fs::read_to_string(&path).with_context(|| format!("{PYTHONS}={}", path.display()))?;
    let pythons: Vec<_> = text.lines().map(Python::parse).collect::<Result<_>>()?;
    ensure!(!pythons.is_empty(), "{PYTHONS} lists no interpreter");
    Ok(pythons)
}

/// What was compared for one interpreter.
#[derive(Default)]
struct Outcome {
    codes: u32,
    instructions: u64,
    differences: u64,
    /// The first differences.
    described: Vec<String>,
}

impl Outcome {
    fn compare(&mut self, format: LineTable, code: &Code) {
        self.compare_line(format, code, -1, code.first_line);
        for (index, expected) in code.lines.iter().enumerate() {
            self.compare_line(format, code, 2 * index as i32, *expected);
        }
        self.codes += 1;
        self.instructions += code.lines.len() as u64;
    }

    fn compare_line(&mut self, format: LineTable, code: &Code, lasti: i32, expected: i32) {
        let line = format.line_at(&code.table, code.first_line, lasti);
        if line == u32::try_from(expected).ok() {
            return;
        }
        self.differences += 1;
        if self.described.len() < DESCRIBED {
            self.described.push(format!(
                "instruction {lasti} is at line {expected}, not {line:?}: first line {}, table {:x?}",
                code.first_line,
                code.table.get(..TABLE_SHOWN).unwrap_or(&code.table)
            ));
        }
    }
}

/// One code object of the stream.
struct Code {
    first_line: i32,
    table: Vec<u8>,
    /// Of each instruction; -1 is no line.
    lines: Vec<i32>,
}

impl Code {
    /// `None` at the end of the stream.
    fn read(input: &mut impl Read) -> Result<Option<Self>> {
        let size = read_u32(input)?;
        if size == 0 {
            return Ok(None);
        }
        let first_line = read_u32(input)? as i32;
        let mut table = vec![0; read_u32(input)? as usize];
        input.read_exact(&mut table)?;
        let mut raw = vec![0; size as usize / 2 * 4];
        input.read_exact(&mut raw)?;
        let (chunks, _) = raw.as_chunks();
        let lines = chunks
            .iter()
            .map(|chunk| i32::from_le_bytes(*chunk))
            .collect();
        Ok(Some(Self {
            first_line,
            table,
            lines,
        }))
    }
}

fn read_u32(input: &mut impl Read) -> Result<u32> {
    let mut raw = [0; 4];
    input.read_exact(&mut raw)?;
    Ok(u32::from_le_bytes(raw))
}

fn compare_stream(python: &Python, input: &mut impl Read) -> Result<Outcome> {
    let mut header = [0; 7];
    input.read_exact(&mut header)?;
    let [b'L', b'I', b'N', b'E', b'S', 3, minor] = header else {
        bail!("its output begins with {header:x?}");
    };
    ensure!(python.is_minor(minor), "it is 3.{minor}");
    let format = LineTable::of_minor(minor).context("its line tables are not known")?;
    let mut outcome = Outcome::default();
    while let Some(code) = Code::read(input)? {
        outcome.compare(format, &code);
    }
    let written = read_u32(input)?;
    ensure!(
        written == outcome.codes,
        "wrote {written} code objects, {} were read",
        outcome.codes
    );
    ensure!(
        outcome.codes >= CODES_MIN,
        "only {} code objects",
        outcome.codes
    );
    Ok(outcome)
}

fn compare_python(python: &Python) -> Result<Outcome> {
    // Isolated, without site: nothing but the standard library.
    let mut child = python
        .command()
        .args(["-I", "-S", "-W", "ignore", "-"])
        .stdin(File::open(PROGRAM).context(PROGRAM)?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot be started")?;
    let stdout = child.stdout.take().context("no output")?;
    let compared = compare_stream(python, &mut BufReader::new(stdout)).context("its line tables");
    let status = child.wait()?;
    let outcome = compared?;
    ensure!(status.success(), "{PROGRAM} ended with {status}");
    Ok(outcome)
}

#[test]
fn every_instruction_of_every_standard_library() -> Result<()> {
    let queue = Mutex::new(pythons()?.into_iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let Some(python) = queue.lock().unwrap().next() else {
                        break;
                    };
                    let version = &python.version;
                    match compare_python(&python) {
                        Ok(outcome) => {
                            let Outcome {
                                codes,
                                instructions,
                                differences,
                                described,
                            } = outcome;
                            println!(
                                "lines {version}: {codes} code objects, {instructions} \
                                 instructions, {differences} differences"
                            );
                            let mut failures = failures.lock().unwrap();
                            failures.extend(described.iter().map(|d| format!("{version}: {d}")));
                        }
                        Err(error) => {
                            failures
                                .lock()
                                .unwrap()
                                .push(format!("{version}: {error:#}"));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner()?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}
