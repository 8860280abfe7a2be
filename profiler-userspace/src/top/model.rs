//! What is shown, and what each key does to that. No screen, no clock, no file.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::label::{Label, Style, label};
use super::reading::Reading;
use super::rows::{self, Choice, Column, Counted, Row, RowId, Scope};
use super::store::{Store, Time};
use crate::record::frame::FrameText;

/// Which table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// Functions, or lines.
    #[default]
    Functions,
    /// Threads.
    Threads,
    /// Processes.
    Processes,
    /// One function, who calls it and what it calls.
    Around(FrameText),
}

/// What is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// A flame graph.
    Flamegraph,
    /// Folded stacks.
    Folded,
}

/// What somebody else has to do because of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// End.
    Quit,
    /// Stop, until the shell says to go on.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Write a file.
    Save(Save),
    /// Look at the recording as often as this.
    Delay(Duration),
}

/// What is chosen before anything is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What is looked at, `'python app.py'`.
    pub subject: String,
    /// Whether it can be more than one process.
    pub many: bool,
    /// Which time counts at the beginning.
    pub counted: Counted,
    /// Whether waits are followed.
    pub has_waits: bool,
    /// Only what threads do with the interpreter's lock.
    pub only_gil: bool,
    /// Whole paths of files.
    pub full_paths: bool,
    /// Between two pictures.
    pub delay: Duration,
}

/// The shortest time between two pictures.
pub const LEAST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(60);

