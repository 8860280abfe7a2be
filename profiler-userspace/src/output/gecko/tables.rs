//! The tables that all threads share, in columns, as the format has them.

use std::collections::HashMap;
use std::hash::Hash;

use profiler_common::cause::Cause;

use super::super::view::{FrameKind, View};
use super::{category, labels, one_line, subcategory};

/// `ResourceType` of a library.
const LIBRARY: u32 = 1;

/// The tables, and where things are in them.
pub(super) struct Tables {
    pub(super) shared: Shared,
    /// The row of each of the view's stacks, `None` of an empty one.
    pub(super) rows: Vec<Option<usize>>,
    /// The texts of the causes, by their numbers.
    causes: Vec<usize>,
}

/// `RawProfileSharedData`.
#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shared {
    stack_table: Stacks,
    frame_table: Frames,
    func_table: Functions,
    resource_table: Resources,
    native_symbols: NativeSymbols,
    sources: Sources,
    string_array: Vec<String>,
}

#[derive(Default, serde::Serialize)]
struct Stacks {
    frame: Vec<u32>,
    prefix: Vec<Option<usize>>,
    length: usize,
}

#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Frames {
    address: Vec<i32>,
    inline_depth: Vec<u32>,
    category: Vec<usize>,
    subcategory: Vec<usize>,
    func: Vec<usize>,
    native_symbol: Vec<Option<()>>,
    #[serde(rename = "innerWindowID")]
    inner_window_id: Vec<Option<()>>,
    line: Vec<Option<u32>>,
    column: Vec<Option<()>>,
    length: usize,
}

#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Functions {
    name: Vec<usize>,
    #[serde(rename = "isJS")]
    is_js: Vec<bool>,
    #[serde(rename = "relevantForJS")]
    relevant_for_js: Vec<bool>,
    resource: Vec<i64>,
    source: Vec<Option<usize>>,
    line_number: Vec<Option<()>>,
    column_number: Vec<Option<()>>,
    length: usize,
}

#[derive(Default, serde::Serialize)]
struct Resources {
    lib: Vec<Option<()>>,
    name: Vec<usize>,
    host: Vec<Option<()>>,
    r#type: Vec<u32>,
    length: usize,
}

/// None: symbols are functions here, and addresses are not written.
#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct NativeSymbols {
    lib_index: [(); 0],
    address: [(); 0],
    name: [(); 0],
    function_size: [(); 0],
    length: usize,
}

#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Sources {
    id: Vec<Option<()>>,
    filename: Vec<usize>,
    start_line: Vec<u32>,
    start_column: Vec<u32>,
    #[serde(rename = "sourceMapURL")]
    source_map_url: Vec<Option<()>>,
    length: usize,
}

/// Indices of what is in a table.
struct Ids<T>(HashMap<T, usize>);

impl<T: Eq + Hash> Ids<T> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// The index, and whether it is new.
    fn of(&mut self, row: T) -> (usize, bool) {
        let next = self.0.len();
        let index = *self.0.entry(row).or_insert(next);
        (index, index == next)
    }
}

impl Tables {
    pub(super) fn of(view: &View) -> Self {
        let mut shared = Shared::default();
        let mut strings = Ids::new();
        let mut string = |strings_of: &mut Vec<String>, text: &str| {
            let text = one_line(text);
            let (index, new) = strings.of(text.clone());
            if new {
                strings_of.push(text);
            }
            index
        };
        let causes = Cause::ALL.iter();
        let causes = causes
            .map(|cause| string(&mut shared.string_array, labels::cause(*cause)))
            .collect();

        let (mut functions, mut sources, mut resources) = (Ids::new(), Ids::new(), Ids::new());
        for frame in &view.frames {
            let name = string(&mut shared.string_array, &frame.name);
            let file = frame.file.as_deref();
            let file = file.map(|file| string(&mut shared.string_array, file));
            let (source, resource) = match (file, frame.kind) {
                (None, _) => (None, None),
                (Some(file), FrameKind::Native) => {
                    (None, Some(shared.resource(&mut resources, file)))
                }
                (Some(file), _) => (Some(shared.source(&mut sources, file)), None),
            };
            let (function, new) = functions.of((name, source, resource));
            if new {
                shared.func_table.push(name, source, resource);
            }
            let subcategory = match frame.kind {
                FrameKind::Waiting => subcategory(&frame.name),
                _ => 0,
            };
            shared
                .frame_table
                .push(function, category(frame.kind), subcategory, frame.line);
        }

        let mut stacks = Ids::new();
        let rows = view.stacks.iter().map(|stack| {
            stack.iter().fold(None, |caller, frame| {
                let (row, new) = stacks.of((caller, *frame));
                if new {
                    shared.stack_table.frame.push(*frame);
                    shared.stack_table.prefix.push(caller);
                    shared.stack_table.length += 1;
                }
                Some(row)
            })
        });
        let rows = rows.collect();
        Self {
            shared,
            rows,
            causes,
        }
    }

    /// The text of a cause.
    pub(super) fn cause(&self, cause: Cause) -> usize {
        self.causes.get(cause as usize).copied().unwrap_or(0)
    }
}

impl Shared {
    fn resource(&mut self, ids: &mut Ids<usize>, name: usize) -> usize {
        let (index, new) = ids.of(name);
        if new {
            let table = &mut self.resource_table;
            table.lib.push(None);
            table.name.push(name);
            table.host.push(None);
            table.r#type.push(LIBRARY);
            table.length += 1;
        }
        index
    }

    fn source(&mut self, ids: &mut Ids<usize>, filename: usize) -> usize {
        let (index, new) = ids.of(filename);
        if new {
            let table = &mut self.sources;
            table.id.push(None);
            table.filename.push(filename);
            table.start_line.push(1);
            table.start_column.push(1);
            table.source_map_url.push(None);
            table.length += 1;
        }
        index
    }
}

impl Frames {
    fn push(&mut self, func: usize, category: usize, subcategory: usize, line: Option<u32>) {
        self.address.push(-1);
        self.inline_depth.push(0);
        self.category.push(category);
        self.subcategory.push(subcategory);
        self.func.push(func);
        self.native_symbol.push(None);
        self.inner_window_id.push(None);
        self.line.push(line);
        self.column.push(None);
        self.length += 1;
    }
}

impl Functions {
    fn push(&mut self, name: usize, source: Option<usize>, resource: Option<usize>) {
        self.name.push(name);
        self.is_js.push(false);
        self.relevant_for_js.push(false);
        self.resource
            .push(resource.map_or(-1, |resource| resource as i64));
        self.source.push(source);
        self.line_number.push(None);
        self.column_number.push(None);
        self.length += 1;
    }
}
