//! Every number of the layouts against the debug information of real interpreters: the tables of
//! 3.8 to 3.12, and what 3.13 says of itself.

#![allow(clippy::expect_used, reason = "what a test looks for has to be there")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use gimli::{AttributeValue, EndianSlice, LittleEndian, UnitOffset};
use object::{Object, ObjectSection};
use profiler_common::layout::{EntryKind, FrameKind, GilLayout, NONE, WalkLayout, WitnessKind};
use profiler_common::lines::LineTable;
use pyscry::process::RemoteMemory;
use pyscry::python::layout::{CodeCount, GilPlace, PythonLayout};
use pyscry::python::objects::ObjectLayout;
use pyscry::python::variable_layout::{VariableLayout, VariableNames};
use pyscry::python::{debug_offsets, locate, tables};
use pyscry_tests::{Interpreter, Target, on_one};

type Slice<'data> = EndianSlice<'data, LittleEndian>;
type Unit<'data> = gimli::Unit<Slice<'data>>;
type Entry<'a, 'data> = gimli::DebuggingInformationEntry<'a, 'a, Slice<'data>>;

/// What is looked for.
const STRUCTURES: [&str; 25] = [
    "PyASCIIObject",
    "PyBytesObject",
    "PyCellObject",
    "PyCodeObject",
    "PyCompactUnicodeObject",
    "PyDictKeyEntry",
    "PyDictKeysObject",
    "PyDictObject",
    "PyDictUnicodeEntry",
    "PyDictValues",
    "PyFloatObject",
    "PyFrameObject",
    "PyHeapTypeObject",
    "PyInterpreterState",
    "PyListObject",
    "PyLongObject",
    "PyObject",
    "PyThreadState",
    "PyTupleObject",
    "PyTypeObject",
    "_PyCFrame",
    "CFrame",
    "_PyInterpreterFrame",
    "_PyRuntimeState",
    "_gil_runtime_state",
];

/// The structures of one interpreter.
struct Structures<'data> {
    dwarf: gimli::Dwarf<Slice<'data>>,
    units: Vec<Unit<'data>>,
    /// Unit and place of each definition.
    found: HashMap<String, (usize, UnitOffset)>,
    /// Values of `FRAME_OWNED_BY_*`.
    owners: BTreeMap<String, u64>,
}

/// One way through nested structures.
struct Step {
    offset: u64,
    unit: usize,
    place: UnitOffset,
}