/// What is gone back to.
#[derive(Clone, Debug)]
struct Place {
    table: Table,
    scope: Scope,
    filter: String,
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Model {
    /// What was chosen.
    pub setup: Setup,
    /// What is known of the recording.
    pub store: Store,
    /// What of its time is shown.
    pub choice: Choice,
    /// Which table.
    pub table: Table,
    /// What it is sorted by.
    pub sort: Column,
    /// Lines are told apart.
    pub lines: bool,
    /// Rows are shown whose label has this.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// The picture stays as it is.
    pub paused: bool,
    /// The help is shown.
    pub help: bool,
    /// Something to say, until the next key.
    pub message: Option<String>,
    /// The first row on the screen.
    pub first: usize,
    /// The row that keys are about.
    pub cursor: Option<usize>,
    /// Of [`Table::Around`]: the function's own and total time.
    pub around: (Time, Time),
    rows: Vec<Row>,
    /// Rows that fit on the screen.
    page: usize,
    at: Option<RowId>,
    /// Where Escape goes back to.
    before: Vec<Place>,
    /// What came while paused.
    held: Vec<Reading>,
}

impl Model {
    /// What is shown at the beginning.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let choice = Choice {
            counted: setup.counted,
            only_gil: setup.only_gil,
            scope: Scope::All,
        };
        Self {
            setup,
            store: Store::default(),
            choice,
            table: Table::default(),
            sort: Column::default(),
            lines: false,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            message: None,
            first: 0,
            cursor: None,
            around: (Time::default(), Time::default()),
            rows: Vec::new(),
            page: 1,
            at: None,
            before: Vec::new(),
            held: Vec::new(),
        }
    }

    /// How functions are written.
    #[must_use]
    pub fn style(&self) -> Style {
        Style {
            full_paths: self.setup.full_paths,
            lines: self.lines,
        }
    }

    /// The rows of the table, those that the filter leaves out not among them.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows that are on the screen.
    #[must_use]
    pub fn visible(&self) -> &[Row] {
        let end = self.rows.len().min(self.first + self.page);
        self.rows.get(self.first..end).unwrap_or_default()
    }

    /// What is followed, to a person.
    #[must_use]
    pub fn followed(&self) -> Option<Label> {
        match &self.table {
            Table::Around(function) => Some(label(function, self.style())),
            _ => None,
        }
    }

    /// The screen has room for so many rows.
    pub fn set_page(&mut self, rows: usize) {
        self.page = rows.max(1);
        self.keep_in_sight();
    }

    /// Something came of the recording.
    pub fn take(&mut self, reading: Reading) {
        if self.paused {
            self.held.push(reading);
            if self.held.len() > 1 {
                join(&mut self.held);
            }
            return;
        }
        self.store.take(reading);
        self.look();
    }

    /// Whether the recording is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let held = self.held.iter().any(|reading| reading.over.is_some());
        self.store.over.is_some() || held
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent) -> Effect {
        if key.kind == KeyEventKind::Release {
            return Effect::None;
        }
        self.message = None;
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Escape and a key, one right behind the other, are the same to a terminal. Nobody else
            // has to do anything because of Escape.
            self.plain(KeyCode::Esc);
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Effect::Quit,
                KeyCode::Char('z') => Effect::Suspend,
                KeyCode::Char('l') => Effect::Redraw,
                _ => Effect::None,
            };
        }
        self.plain(key.code)
    }

    fn plain(&mut self, code: KeyCode) -> Effect {
        if self.typing {
            self.type_filter(code);
            return Effect::None;
        }
        let effect = self.command(code);
        self.look();
        effect
    }

    fn command(&mut self, code: KeyCode) -> Effect {
        match code {
            KeyCode::Char('q' | 'Q') => return Effect::Quit,
            KeyCode::Char('s') => return Effect::Save(Save::Flamegraph),
            KeyCode::Char('S') => return Effect::Save(Save::Folded),
            KeyCode::Char('+' | '=') => return self.change_delay(|delay| delay * 2),
            KeyCode::Char('-') => return self.change_delay(|delay| delay / 2),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('x' | 'X') => self.help = false,
            KeyCode::Char('1') => self.sort_by(Column::OwnShare),
            KeyCode::Char('2') => self.sort_by(Column::TotalShare),
            KeyCode::Char('3') => self.sort_by(Column::OwnTime),
            KeyCode::Char('4') => self.sort_by(Column::TotalTime),
            KeyCode::Char('l' | 'L') => self.toggle_lines(),
            KeyCode::Char('r' | 'R') => self.store.reset(),
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('w') => self.count_others(),
            KeyCode::Char('g') => self.choice.only_gil = !self.choice.only_gil,
            KeyCode::Char('t') => self.toggle(Table::Threads),
            KeyCode::Char('P') => self.toggle(Table::Processes),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Enter | KeyCode::Char('f') => self.enter(),
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(self.page as isize)),
            KeyCode::PageDown => self.step(self.page as isize),
            KeyCode::Home => self.go_to(0),
            KeyCode::End => self.go_to(self.rows.len().saturating_sub(1)),
            _ => {}
        }
        Effect::None
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.look();
    }

    fn change_delay(&mut self, change: fn(Duration) -> Duration) -> Effect {
        let delay = change(self.setup.delay).clamp(LEAST_DELAY, MOST_DELAY);
        self.setup.delay = delay;
        self.message = Some(format!("A picture every {} s.", delay.as_secs_f64()));
        Effect::Delay(delay)
    }

    fn sort_by(&mut self, column: Column) {
        self.sort = column;
        self.first = 0;
    }

    fn toggle_lines(&mut self) {
        self.lines = !self.lines;
        if let Table::Around(function) = &self.table
            && !self.lines
        {
            self.table = Table::Around(rows::function_of(function, false));
        }
        self.forget_place();
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if !self.paused {
            for reading in std::mem::take(&mut self.held) {
                self.store.take(reading);
            }
        }
    }

    fn count_others(&mut self) {
        if !self.setup.has_waits {
            self.message = Some("Waits are not followed: start with --idle.".to_owned());
            return;
        }
        self.choice.counted = match self.choice.counted {
            Counted::OnCpu => Counted::Waiting,
            Counted::Waiting => Counted::Both,
            Counted::Both => Counted::OnCpu,
        };
        self.forget_place();
    }

    fn toggle(&mut self, table: Table) {
        self.forget_place();
        self.choice.scope = Scope::All;
        self.before.clear();
        self.table = match self.table == table {
            true => Table::Functions,
            false => table,
        };
    }

    /// Goes on to what the cursor is at.
    fn enter(&mut self) {
        let Some(row) = self.rows.get(self.cursor.unwrap_or(0)) else {
            return;
        };
        let (table, scope) = match row.id.clone() {
            RowId::Function(function) | RowId::Caller(function) | RowId::Callee(function) => {
                (Table::Around(function), self.choice.scope)
            }
            RowId::Thread(thread) => (Table::Functions, Scope::Thread(thread)),
            RowId::Process(process) => (Table::Functions, Scope::Process(process)),
        };
        self.before.push(Place {
            table: std::mem::replace(&mut self.table, table),
            scope: std::mem::replace(&mut self.choice.scope, scope),
            // It was for what led here.
            filter: std::mem::take(&mut self.filter),
        });
        self.forget_place();
    }

    fn back(&mut self) {
        if self.help {
            self.help = false;
        } else if !self.filter.is_empty() {
            self.filter.clear();
        } else if let Some(place) = self.before.pop() {
            self.table = place.table;
            self.choice.scope = place.scope;
            self.filter = place.filter;
            self.forget_place();
        } else if self.table != Table::Functions {
            self.table = Table::Functions;
            self.forget_place();
        } else {
            self.cursor = None;
            self.at = None;
        }
    }

    fn step(&mut self, by: isize) {
        let Some(last) = self.rows.len().checked_sub(1) else {
            return;
        };
        let at = match self.cursor {
            Some(at) => at.saturating_add_signed(by).min(last),
            // The first step shows where it is.
            None if by == 1 => self.first.min(last),
            None => self.first.saturating_add_signed(by).min(last),
        };
        self.go_to(at);
    }

    fn go_to(&mut self, at: usize) {
        if let Some(row) = self.rows.get(at) {
            self.cursor = Some(at);
            self.at = Some(row.id.clone());
        }
    }

    fn forget_place(&mut self) {
        self.first = 0;
        self.cursor = None;
        self.at = None;
    }

    /// Makes the table anew.
    fn look(&mut self) {
        let (store, choice, style) = (&self.store, &self.choice, self.style());
        self.rows = match &self.table {
            Table::Functions => self.sorted(rows::functions(store, choice, style)),
            Table::Threads => self.sorted(rows::threads(store, choice)),
            Table::Processes => self.sorted(rows::processes(store, choice)),
            Table::Around(function) => {
                let around = rows::around(store, choice, style, function);
                self.around = (around.own, around.total);
                let mut rows = self.sorted(around.callers);
                rows.extend(self.sorted(around.callees));
                rows
            }
        };
        if let Some(id) = &self.at {
            // The cursor stays with what it is at, wherever that goes.
            let found = self.rows.iter().position(|row| row.id == *id);
            let last = self.rows.len().checked_sub(1);
            self.cursor = found.or_else(|| Some(self.cursor?.min(last?)));
        }
        self.keep_in_sight();
    }

    fn sorted(&self, rows: Vec<Row>) -> Vec<Row> {
        let wanted = self.filter.to_lowercase();
        let fits = |row: &Row| row.label.text().to_lowercase().contains(&wanted);
        let mut rows: Vec<Row> = rows.into_iter().filter(fits).collect();
        // Of callers and callees, own time says nothing.
        let by = match (&self.table, self.sort) {
            (Table::Around(_), Column::OwnShare) => Column::TotalShare,
            (Table::Around(_), Column::OwnTime) => Column::TotalTime,
            (_, sort) => sort,
        };
        rows::sort(&mut rows, by);
        rows
    }

    fn keep_in_sight(&mut self) {
        let last = self.rows.len().saturating_sub(self.page);
        self.first = self.first.min(last);
        if let Some(at) = self.cursor {
            let highest = (at + 1).saturating_sub(self.page);
            self.first = self.first.clamp(highest.min(at), at);
        }
    }
}

/// Makes one of all but the last: a pause of hours keeps as much as one of a second.
fn join(held: &mut Vec<Reading>) {
    let Some(last) = held.pop() else { return };
    let mut all = Reading::default();
    for reading in held.drain(..) {
        all.interval += reading.interval;
        all.frames.extend(reading.frames);
        all.stacks.extend(reading.stacks);
        all.threads.extend(reading.threads);
        all.processes.extend(reading.processes);
        all.counts = reading.counts;
        all.over = all.over.or(reading.over);
        all.changes.extend(reading.changes);
        all.on_cpu.extend(reading.on_cpu);
    }
    add_up(&mut all.changes);
    add_up(&mut all.on_cpu);
    held.extend([all, last]);
}

fn add_up<K: Eq + Hash>(values: &mut Vec<(K, u64)>) {
    let mut sums: HashMap<K, u64> = HashMap::new();
    for (key, value) in values.drain(..) {
        *sums.entry(key).or_default() += value;
    }
    values.extend(sums);
}

#[cfg(test)]
mod tests;
