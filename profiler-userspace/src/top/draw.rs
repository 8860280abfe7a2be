//! Puts what is shown on a screen of any size.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};

use super::help;
use super::label::{Label, fit};
use super::model::{Model, Table};
use super::rows::{Column, Counted, Row, RowId, Scope};
use super::store::Time;

/// Spaces before the last column.
const GAP: usize = 3;

/// The parts of a screen, in lines.
struct Parts {
    /// What is looked at, and how it does.
    head: u16,
    titles: u16,
    rows: u16,
    /// Keys, or something to say.
    foot: u16,
}

impl Parts {
    /// What there is room for: rows above all.
    fn of(height: u16) -> Self {
        let head = match height {
            0..=5 => 0,
            6..=8 => 1,
            _ => 4,
        };
        let titles = u16::from(height >= 2);
        let foot = u16::from(height >= 3);
        Self {
            head,
            titles,
            rows: height - head - titles - foot,
            foot,
        }
    }
}

/// How many rows fit on a screen of that height.
#[must_use]
pub fn page(_model: &Model, height: u16) -> usize {
    usize::from(Parts::of(height).rows)
}

/// Draws.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let parts = Parts::of(area.height);
    let columns = usize::from(area.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    if model.help {
        lines.push(Line::from("Keys").bold());
        let room = usize::from(area.height.saturating_sub(1 + parts.foot));
        lines.extend(help::KEYS.iter().take(room).map(|(keys, text)| {
            let keys = Span::from(format!("{keys:>9}  ")).bold();
            Line::from(vec![keys, Span::from(*text)])
        }));
    } else {
        let head = match parts.head {
            1 => vec![load(model, columns)],
            0 => Vec::new(),
            _ => vec![
                Line::from(subject(model, columns)),
                Line::from(fit(&counts(model), columns)),
                load(model, columns),
                Line::from(fit(&shown(model), columns)),
            ],
        };
        lines.extend(head);
        let wide = Wide::of(columns, model.sort);
        if parts.titles != 0 {
            lines.push(titles(model, &wide, columns));
        }
        for (at, row) in model.visible().iter().enumerate() {
            let is_at = model.cursor == Some(model.first + at);
            lines.push(row_line(model, row, &wide, columns, is_at));
        }
    }
    let last = area.height.saturating_sub(parts.foot);
    for (y, line) in (area.y..area.y + last).zip(lines) {
        frame.render_widget(line, Rect::new(area.x, y, area.width, 1));
    }
    if parts.foot != 0 {
        let y = area.y + area.height - 1;
        frame.render_widget(foot(model, columns), Rect::new(area.x, y, area.width, 1));
    }
}

/// What is looked at, as py-spy says it.
fn subject(model: &Model, columns: usize) -> String {
    let only = model.store.only_process().filter(|_| !model.setup.many);
    let (what, version) = match only {
        Some(process) => (
            &process.command,
            match &process.version {
                Some(version) => format!("' (python v{version})"),
                None => "'".to_owned(),
            },
        ),
        None => {
            let text = format!("Collecting samples from {}", model.setup.subject);
            return fit(&text, columns);
        }
    };
    const BEFORE: &str = "Collecting samples from '";
    let what = crate::output::text::one_line(what);
    let room = columns.saturating_sub(BEFORE.len() + version.len());
    if room < 8 {
        return fit(&format!("{BEFORE}{what}"), columns);
    }
    format!("{BEFORE}{}{version}", fit(&what, room))
}

fn counts(model: &Model) -> String {
    let counts = &model.store.counts;
    let mut text = format!("Total Samples {}", counts.samples);
    if let Some(waits) = counts.waits {
        text.push_str(&format!(", Waits {waits}"));
    }
    if counts.lost != 0 {
        text.push_str(&format!(", Lost {}", counts.lost));
    }
    text
}