impl<'data> Structures<'data> {
    fn read(file: &'data [u8]) -> Self {
        let elf =
            object::read::elf::ElfFile64::<object::LittleEndian>::parse(file).expect("an ELF file");
        let section = |id: gimli::SectionId| -> Result<Slice<'data>, gimli::Error> {
            let data = elf.section_by_name(id.name()).map_or(&[][..], |section| {
                let compressed = section.compressed_file_range().expect("a section");
                assert_eq!(
                    compressed.format,
                    object::CompressionFormat::None,
                    "{} is compressed, which this test does not read",
                    id.name()
                );
                section.data().expect("a section's bytes")
            });
            Ok(EndianSlice::new(data, LittleEndian))
        };
        let mut this = Self {
            dwarf: gimli::Dwarf::load(section).expect("debug information"),
            units: Vec::new(),
            found: HashMap::new(),
            owners: BTreeMap::new(),
        };
        let mut headers = this.dwarf.units();
        while let Some(header) = headers.next().expect("a unit") {
            let unit = this.dwarf.unit(header).expect("a unit");
            this.units.push(unit);
        }
        for unit in 0..this.units.len() {
            this.look_at(unit);
        }
        this
    }

    fn entry<T>(
        &self,
        unit: usize,
        place: UnitOffset,
        see: impl FnOnce(&Entry<'_, 'data>) -> T,
    ) -> T {
        see(&self.units[unit].entry(place).expect("an entry"))
    }

    fn name(&self, unit: usize, entry: &Entry<'_, 'data>) -> Option<&'data str> {
        let value = entry.attr_value(gimli::DW_AT_name).expect("a name")?;
        let text = self.dwarf.attr_string(&self.units[unit], value);
        std::str::from_utf8(text.expect("a name").slice()).ok()
    }

    /// Takes the definitions of one unit that no unit before it had.
    fn look_at(&mut self, unit: usize) {
        let mut found = Vec::new();
        let mut owners = Vec::new();
        let own = &self.units[unit];
        let mut tree = own.entries_tree(None).expect("entries");
        let mut children = tree.root().expect("a root").children();
        while let Some(node) = children.next().expect("an entry") {
            let entry = node.entry();
            let place = entry.offset();
            match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_typedef => {
                    let Some(name) = self
                        .name(unit, entry)
                        .filter(|name| STRUCTURES.contains(name))
                    else {
                        continue;
                    };
                    if self.found.contains_key(name) {
                        continue;
                    }
                    // Many units know the name only.
                    if let Some(definition) = self.structure(unit, place) {
                        found.push((name.to_owned(), definition));
                    }
                }
                gimli::DW_TAG_enumeration_type if self.owners.is_empty() => {
                    let mut values = node.children();
                    while let Some(value) = values.next().expect("an enumerator") {
                        let entry = value.entry();
                        let name = self.name(unit, entry).unwrap_or_default();
                        let Some(owner) = name.strip_prefix("FRAME_OWNED_BY_") else {
                            break;
                        };
                        let number = entry.attr(gimli::DW_AT_const_value).expect("a value");
                        let number = number.and_then(|value| value.udata_value());
                        owners.push((owner.to_owned(), number.expect("a number")));
                    }
                }
                _ => {}
            }
        }
        self.found.extend(found);
        self.owners.extend(owners);
    }

    /// The type of an entry: where it is.
    fn type_of(&self, unit: usize, entry: &Entry<'_, 'data>) -> Option<(usize, UnitOffset)> {
        match entry.attr_value(gimli::DW_AT_type).expect("a type")? {
            AttributeValue::UnitRef(place) => Some((unit, place)),
            // Where units were optimised together.
            AttributeValue::DebugInfoRef(place) => {
                let places = self
                    .units
                    .iter()
                    .map(|unit| place.to_unit_offset(&unit.header));
                places
                    .enumerate()
                    .find_map(|(unit, place)| Some((unit, place?)))
            }
            other => panic!("a type of the form {other:?}"),
        }
    }

    /// The definition behind a type's names; `None` where it is declared only, or no structure.
    fn structure(&self, unit: usize, place: UnitOffset) -> Option<(usize, UnitOffset)> {
        let next = self.entry(unit, place, |entry| match entry.tag() {
            gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                let declared = entry.attr_value(gimli::DW_AT_declaration);
                declared
                    .expect("an attribute")
                    .is_none()
                    .then_some((unit, place))
            }
            gimli::DW_TAG_typedef | gimli::DW_TAG_const_type | gimli::DW_TAG_volatile_type => {
                self.type_of(unit, entry)
            }
            _ => None,
        })?;
        if next == (unit, place) {
            Some(next)
        } else {
            self.structure(next.0, next.1)
        }
    }

    fn has(&self, structure: &str) -> bool {
        self.found.contains_key(structure)
    }

    fn definition(&self, structure: &str) -> (usize, UnitOffset) {
        let found = self.found.get(structure);
        *found.unwrap_or_else(|| panic!("no debug information of {structure}"))
    }

    fn size(&self, structure: &str) -> u64 {
        let (unit, place) = self.definition(structure);
        self.entry(unit, place, |entry| {
            let size = entry.attr(gimli::DW_AT_byte_size).expect("a size");
            size.and_then(|size| size.udata_value()).expect("a size")
        })
    }

    /// A member by its name, also of a member without one.
    fn member(&self, unit: usize, place: UnitOffset, name: &str) -> Option<Step> {
        let own = &self.units[unit];
        let mut tree = own.entries_tree(Some(place)).expect("entries");
        let mut children = tree.root().expect("a structure").children();
        while let Some(node) = children.next().expect("a member") {
            let entry = node.entry();
            if entry.tag() != gimli::DW_TAG_member {
                continue;
            }
            let offset = entry
                .attr(gimli::DW_AT_data_member_location)
                .expect("a place");
            // Members of unions have none.
            let offset = offset.map_or(0, |offset| offset.udata_value().expect("a constant"));
            let (unit, place) = self.type_of(unit, entry).expect("a member's type");
            match self.name(unit, entry) {
                Some(found) if found == name => {
                    return Some(Step {
                        offset,
                        unit,
                        place,
                    });
                }
                Some(_) => {}
                None => {
                    let (unit, place) = self.structure(unit, place)?;
                    if let Some(inner) = self.member(unit, place, name) {
                        return Some(Step {
                            offset: offset + inner.offset,
                            ..inner
                        });
                    }
                }
            }
        }
        None
    }

    /// The offset of a member, such as `PyThreadState.cframe`; `None` where there is none.
    fn find(&self, path: &str) -> Option<u64> {
        let mut parts = path.split('.');
        let (mut unit, mut place) = self.definition(parts.next()?);
        let mut offset = 0;
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            let step = self.member(unit, place, part)?;
            offset += step.offset;
            if parts.peek().is_some() {
                (unit, place) = self.structure(step.unit, step.place)?;
            }
        }
        Some(offset)
    }

    fn at(&self, path: &str) -> u64 {
        self.find(path)
            .unwrap_or_else(|| panic!("there is no {path}"))
    }

    fn near(&self, path: &str) -> u16 {
        u16::try_from(self.at(path)).expect("a near offset")
    }
}

