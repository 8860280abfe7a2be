//! What the benchmark prints.

use std::fmt::Write;

use super::py_spy;

/// A line of the table.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    /// What is to be reached.
    pub(super) goal: String,
    /// What pyscry did.
    pub(super) pyscry: String,
    /// What py-spy did; empty where it has nothing of the kind.
    pub(super) py_spy: String,
    /// Whether pyscry reached it; nothing where nothing is to be reached.
    pub(super) met: Option<bool>,
    /// What has to be said beside the numbers.
    pub(super) note: String,
}

/// A table in Markdown, and the notes below it.
pub(super) fn print(rows: &[Row]) -> String {
    let version = py_spy::VERSION;
    let mut lines = vec![
        ["what", "to reach", "pyscry"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("py-spy {version}"), "met".to_owned()])
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let cells = [&row.what, &row.goal, &row.pyscry, &row.py_spy];
        lines.push(cells.into_iter().cloned().chain([met.to_owned()]).collect());
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _infallible = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _infallible = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text.push('\n');
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        let _infallible = writeln!(text, "- {}: {}", row.what, row.note);
    }
    text
}
