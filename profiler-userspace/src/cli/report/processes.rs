//! The processes of a recording of many: whose time it is.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::percent;
use crate::output::text::one_line;
use crate::process::container::ContainerId;
use crate::python::Version;

/// Processes at most that are listed one by one.
const PROCESSES: usize = 10;
/// Characters of a command line that are shown.
const COMMAND: usize = 60;
/// Characters of a control group that are shown.
const CGROUP: usize = 28;

/// What is said of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessLine {
    /// The host's number of it.
    pub pid: u32,
    /// Its number in its container, where that is another one.
    pub inner_pid: Option<u32>,
    /// Its container.
    pub container: Option<ContainerId>,
    /// Its control group.
    pub cgroup: String,
    /// Its user's name.
    pub user: String,
    /// Its Python, if it has one.
    pub python: Option<Version>,
    /// Its samples, or its nanoseconds.
    pub weight: u64,
    /// Whether it ran when the recording ended.
    pub running: bool,
    /// Its command line, or the kernel's name of it.
    pub command: String,
}

/// What the columns are called.
const HEADINGS: [&str; COLUMNS] = [
    "share",
    "pid",
    "inner pid",
    "container",
    "control group",
    "user",
    "Python",
    "state",
    "command",
];
const COLUMNS: usize = 9;
/// Columns of numbers, which end below each other.
const NUMBERS: usize = 3;

/// The lines: one for each process, those with most first, and one for the rest.
#[must_use]
pub fn lines(processes: &[ProcessLine]) -> String {
    let whole: u64 = processes.iter().map(|process| process.weight).sum();
    let mut sorted: Vec<&ProcessLine> = processes.iter().collect();
    sorted.sort_by_key(|process| (Reverse(process.weight), process.pid));
    let (shown, rest) = sorted.split_at(sorted.len().min(PROCESSES));
    let rows: Vec<_> = shown.iter().map(|process| row(process, whole)).collect();
    let mut text = format!("Processes: {}.\n", processes.len());
    if !rows.is_empty() {
        text.push_str(&table(&rows));
    }
    if !rest.is_empty() {
        let weight = rest.iter().map(|process| process.weight).sum();
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "  and {} more with {}",
            rest.len(),
            percent(weight, whole)
        );
    }
    text
}

fn row(process: &ProcessLine, whole: u64) -> [String; COLUMNS] {
    fn or_none<T: ToString>(value: Option<&T>) -> String {
        value.map_or_else(String::new, ToString::to_string)
    }
    [
        percent(process.weight, whole),
        match process.pid {
            // Several that ended, and are kept together.
            0 => String::new(),
            pid => pid.to_string(),
        },
        or_none(process.inner_pid.as_ref()),
        or_none(process.container.as_ref()),
        short_group(&process.cgroup),
        process.user.clone(),
        or_none(process.python.as_ref()),
        if process.running { "running" } else { "ended" }.to_owned(),
        shortened(&process.command),
    ]
}

/// The end of a control group's path, which tells most; nothing for the one that all are in.
fn short_group(path: &str) -> String {
    let path = one_line(path);
    let length = path.chars().count();
    match path.as_str() {
        "/" => String::new(),
        _ if length <= CGROUP => path,
        _ => {
            let end: String = path.chars().skip(length - CGROUP).collect();
            format!("…{end}")
        }
    }
}

/// A command line that leaves the others room.
fn shortened(command: &str) -> String {
    let command = one_line(command);
    match command.char_indices().nth(COMMAND) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command,
    }
}

/// Rows below their headings. A column that says nothing is left out: most hosts have processes in
/// no container only.
fn table(rows: &[[String; COLUMNS]]) -> String {
    let mut text = String::new();
    let headings = HEADINGS.map(str::to_owned);
    let longest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<(usize, usize)> = (0..COLUMNS)
        .filter_map(|column| Some((column, longest(column).filter(|width| *width > 0)?)))
        .map(|(column, width)| (column, width.max(HEADINGS[column].len())))
        .collect();
    for row in std::iter::once(&headings).chain(rows) {
        let cell = |(column, width): &(usize, usize)| match *column < NUMBERS {
            true => format!("  {:>width$}", row[*column]),
            false => format!("  {:<width$}", row[*column]),
        };
        text.push_str(widths.iter().map(cell).collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, weight: u64) -> ProcessLine {
        ProcessLine {
            pid,
            inner_pid: None,
            container: None,
            cgroup: "/".to_owned(),
            user: "root".to_owned(),
            python: None,
            weight,
            running: true,
            command: format!("python3 {pid}.py"),
        }
    }

    #[test]
    fn most_first_and_no_column_that_says_nothing() {
        let text = lines(&[process(7, 1), process(1234, 3)]);
        let expected = "\
Processes: 2.
   share   pid  user  state    command
  75.0 %  1234  root  running  python3 1234.py
  25.0 %     7  root  running  python3 7.py
";
        assert_eq!(text, expected);
    }

    #[test]
    fn all_that_is_known() {
        let contained = ProcessLine {
            inner_pid: Some(1),
            container: Some(ContainerId::Digits("3b1d2e4a5c6f70819".to_owned())),
            cgroup: format!("/docker/3b1d2e4a5c6f{}", "7".repeat(20)),
            running: false,
            command: format!("a\nb {}", "x".repeat(100)),
            ..process(99, 5)
        };
        let text = lines(&[contained, process(100, 0)]);
        let expected = format!(
            "\
Processes: 2.
    share  pid  inner pid  container     control group                  user  state    command
  100.0 %   99          1  3b1d2e4a5c6f  …2e4a5c6f{}  root  ended    a b {}…
    0.0 %  100                                                          root  running  python3 100.py
",
            "7".repeat(20),
            "x".repeat(COMMAND - 4)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_rest_is_one_line() {
        let many: Vec<_> = (1..=20).map(|pid| process(pid, 5)).collect();
        let text = lines(&many);
        assert_eq!(text.lines().count(), 1 + 1 + PROCESSES + 1, "{text}");
        assert!(text.ends_with("  and 10 more with 50.0 %\n"), "{text}");
        assert_eq!(lines(&[]), "Processes: 0.\n");
    }
}
