//! Tables of what is known.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::label::{Label, Style, label};
use super::reading::Cell;
use super::store::{Store, Time};
use crate::record::accounts::ThreadId;
use crate::record::frame::FrameText;
use crate::record::processes::ProcessId;

/// Which time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// On the CPUs.
    #[default]
    OnCpu,
    /// Off them.
    Waiting,
    /// All of it.
    Both,
}

/// Whose time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// That of all threads.
    #[default]
    All,
    /// That of one.
    Thread(ThreadId),
    /// That of one process.
    Process(ProcessId),
}

/// What of the time is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub counted: Counted,
    /// Whose.
    pub scope: Scope,
    /// Only that in which a thread held the interpreter's lock.
    pub only_gil: bool,
}

impl Choice {
    /// Whether the time of a cell is shown.
    #[must_use]
    pub fn shows(&self, cell: &Cell) -> bool {
        let counts = match self.counted {
            Counted::OnCpu => cell.waits.is_none(),
            Counted::Waiting => cell.waits.is_some(),
            Counted::Both => true,
        };
        counts && self.is_in_scope(cell) && (cell.holds_gil || !self.only_gil)
    }

    fn is_in_scope(&self, cell: &Cell) -> bool {
        match self.scope {
            Scope::All => true,
            Scope::Thread(thread) => cell.thread == thread,
            Scope::Process(process) => cell.thread.0 == process,
        }
    }
}

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowId {
    /// A function, or a line of one.
    Function(FrameText),
    /// One that calls the one that is followed.
    Caller(FrameText),
    /// One that it calls.
    Callee(FrameText),
    /// A thread.
    Thread(ThreadId),
    /// A process.
    Process(ProcessId),
}

/// A row. Of functions, `own` is the time in their own code and `total` that with what they call; of
/// threads and processes, `own` is the time on the CPUs and `total` that off them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What of.
    pub id: RowId,
    /// What it is called.
    pub label: Label,
    /// See there.
    pub own: Time,
    /// See there.
    pub total: Time,
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// Own time in the last interval.
    OwnShare,
    /// Total time in the last interval.
    TotalShare,
    /// Own time.
    #[default]
    OwnTime,
    /// Total time.
    TotalTime,
}

impl Column {
    /// All of them, from left to right.
    pub const ALL: [Self; 4] = [
        Self::OwnShare,
        Self::TotalShare,
        Self::OwnTime,
        Self::TotalTime,
    ];

    /// What a row has there, nanoseconds.
    #[must_use]
    pub fn of(self, row: &Row) -> u64 {
        match self {
            Self::OwnShare => row.own.last,
            Self::TotalShare => row.total.last,
            Self::OwnTime => row.own.all,
            Self::TotalTime => row.total.all,
        }
    }
}

/// Sorts rows, those with most first; those with as much by the other columns and by name.
pub fn sort(rows: &mut [Row], by: Column) {
    let order = |a: &Row, b: &Row| -> Ordering {
        let of = |column: Column| column.of(b).cmp(&column.of(a));
        of(by)
            .then_with(|| of(Column::OwnTime))
            .then_with(|| of(Column::TotalTime))
            .then_with(|| a.label.cmp(&b.label))
    };
    rows.sort_by(order);
}

impl Time {
    fn add(&mut self, other: &Self) {
        self.last += other.last;
        self.all += other.all;
    }
}

/// What of a frame tells functions apart: all but the line, or all.
#[must_use]
pub fn function_of(frame: &FrameText, lines: bool) -> FrameText {
    let mut function = frame.clone();
    if lines {
        return function;
    }
    match &mut function {
        FrameText::Python { line, .. } | FrameText::Native { line, .. } => *line = None,
        FrameText::Kernel { .. } | FrameText::Process(_) | FrameText::Marker(_) => {}
    }
    function
}

/// The functions that frames are of.
struct Functions {
    all: Vec<FrameText>,
    by_frame: Vec<u32>,
    style: Style,
}

impl Functions {
    fn new(frames: &[FrameText], style: Style) -> Self {
        let mut functions = Self {
            all: Vec::new(),
            by_frame: Vec::new(),
            style,
        };
        let mut known: HashMap<FrameText, u32> = HashMap::new();
        for frame in frames {
            let function = function_of(frame, style.lines);
            let id = *known.entry(function).or_insert_with_key(|function| {
                functions.all.push(function.clone());
                functions.all.len() as u32 - 1
            });
            functions.by_frame.push(id);
        }
        functions
    }

    /// The functions of a cell's stack, from the root to the leaf.
    fn stack<'a>(&'a self, store: &'a Store, cell: &Cell) -> impl Iterator<Item = u32> + 'a {
        let frames = store.stack(cell.stack).iter();
        frames.filter_map(|frame| self.by_frame.get(*frame as usize).copied())
    }

    fn row(
        &self,
        function: u32,
        id: fn(FrameText) -> RowId,
        own: Time,
        total: Time,
    ) -> Option<Row> {
        let function = self.all.get(function as usize)?;
        Some(Row {
            id: id(function.clone()),
            label: label(function, self.style),
            own,
            total,
        })
    }
}