/// As much as fits, the most important first.
fn load(model: &Model, columns: usize) -> Line<'static> {
    let load = model.store.load();
    let counts = &model.store.counts;
    let mut parts = vec![
        format!("GIL: {:.2}%", load.gil * 100.0),
        format!("Active: {:.2}%", load.active * 100.0),
        format!("Threads: {}", counts.threads),
    ];
    if model.setup.many {
        parts.push(format!("Processes {}", counts.processes));
    }
    if model.setup.has_waits {
        parts.push(format!("Waiting for GIL: {:.2}%", load.gil_wanted * 100.0));
    }
    let mut text = String::new();
    for part in parts {
        let comma = if text.is_empty() { "" } else { ", " };
        if text.len() + comma.len() + part.len() > columns && !text.is_empty() {
            break;
        }
        text.push_str(comma);
        text.push_str(&part);
    }
    Line::from(fit(&text, columns))
}

/// Which time the table is of.
fn shown(model: &Model) -> String {
    let choice = &model.choice;
    let mut parts = Vec::new();
    if model.paused {
        parts.push("PAUSED".to_owned());
    }
    if let Some(label) = model.followed() {
        let (own, total) = model.around;
        parts.push(format!(
            "{}: {} own, {} in all",
            label.text(),
            seconds(own.all),
            seconds(total.all)
        ));
    }
    let threads = matches!(model.table, Table::Threads | Table::Processes);
    parts.push(
        match choice.counted {
            _ if threads => "All time",
            Counted::OnCpu => "Time on the CPUs",
            Counted::Waiting => "Time waiting",
            Counted::Both => "All time",
        }
        .to_owned(),
    );
    if choice.only_gil {
        parts.push("with the GIL".to_owned());
    }
    match choice.scope {
        Scope::All => {}
        Scope::Thread(thread) => {
            parts.push(format!("of thread {}", model.store.thread_name(thread)));
        }
        Scope::Process(process) => {
            parts.push(format!("of process {}", model.store.process_name(process)));
        }
    }
    if !model.filter.is_empty() {
        parts.push(format!("only '{}'", model.filter));
    }
    parts.join(", ")
}

/// The columns that there is room for.
struct Wide(Vec<Column>);

impl Wide {
    fn of(columns: usize, sort: Column) -> Self {
        Self(match (columns, sort) {
            (0..30, sort) => vec![sort],
            (30..50, Column::OwnShare | Column::TotalShare) => {
                vec![Column::OwnShare, Column::TotalShare]
            }
            (30..50, Column::OwnTime) => vec![Column::OwnShare, Column::OwnTime],
            (30..50, Column::TotalTime) => vec![Column::TotalShare, Column::TotalTime],
            _ => Column::ALL.to_vec(),
        })
    }

    fn width(&self) -> usize {
        let columns = self.0.iter().map(|column| column.width());
        columns.sum::<usize>() + self.0.len() - 1 + GAP
    }
}

impl Column {
    fn width(self) -> usize {
        match self {
            Self::OwnShare | Self::TotalShare => 7,
            Self::OwnTime => 8,
            Self::TotalTime => 9,
        }
    }

    fn title(self, of_threads: bool) -> &'static str {
        // Where py-spy has them, to the column.
        match (self, of_threads) {
            (Self::OwnShare, false) => "  %Own ",
            (Self::TotalShare, false) => " %Total",
            (Self::OwnTime, false) => " OwnTime",
            (Self::TotalTime, false) => " TotalTime",
            (Self::OwnShare, true) => "  %CPU ",
            (Self::TotalShare, true) => "  %Wait",
            (Self::OwnTime, true) => " CPUTime",
            (Self::TotalTime, true) => "  WaitTime",
        }
    }
}