/// The file that holds the interpreter: its library, or where it has none its executable.
fn module(python: &Interpreter) -> PathBuf {
    let program = "import sysconfig as s; v = s.get_config_var\n\
        print(v('LIBDIR') + '/' + v('INSTSONAME') if v('Py_ENABLE_SHARED') else '')";
    let output = python
        .command()
        .args(["-I", "-c", program])
        .output()
        .expect("Python runs");
    let library = String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned();
    if library.is_empty() {
        python.exe.clone()
    } else {
        PathBuf::from(library)
    }
}

/// Calls `test` with the structures of an interpreter that has debug information.
fn with_structures(python: &Interpreter, test: impl FnOnce(&Structures<'_>)) {
    let path = module(python);
    let file = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let structures = Structures::read(&file);
    assert!(
        !structures.found.is_empty(),
        "{} has no debug information: the test needs a Python 3.{} that was built with -g, as \
         pyenv does it",
        path.display(),
        python.minor()
    );
    test(&structures);
}

/// What was compared, and what differs.
#[derive(Default)]
struct Comparison {
    compared: usize,
    different: Vec<String>,
}

impl Comparison {
    fn equal<T: Into<u64>>(&mut self, name: &str, ours: T, theirs: T) {
        let (ours, theirs): (u64, u64) = (ours.into(), theirs.into());
        self.compared += 1;
        if ours != theirs {
            self.different
                .push(format!("{name} is {theirs:#x}, not {ours:#x}"));
        }
    }

    fn holds(&mut self, what: &str, holds: bool) {
        self.compared += 1;
        if !holds {
            self.different.push(format!("not so: {what}"));
        }
    }

    fn end(self, version: &str, least: usize) {
        assert!(
            self.compared >= least,
            "only {} numbers were compared",
            self.compared
        );
        assert!(
            self.different.is_empty(),
            "Python {version}:\n  {}",
            self.different.join("\n  ")
        );
    }
}

/// What the walk must have, from the structures of 3.`minor`.
fn walk_layout(minor: u8, s: &Structures<'_>) -> WalkLayout {
    let code = |member: &str| s.near(&format!("PyCodeObject.{member}"));
    let frame = |member: &str| match minor {
        ..=10 => s.near(&format!("PyFrameObject.{member}")),
        _ => s.near(&format!("_PyInterpreterFrame.{member}")),
    };
    WalkLayout {
        frame_kind: match minor {
            ..=10 => FrameKind::Object as u8,
            _ => FrameKind::Interpreter as u8,
        },
        witness_kind: match minor {
            ..=11 => WitnessKind::Content as u8,
            _ => WitnessKind::Version as u8,
        },
        lasti_unit: match minor {
            ..=9 => 1,
            10 => 2,
            _ => 0,
        },
        entry_owner: match minor {
            ..=11 => 0,
            _ => u8::try_from(s.owners["CSTACK"]).expect("an owner"),
        },
        tstate_frame: match minor {
            ..=10 => s.near("PyThreadState.frame"),
            11 | 12 => s.near("PyThreadState.cframe"),
            _ => s.near("PyThreadState.current_frame"),
        },
        cframe_frame: match minor {
            11 | 12 => s.near("_PyCFrame.current_frame"),
            _ => NONE,
        },
        tstate_thread_id: s.near("PyThreadState.thread_id"),
        frame_back: match minor {
            ..=10 => frame("f_back"),
            _ => frame("previous"),
        },
        frame_code: match minor {
            ..=12 => frame("f_code"),
            _ => frame("f_executable"),
        },
        frame_instr: match minor {
            ..=10 => frame("f_lasti"),
            11 | 12 => frame("prev_instr"),
            _ => frame("instr_ptr"),
        },
        frame_owner: match minor {
            ..=11 => NONE,
            _ => frame("owner"),
        },
        code_instrs: match minor {
            ..=10 => NONE,
            _ => code("co_code_adaptive"),
        },
        code_version: match minor {
            ..=11 => NONE,
            _ => code("co_version"),
        },
        code_first_line: code("co_firstlineno"),
        code_filename: code("co_filename"),
        code_name: code("co_name"),
        code_line_table: match minor {
            ..=9 => code("co_lnotab"),
            _ => code("co_linetable"),
        },
        tstate_interp: s.near("PyThreadState.interp"),
        tstate_cframe: match minor {
            10 | 11 => s.near("PyThreadState.cframe"),
            _ => NONE,
        },
        cframe_previous: match minor {
            10 => s.near("CFrame.previous"),
            11 => s.near("_PyCFrame.previous"),
            _ => NONE,
        },
        frame_is_entry: match minor {
            11 => frame("is_entry"),
            _ => NONE,
        },
        entry_kind: match minor {
            ..=9 => EntryKind::None as u8,
            10 => EntryKind::EveryFrame as u8,
            11 => EntryKind::Flag as u8,
            _ => EntryKind::EntryFrame as u8,
        },
        pad: 0,
    }
}

fn compare_walk(minor: u8, ours: &WalkLayout, s: &Structures<'_>, c: &mut Comparison) {
    let theirs = walk_layout(minor, s);
    // Every field is named, so that no new one is left out.
    macro_rules! compare {
        ($($field:ident),+ $(,)?) => {{
            let WalkLayout { $($field),+ } = *ours;
            $(c.equal(stringify!($field), $field, theirs.$field);)+
        }};
    }
    compare!(
        frame_kind,
        witness_kind,
        lasti_unit,
        entry_owner,
        tstate_frame,
        cframe_frame,
        tstate_thread_id,
        frame_back,
        frame_code,
        frame_instr,
        frame_owner,
        code_instrs,
        code_version,
        code_first_line,
        code_filename,
        code_name,
        code_line_table,
        tstate_interp,
        tstate_cframe,
        cframe_previous,
        frame_is_entry,
        entry_kind,
        pad,
    );
}

fn compare_gil(
    minor: u8,
    place: GilPlace,
    ours: GilLayout,
    s: &Structures<'_>,
    c: &mut Comparison,
) {
    let field = |name: &str| s.near(&format!("_gil_runtime_state.{name}"));
    match place {
        GilPlace::Runtime(offset) => {
            c.equal("ceval.gil", offset, s.at("_PyRuntimeState.ceval.gil"));
            c.holds("one lock for all interpreters", minor <= 11);
        }
        GilPlace::Interpreter(offset) => {
            c.equal("ceval.gil", offset, s.at("PyInterpreterState.ceval.gil"));
            c.holds("a lock for each interpreter", minor >= 12);
        }
    }
    let GilLayout {
        at,
        holder,
        locked,
        waits,
        end,
    } = ours;
    c.equal("place of the lock's fields", at, 0);
    c.equal("last_holder", holder, field("last_holder"));
    c.equal("locked", locked, field("locked"));
    c.equal("cond", waits, field("cond"));
    let size = s.size("_gil_runtime_state");
    c.equal("size of the lock", u64::from(end), size);
    // `profiler_common::gil` reads both in one block of 16 bytes.
    c.equal("locked behind last_holder", locked - holder, 8);
    // From `cond` on there is nothing but what threads wait at.
    let places = [
        field("cond"),
        field("mutex"),
        field("switch_cond"),
        field("switch_mutex"),
    ];
    c.holds("what is waited at is in order", places.is_sorted());
    let others = ["interval", "last_holder", "locked", "switch_number"].map(field);
    c.holds(
        "what is not waited at comes before it",
        others.iter().all(|other| *other < waits),
    );
}

fn compare_objects(ours: &ObjectLayout, s: &Structures<'_>, c: &mut Comparison) {
    let ObjectLayout {
        minor,
        ob_type,
        type_flags,
        str_length,
        str_state,
        str_ascii_size,
        str_compact_size,
        bytes_size,
        bytes_data,
        int_size,
        int_digits,
        dict_keys,
        dict_values,
        type_cached_keys,
    } = *ours;
    let (int_size_path, int_digits_path) = match minor {
        ..=11 => ("PyLongObject.ob_base.ob_size", "PyLongObject.ob_digit"),
        _ => (
            "PyLongObject.long_value.lv_tag",
            "PyLongObject.long_value.ob_digit",
        ),
    };
    for (ours, path) in [
        (ob_type, "PyObject.ob_type"),
        (type_flags, "PyTypeObject.tp_flags"),
        (str_length, "PyASCIIObject.length"),
        (str_state, "PyASCIIObject.state"),
        (bytes_size, "PyBytesObject.ob_base.ob_size"),
        (bytes_data, "PyBytesObject.ob_sval"),
        (int_size, int_size_path),
        (int_digits, int_digits_path),
        (dict_keys, "PyDictObject.ma_keys"),
        (dict_values, "PyDictObject.ma_values"),
        (type_cached_keys, "PyHeapTypeObject.ht_cached_keys"),
    ] {
        c.equal(path, ours, s.at(path));
    }
    c.equal(
        "size of PyASCIIObject",
        str_ascii_size,
        s.size("PyASCIIObject"),
    );
    let compact = s.size("PyCompactUnicodeObject");
    c.equal("size of PyCompactUnicodeObject", str_compact_size, compact);
}

fn compare_variables(minor: u8, ours: &PythonLayout, s: &Structures<'_>, c: &mut Comparison) {
    let VariableLayout {
        interp_id,
        frame_variables,
        code_arguments,
        code_keyword_arguments,
        code_flags,
        code_names,
        list_items,
        var_size,
        tuple_items,
        scalar_value,
        cell_value,
    } = VariableLayout::of(ours).expect("a version that is known");
    let frame = match minor {
        ..=10 => "PyFrameObject.f_localsplus",
        _ => "_PyInterpreterFrame.localsplus",
    };
    let names = match code_names {
        VariableNames::Tuples {
            locals,
            cells,
            free,
        } => vec![
            (locals, "PyCodeObject.co_varnames"),
            (cells, "PyCodeObject.co_cellvars"),
            (free, "PyCodeObject.co_freevars"),
        ],
        VariableNames::One { names, kinds } => vec![
            (names, "PyCodeObject.co_localsplusnames"),
            (kinds, "PyCodeObject.co_localspluskinds"),
        ],
    };
    let others = [
        (interp_id, "PyInterpreterState.id"),
        (frame_variables, frame),
        (code_arguments, "PyCodeObject.co_argcount"),
        (code_keyword_arguments, "PyCodeObject.co_kwonlyargcount"),
        (code_flags, "PyCodeObject.co_flags"),
        (list_items, "PyListObject.ob_item"),
        (var_size, "PyListObject.ob_base.ob_size"),
        (tuple_items, "PyTupleObject.ob_item"),
        (scalar_value, "PyFloatObject.ob_fval"),
        (cell_value, "PyCellObject.ob_ref"),
    ];
    for (ours, path) in names.into_iter().chain(others) {
        c.equal(path, ours, s.at(path));
    }
}

fn compare(minor: u8, ours: &PythonLayout, s: &Structures<'_>, c: &mut Comparison) {
    let PythonLayout {
        ref walk,
        runtime_interpreters,
        runtime_tss_key,
        interp_next,
        interp_threads,
        interp_modules,
        tstate_next,
        code_qualname,
        code_count,
        gil,
        gil_fields,
        ref objects,
        lines,
    } = *ours;
    compare_walk(minor, walk, s, c);
    compare_gil(minor, gil, gil_fields, s, c);
    compare_objects(objects, s, c);
    compare_variables(minor, ours, s, c);
    c.equal("minor of objects", objects.minor, minor);
    c.holds(
        "lines are of this version",
        Some(lines) == LineTable::of_minor(minor),
    );
    let key = match minor {
        ..=11 => "_PyRuntimeState.gilstate.autoTSSkey._key",
        _ => "_PyRuntimeState.autoTSSkey._key",
    };
    let threads = match minor {
        ..=10 => "PyInterpreterState.tstate_head",
        _ => "PyInterpreterState.threads.head",
    };
    let modules = match minor {
        ..=11 => "PyInterpreterState.modules",
        _ => "PyInterpreterState.imports.modules",
    };
    for (ours, path) in [
        (runtime_interpreters, "_PyRuntimeState.interpreters.head"),
        (runtime_tss_key.unwrap_or(u64::MAX), key),
        (interp_next, "PyInterpreterState.next"),
        (interp_threads, threads),
        (interp_modules, modules),
        (tstate_next, "PyThreadState.next"),
    ] {
        c.equal(path, ours, s.at(path));
    }
    match code_count {
        None => c.holds("a count of code objects", minor <= 11),
        Some(CodeCount::Symbol(_)) => c.equal("minor with a count by symbol", minor, 12),
        Some(CodeCount::Made(ours)) => {
            let path = "PyInterpreterState.func_state.next_version";
            c.equal(path, ours, s.at(path));
        }
        Some(CodeCount::Freed(ours)) => {
            let path = "PyInterpreterState._code_object_generation";
            c.equal(path, ours, s.at(path));
        }
    }
    match code_qualname {
        Some(ours) => c.equal("co_qualname", ours, s.at("PyCodeObject.co_qualname")),
        None => c.holds(
            "no co_qualname",
            s.find("PyCodeObject.co_qualname").is_none(),
        ),
    }
}

/// Numbers that code has as constants of its own, in all versions the same.
fn compare_constants(minor: u8, ours: &PythonLayout, s: &Structures<'_>, c: &mut Comparison) {
    // `profiler_common::walk::witness` and the readers of objects.
    c.equal("hash of str", 24, s.at("PyASCIIObject.hash"));
    c.equal("length of str", 16, s.at("PyASCIIObject.length"));
    c.equal("size of bytes", 16, s.at("PyBytesObject.ob_base.ob_size"));
    c.equal("hash of bytes", 24, s.at("PyBytesObject.ob_shash"));
    c.equal("text of bytes", 32, s.at("PyBytesObject.ob_sval"));
    // `python::inspect` and `python::objects`.
    c.equal("tp_name", 24, s.at("PyTypeObject.tp_name"));
    c.equal("tp_basicsize", 0x20, s.at("PyTypeObject.tp_basicsize"));
    c.equal("tp_dictoffset", 0x120, s.at("PyTypeObject.tp_dictoffset"));

    let size = if minor <= 10 {
        "dk_size"
    } else {
        "dk_log2_size"
    };
    c.equal(size, 8, s.at(&format!("PyDictKeysObject.{size}")));
    let (count, indices) = if minor <= 10 { (32, 40) } else { (24, 32) };
    c.equal("dk_nentries", count, s.at("PyDictKeysObject.dk_nentries"));
    c.equal("dk_indices", indices, s.at("PyDictKeysObject.dk_indices"));
    c.equal("me_key", 8, s.at("PyDictKeyEntry.me_key"));
    c.equal("me_value", 16, s.at("PyDictKeyEntry.me_value"));
    c.equal("size of an entry", 24, s.size("PyDictKeyEntry"));
    if minor >= 11 {
        c.equal(
            "dk_log2_index_bytes",
            9,
            s.at("PyDictKeysObject.dk_log2_index_bytes"),
        );
        c.equal("dk_kind", 10, s.at("PyDictKeysObject.dk_kind"));
        c.equal("me_key of str", 0, s.at("PyDictUnicodeEntry.me_key"));
        c.equal("me_value of str", 8, s.at("PyDictUnicodeEntry.me_value"));
        c.equal("size of an entry of str", 16, s.size("PyDictUnicodeEntry"));
        let values = if minor <= 12 { 0 } else { 8 };
        c.equal("values", values, s.at("PyDictValues.values"));
    }

    // The blocks that the walk reads hold what it takes from them, and end inside the object.
    let walk = &ours.walk;
    let mut block = |what: &str, from: u16, bytes: u16, size: u64, fields: &[(u16, u16)]| {
        let fields = fields.iter().filter(|(offset, _)| *offset != NONE);
        for (offset, width) in fields {
            let inside = *offset >= from && offset + width <= from + bytes;
            c.holds(&format!("{offset:#x} of {what} is read"), inside);
        }
        c.holds(
            &format!("{what} is as long as what is read"),
            size >= u64::from(from + bytes),
        );
    };
    let (from, bytes, frame) = match minor {
        ..=10 => (24, 88, "PyFrameObject"),
        _ => (0, 80, "_PyInterpreterFrame"),
    };
    let instr = if minor <= 10 { 4 } else { 8 };
    block(
        "a frame",
        from,
        bytes,
        s.size(frame),
        &[
            (walk.frame_back, 8),
            (walk.frame_code, 8),
            (walk.frame_instr, instr),
            (walk.frame_owner, 1),
            (walk.frame_is_entry, 1),
        ],
    );
    block(
        "a thread state",
        16,
        0xb8 - 16,
        s.size("PyThreadState"),
        &[
            (walk.tstate_interp, 8),
            (walk.tstate_frame, 8),
            (walk.tstate_thread_id, 8),
            (walk.tstate_cframe, 8),
        ],
    );
    let code = s.size("PyCodeObject");
    if walk.witness_kind == WitnessKind::Version as u8 {
        block("a code object", 8, 88, code, &[(walk.code_version, 4)]);
    } else {
        let fields = [
            (walk.code_first_line, 4),
            (walk.code_filename, 8),
            (walk.code_name, 8),
            (walk.code_line_table, 8),
        ];
        block("a code object", 8, 136, code, &fields);
    }
}

fn compare_kinds(minor: u8, s: &Structures<'_>, c: &mut Comparison) {
    // What a version has none of, it must really have none of.
    let interpreter_frames = s.has("_PyInterpreterFrame");
    c.holds("kind of frames", interpreter_frames == (minor >= 11));
    let numbered = s.find("PyCodeObject.co_version").is_some();
    c.holds("numbers of code objects", numbered == (minor >= 12));
    let cframe = s.find("PyThreadState.cframe").is_some();
    c.holds("a cframe", cframe == (10..=12).contains(&minor));
    let others: Vec<_> = s
        .owners
        .iter()
        .filter(|(name, _)| *name != "CSTACK")
        .collect();
    c.holds("owners are known", minor < 11 || others.len() == 3);
    c.holds(
        "no other owner is an entry frame's",
        others.iter().all(|(_, value)| **value < 3),
    );
    c.holds(
        "entry frames",
        s.owners.contains_key("CSTACK") == (minor >= 12),
    );
}

fn compare_table(minor: u8) {
    on_one(&format!("layout of 3.{minor}"), minor, |python| {
        with_structures(python, |structures| {
            let ours = tables::of_minor(minor).expect("a table");
            let mut comparison = Comparison::default();
            compare(minor, &ours, structures, &mut comparison);
            compare_constants(minor, &ours, structures, &mut comparison);
            compare_kinds(minor, structures, &mut comparison);
            comparison.end(&python.version, 60);
        });
    });
}

#[test]
fn the_table_of_3_8() {
    compare_table(8);
}

#[test]
fn the_table_of_3_9() {
    compare_table(9);
}

#[test]
fn the_table_of_3_10() {
    compare_table(10);
}

#[test]
fn the_table_of_3_11() {
    compare_table(11);
}

#[test]
fn the_table_of_3_12() {
    compare_table(12);
}

#[test]
fn there_are_tables_for_no_other_version() {
    for minor in (0..=u8::MAX).filter(|minor| !(8..=12).contains(minor)) {
        assert!(tables::of_minor(minor).is_none(), "3.{minor}");
    }
}

/// A process that waits to be looked at.
const WAIT: &str = "import time\nprint('ready')\ntime.sleep(600)\n";

#[test]
fn what_3_13_says_of_itself() {
    on_one("layout of 3.13", 13, |python| {
        let target = Target::start(python, "layouts.py", WAIT);
        let located = locate::locate(target.pid()).expect("a Python");
        let mem = RemoteMemory::new(target.pid());
        let ours = debug_offsets::layout(&mem, located.runtime).expect("a layout");
        with_structures(python, |structures| {
            let mut comparison = Comparison::default();
            compare(13, &ours, structures, &mut comparison);
            compare_constants(13, &ours, structures, &mut comparison);
            compare_kinds(13, structures, &mut comparison);
            comparison.end(&python.version, 60);
        });
    });
}

/// `f_lasti` as a frame holds it, and as the interpreter gives it: in bytes.
#[test]
fn units_of_instructions() {
    for minor in 8..=10 {
        let walk = tables::of_minor(minor).expect("a table").walk;
        let program = format!(
            "import ctypes\n\
             def generator():\n    a = 1\n    yield a\n\
             waits = generator()\nnext(waits)\nframe = waits.gi_frame\n\
             raw = ctypes.c_int.from_address(id(frame) + {}).value\n\
             assert raw > 0\nprint(frame.f_lasti // raw, frame.f_lasti % raw)",
            walk.frame_instr
        );
        on_one(&format!("units of 3.{minor}"), minor, |python| {
            let output = python.command().args(["-I", "-c", &program]).output();
            let said = String::from_utf8_lossy(&output.expect("Python runs").stdout).into_owned();
            assert_eq!(
                said.trim_end(),
                format!("{} 0", walk.lasti_unit),
                "3.{minor}"
            );
        });
    }
}
