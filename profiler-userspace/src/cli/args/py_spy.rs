//! py-spy's options beside ours: the table in the documentation, made from the parser.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};

use super::Args;

/// An option of py-spy 0.4.3 (`src/config.rs`).
struct PySpyOption {
    subcommands: &'static [&'static str],
    short: Option<char>,
    long: &'static str,
    value: bool,
    /// What differs in ours; empty where nothing does.
    note: &'static str,
}

const fn option(
    subcommands: &'static [&'static str],
    short: Option<char>,
    long: &'static str,
    value: bool,
    note: &'static str,
) -> PySpyOption {
    PySpyOption {
        subcommands,
        short,
        long,
        value,
        note,
    }
}

const RECORD: &[&str] = &["record"];
const TOP: &[&str] = &["top"];
const DUMP: &[&str] = &["dump"];
const BOTH: &[&str] = &["record", "top"];
const ALL: &[&str] = &["record", "top", "dump"];

const OPTIONS: [PySpyOption; 21] = [
    option(
        ALL,
        Some('p'),
        "pid",
        true,
        "`record` and `top` take several, with commas or repeated",
    ),
    option(
        ALL,
        Some('s'),
        "subprocesses",
        false,
        "found by events of the kernel, however short they live",
    ),
    option(
        ALL,
        Some('n'),
        "native",
        false,
        "`record` and `top` do not stop the process; with the kernel's frames; `--native=all` shows \
         the interpreter's own",
    ),
    option(
        ALL,
        None,
        "nonblocking",
        false,
        "accepted: nothing is ever stopped, but for `dump --blocking`",
    ),
    option(ALL, None, "full-filenames", false, ""),
    option(
        BOTH,
        Some('r'),
        "rate",
        true,
        "99 where nothing is said, 10,000 at most; samples of CPU time, so that shares are those of \
         the kernel's own accounting",
    ),
    option(BOTH, Some('g'), "gil", false, "on every version"),
    option(
        BOTH,
        Some('i'),
        "idle",
        false,
        "waits are measured, with their causes, and counted in samples of the rate; `--wall` has \
         them in microseconds",
    ),
    option(
        RECORD,
        Some('o'),
        "output",
        true,
        "its end says the format where `--format` does not; repeated for several formats",
    ),
    option(
        RECORD,
        Some('f'),
        "format",
        true,
        "also `pprof`, `gecko` and `pyscry`; several at once; names of JSON files end with \
         `.speedscope.json` and `.chrometrace.json`",
    ),
    option(
        RECORD,
        Some('d'),
        "duration",
        true,
        "of the clock on the wall; parts of seconds, too",
    ),
    option(RECORD, Some('F'), "function", false, ""),
    option(RECORD, None, "nolineno", false, ""),
    option(RECORD, Some('t'), "threads", false, ""),
    option(
        RECORD,
        None,
        "capture",
        false,
        "what a launched program prints is shown when it fails",
    ),
    option(RECORD, None, "hideprogress", false, ""),
    option(TOP, None, "delay", true, ""),
    option(DUMP, Some('c'), "core", true, ""),
    option(DUMP, Some('l'), "locals", false, ""),
    option(
        DUMP,
        Some('j'),
        "json",
        false,
        "with our `state` of each thread; of subprocesses, too",
    ),
    option(&[], Some('V'), "version", false, "says pyscry's"),
];

fn find<'a>(command: &'a Command, long: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    help.replace('\n', " ").replace('|', "\\|")
}

/// The table.
fn table() -> String {
    let ours = Args::command();
    let mut text = String::from(
        "<!-- Made from the parser by a test of `cli::args::py_spy`; PYSCRY_WRITE_DOCS=1 makes it \
         anew. -->\n\n# py-spy's options and ours\n\n\
         Every option of py-spy 0.4.3, with the same letters and meanings. Where ours does more or \
         otherwise, the last column says so.\n\n\
         | py-spy | of | pyscry | what it does | what differs |\n|---|---|---|---|---|\n",
    );
    for option in &OPTIONS {
        let short = option
            .short
            .map_or_else(String::new, |short| format!("-{short}, "));
        let value = if option.value { " …" } else { "" };
        let name = format!("`{short}--{}{value}`", option.long);
        let first = option.subcommands.first();
        let command = first
            .and_then(|name| ours.find_subcommand(name))
            .unwrap_or(&ours);
        let what = find(command, option.long).map_or_else(String::new, help);
        let what = match option.long {
            "version" => "Print version".to_owned(),
            _ => what,
        };
        let of = match option.subcommands {
            [] => "all".to_owned(),
            names => names.join(", "),
        };
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "| {name} | {of} | {name} | {what} | {} |",
            option.note
        );
    }
    for (name, what) in [
        ("record", "also without its word: `pyscry -p 1234`"),
        ("top", ""),
        ("dump", "needs no BPF"),
        ("completions", ""),
    ] {
        let about = ours
            .find_subcommand(name)
            .and_then(Command::get_about)
            .map_or_else(|| "Print help".to_owned(), ToString::to_string);
        let short = name.get(..1).unwrap_or(name);
        let _infallible = writeln!(
            text,
            "| `{name}`, `{short}` | | `{name}`, `{short}` | {about} | {what} |"
        );
    }
    text.push_str("| `-- PROGRAM …` | record, top | `-- PROGRAM …` | Launch a program | its exit code is ours |\n");
    text
}

#[test]
fn every_option_of_py_spy_is_ours() {
    let mut ours = Args::command();
    ours.build();
    for option in &OPTIONS {
        for name in option.subcommands {
            let command = ours.find_subcommand(name).expect(name);
            let arg = find(command, option.long);
            let arg = arg.unwrap_or_else(|| panic!("{name} --{}", option.long));
            assert_eq!(arg.get_short(), option.short, "{name} --{}", option.long);
            // One that can have a value can be without.
            let values = arg.get_num_args().expect("built");
            let takes = arg.get_action().takes_values() && values.min_values() > 0;
            assert_eq!(takes, option.value, "{name} --{}", option.long);
        }
    }
    for name in ["record", "top", "dump", "completions"] {
        let mut words = vec!["pyscry".to_owned()];
        let short = name.chars().take(1);
        words.extend([short.collect::<String>(), "--help".to_owned()]);
        let error = <Args as clap::Parser>::try_parse_from(&words).expect_err("help");
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::DisplayHelp,
            "{words:?}"
        );
    }
}

#[test]
fn the_table_in_the_documentation_is_that_of_the_parser() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../docs/py-spy-options.md"]
        .iter()
        .collect();
    if std::env::var_os("PYSCRY_WRITE_DOCS").is_some() {
        std::fs::write(&path, table()).expect("written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/py-spy-options.md");
    assert_eq!(
        written,
        table(),
        "PYSCRY_WRITE_DOCS=1 cargo test makes it anew"
    );
}