fn titles(model: &Model, wide: &Wide, columns: usize) -> Line<'static> {
    let of_threads = matches!(model.table, Table::Threads | Table::Processes);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let mut spans = Vec::new();
    for (at, column) in wide.0.iter().enumerate() {
        if at > 0 {
            spans.push(Span::styled(" ", reversed));
        }
        let style = match *column == model.sort {
            true => reversed.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            false => reversed,
        };
        spans.push(Span::styled(column.title(of_threads), style));
    }
    let what = match (&model.table, model.lines) {
        (Table::Threads, _) => "Thread",
        (Table::Processes, _) => "Process",
        (Table::Functions, false) => "Function (filename)",
        (Table::Functions, true) => "Function (filename:line)",
        (Table::Around(_), _) => "From and to",
    };
    // The bar goes on to the edge.
    let used: usize = spans.iter().map(Span::width).sum();
    let before = wide.width().saturating_sub(used);
    let room = columns.saturating_sub(used);
    let rest = fit(&format!("{:before$}{what}", ""), room);
    spans.push(Span::styled(format!("{rest:room$}"), reversed));
    Line::from(spans)
}

fn row_line(model: &Model, row: &Row, wide: &Wide, columns: usize, is_at: bool) -> Line<'static> {
    let mut text = String::new();
    for (at, column) in wide.0.iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        let is_around = matches!(row.id, RowId::Caller(_) | RowId::Callee(_));
        let own = matches!(column, Column::OwnShare | Column::OwnTime);
        let width = column.width();
        if is_around && own {
            text.push_str(&" ".repeat(width));
        } else {
            text.push_str(&format!("{:>width$}", value(model, row, *column)));
        }
    }
    text.push_str(&" ".repeat(GAP));
    let mut room = columns.saturating_sub(wide.width());
    let arrow = match row.id {
        RowId::Caller(_) => "from ",
        RowId::Callee(_) => "to   ",
        _ => "",
    };
    room = room.saturating_sub(arrow.len());
    text.push_str(arrow);
    let Label { name, place } = row.label.fit(room);
    let mut spans = vec![Span::from(text), Span::from(name).green()];
    if !place.is_empty() {
        spans.push(Span::from(format!(" {place}")).cyan());
    }
    let mut line = Line::from(spans);
    if is_at {
        line = line.patch_style(Style::new().add_modifier(Modifier::REVERSED));
    }
    line
}

fn value(model: &Model, row: &Row, column: Column) -> String {
    let (Time { last, all }, is_share) = match column {
        Column::OwnShare => (row.own, true),
        Column::TotalShare => (row.total, true),
        Column::OwnTime => (row.own, false),
        Column::TotalTime => (row.total, false),
    };
    match is_share {
        true => percent(model.store.share(last)),
        false => seconds(all),
    }
}

/// Seven columns at most, up to hundreds of threads.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 999.995 {
        format!("{percent:.2}%")
    } else {
        format!("{percent:.0}%")
    }
}

/// Eight columns at most, up to months.
fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if seconds < 9999.995 {
        format!("{seconds:.2}s")
    } else {
        format!("{seconds:.0}s")
    }
}

fn foot(model: &Model, columns: usize) -> Line<'static> {
    if model.typing {
        let text = format!("/{}", model.filter);
        return Line::from(vec![
            Span::from(fit(&text, columns)),
            Span::from("_").bold(),
        ]);
    }
    let text = match &model.message {
        Some(message) => message.clone(),
        None if model.help => "Press X to close this help.".to_owned(),
        None if model.is_over() => over(model),
        None if model.paused => "Paused: press p to go on, or ? for help.".to_owned(),
        None => "Press Control-C to quit, or ? for help.".to_owned(),
    };
    let line = Line::from(fit(&text, columns));
    match model.message.is_some() || model.is_over() {
        true => line.bold(),
        false => line,
    }
}

fn over(model: &Model) -> String {
    let only = model.store.only_process().filter(|_| !model.setup.many);
    match only {
        Some(process) => format!("process {} ended. Press q to quit.", process.pid),
        None => "All processes ended. Press q to quit.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