/// Own and total time of functions.
#[must_use]
pub fn functions(store: &Store, choice: &Choice, style: Style) -> Vec<Row> {
    let functions = Functions::new(store.frames(), style);
    let mut times: HashMap<u32, (Time, Time)> = HashMap::new();
    let mut stack = Vec::new();
    for (cell, time) in store.cells().filter(|(cell, _)| choice.shows(cell)) {
        stack.clear();
        stack.extend(functions.stack(store, cell));
        if let Some(leaf) = stack.last() {
            times.entry(*leaf).or_default().0.add(time);
        }
        // One that calls itself counts once.
        stack.sort_unstable();
        stack.dedup();
        for function in &stack {
            times.entry(*function).or_default().1.add(time);
        }
    }
    let times = times.into_iter();
    times
        .filter_map(|(id, (own, total))| functions.row(id, RowId::Function, own, total))
        .collect()
}

/// One function, who calls it, and what it calls. Of one that calls itself, the outermost call has the
/// caller, the innermost the callee. `own` of a caller or callee is 0.
#[must_use]
pub fn around(store: &Store, choice: &Choice, style: Style, function: &FrameText) -> Around {
    let functions = Functions::new(store.frames(), style);
    let mut around = Around::default();
    let Some(wanted) = functions.all.iter().position(|other| other == function) else {
        return around;
    };
    let wanted = wanted as u32;
    let mut callers: HashMap<u32, Time> = HashMap::new();
    let mut callees: HashMap<u32, Time> = HashMap::new();
    for (cell, time) in store.cells().filter(|(cell, _)| choice.shows(cell)) {
        let stack: Vec<u32> = functions.stack(store, cell).collect();
        let Some(outermost) = stack.iter().position(|id| *id == wanted) else {
            continue;
        };
        around.total.add(time);
        if let Some(caller) = outermost.checked_sub(1).and_then(|at| stack.get(at)) {
            callers.entry(*caller).or_default().add(time);
        }
        let innermost = stack.iter().rposition(|id| *id == wanted);
        match innermost.and_then(|at| stack.get(at + 1)) {
            Some(callee) => callees.entry(*callee).or_default().add(time),
            None => around.own.add(time),
        }
    }
    let rows = |times: HashMap<u32, Time>, id: fn(FrameText) -> RowId| {
        let times = times.into_iter();
        let row = |(function, total)| functions.row(function, id, Time::default(), total);
        times.filter_map(row).collect()
    };
    around.callers = rows(callers, RowId::Caller);
    around.callees = rows(callees, RowId::Callee);
    around
}

/// See [`around`].
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Who calls it.
    pub callers: Vec<Row>,
    /// In its own code.
    pub own: Time,
    /// With what it calls.
    pub total: Time,
    /// What it calls.
    pub callees: Vec<Row>,
}

/// A thread or process is shown from so many nanoseconds on.
const LEAST_NS: u64 = 5_000_000;

/// The time of threads, on the CPUs and off them.
#[must_use]
pub fn threads(store: &Store, choice: &Choice) -> Vec<Row> {
    let many = store.only_process().is_none();
    by(store, choice, |thread| thread)
        .map(|(thread, (own, total))| Row {
            id: RowId::Thread(thread),
            label: Label {
                name: store.thread_name(thread),
                place: match many {
                    true => format!("({})", store.process_name(thread.0)),
                    false => String::new(),
                },
            },
            own,
            total,
        })
        .collect()
}

/// The time of processes, on the CPUs and off them.
#[must_use]
pub fn processes(store: &Store, choice: &Choice) -> Vec<Row> {
    by(store, choice, |(process, _)| process)
        .map(|(process, (own, total))| Row {
            id: RowId::Process(process),
            label: Label::name(store.process_name(process)),
            own,
            total,
        })
        .collect()
}

fn by<K: Eq + std::hash::Hash>(
    store: &Store,
    choice: &Choice,
    key: impl Fn(ThreadId) -> K,
) -> impl Iterator<Item = (K, (Time, Time))> {
    let all = Choice {
        counted: Counted::Both,
        ..*choice
    };
    let mut times: HashMap<K, (Time, Time)> = HashMap::new();
    for (cell, time) in store.cells().filter(|(cell, _)| all.shows(cell)) {
        let (on, off) = times.entry(key(cell.thread)).or_default();
        match cell.waits {
            None if choice.only_gil => on.add(time),
            None => {}
            Some(_) => off.add(time),
        }
    }
    if !choice.only_gil {
        for (thread, time) in store.on_cpu() {
            times.entry(key(*thread)).or_default().0.add(time);
        }
    }
    // Such as what a program was before it was executed: nothing but zeros would be seen of it.
    let is_seen = |(on, off): &(Time, Time)| on.all + off.all >= LEAST_NS;
    times.into_iter().filter(move |(_, times)| is_seen(times))
}
