//! The rows of real libraries say what their call frame information says: on every row of every
//! function, what a rule gives is compared with what gimli's own evaluation of that information
//! gives, with registers and memory made up.

#![allow(clippy::expect_used, reason = "what a test reads has to be there")]

use std::fs;
use std::path::{Path, PathBuf};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, EvaluationResult, Expression,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindSection, UnwindTableRow,
    Value,
};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use profiler_common::unwind::{CfaKind, RaKind, RbpKind, Rule};
use pyscry::unwind::{Disk, Row, Rows, compile_image};
use pyscry_tests::{Interpreter, interpreters};

type Bytes<'data> = EndianSlice<'data, LittleEndian>;

const RBP: usize = 6;
const RSP: usize = 7;
const RIP: usize = 16;

/// Made-up states that each row is evaluated in.
const STATES: u64 = 3;

/// Rows of a library that may be without a rule, in a thousand.
const UNSUPPORTED: f64 = 1.0;

const SYSTEM: &str = "/usr/lib/x86_64-linux-gnu";

/// Registers and memory of a thread that never was.
struct State {
    seed: u64,
    registers: [u64; 17],
}

impl State {
    fn new(seed: u64, address: u64) -> Self {
        let mut registers = [0; 17];
        for (number, register) in registers.iter_mut().enumerate() {
            *register = scramble(seed ^ (number as u64) << 32);
        }
        // The loader keeps addresses as they are within a page.
        registers[RIP] = (registers[RIP] & !0xfff).wrapping_add(address);
        Self { seed, registers }
    }

    fn memory(&self, address: u64) -> u64 {
        scramble(self.seed.wrapping_add(address))
    }
}

/// The finalizer of splitmix64.
fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// What is known of the caller.
#[derive(Debug, PartialEq, Eq)]
enum Caller {
    /// There is none.
    Nobody,
    Frame {
        rsp: u64,
        /// `None` where it is lost.
        rbp: Option<u64>,
        rip: u64,
    },
}

/// What a rule says, `None` where it says nothing.
fn by_rule(rule: &Rule, state: &State) -> Option<Caller> {
    let offset = i64::from(rule.cfa_offset) as u64;
    let second = i64::from(rule.cfa_second) as u64;
    let base = state.registers[usize::from(rule.reg)].wrapping_add(offset);
    let index = state.registers[usize::from(rule.index)].wrapping_mul(8);
    assert_eq!(rule.pad, 0);
    if rule.cfa == CfaKind::None as u8 {
        return None;
    }
    if rule.ra == RaKind::End as u8 {
        return Some(Caller::Nobody);
    }
    if rule.cfa == CfaKind::Signal as u8 {
        let saved = state.registers[RSP].wrapping_add(offset);
        return Some(Caller::Frame {
            rsp: state.memory(saved.wrapping_add(120)),
            rbp: Some(state.memory(saved.wrapping_add(80))),
            rip: state.memory(saved.wrapping_add(128)),
        });
    }
    let cfa = match rule.cfa {
        kind if kind == CfaKind::Register as u8 => base,
        kind if kind == CfaKind::Deref as u8 => state.memory(base).wrapping_add(second),
        kind if kind == CfaKind::DerefIndexed as u8 => {
            state.memory(base.wrapping_add(index)).wrapping_add(second)
        }
        kind if kind == CfaKind::Plt as u8 => {
            let pushed = state.registers[RIP] & 15 >= second;
            let rsp = state.registers[RSP].wrapping_add(offset);
            rsp.wrapping_add(if pushed { 8 } else { 0 })
        }
        other => panic!("{other} is no kind of rule"),
    };
    let from = i64::from(rule.rbp_offset) as u64;
    let rbp = match rule.rbp {
        kind if kind == RbpKind::Same as u8 => Some(state.registers[RBP]),
        kind if kind == RbpKind::AtCfa as u8 => Some(state.memory(cfa.wrapping_add(from))),
        kind if kind == RbpKind::AtRbp as u8 => {
            Some(state.memory(state.registers[RBP].wrapping_add(from)))
        }
        kind if kind == RbpKind::Unknown as u8 => None,
        other => panic!("{other} is no kind of rule"),
    };
    let rip = state.memory(cfa.wrapping_add(i64::from(rule.ra_offset) as u64));
    Some(Caller::Frame { rsp: cfa, rbp, rip })
}

/// What call frame information says, as DWARF tells it. `None` where gimli cannot tell.
fn by_row(
    row: &UnwindTableRow<usize>,
    section: &EhFrame<Bytes<'_>>,
    state: &State,
) -> Option<Caller> {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => state
            .registers
            .get(usize::from(register.0))?
            .wrapping_add(*offset as u64),
        CfaRule::Expression(expression) => {
            evaluate(expression.get(section).expect("an expression"), None, state)?
        }
    };
    let register = |number: usize| -> Option<u64> {
        let of = |expression: gimli::UnwindExpression<usize>| {
            evaluate(
                expression.get(section).expect("an expression"),
                Some(cfa),
                state,
            )
        };
        match row.register(Register(number as u16)) {
            RegisterRule::Undefined | RegisterRule::SameValue => Some(state.registers[number]),
            RegisterRule::Offset(offset) => Some(state.memory(cfa.wrapping_add(offset as u64))),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add(offset as u64)),
            RegisterRule::Register(other) => state.registers.get(usize::from(other.0)).copied(),
            RegisterRule::Expression(expression) => of(expression).map(|at| state.memory(at)),
            RegisterRule::ValExpression(expression) => of(expression),
            _ => None,
        }
    };
    if row.register(Register(RIP as u16)) == RegisterRule::Undefined {
        return Some(Caller::Nobody);
    }
    let rsp = match row.register(Register(RSP as u16)) {
        RegisterRule::Undefined => cfa,
        _ => register(RSP)?,
    };
    Some(Caller::Frame {
        rsp,
        rbp: register(RBP),
        rip: register(RIP)?,
    })
}

fn evaluate(expression: Expression<Bytes<'_>>, first: Option<u64>, state: &State) -> Option<u64> {
    let encoding = gimli::Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 5,
    };
    let mut evaluation = expression.evaluation(encoding);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = *state.registers.get(usize::from(register.0))?;
                evaluation
                    .resume_with_register(Value::Generic(value))
                    .ok()?
            }
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let value = state.memory(address);
                let value = match size {
                    8 => value,
                    size => value & ((1 << (8 * u32::from(size))) - 1),
                };
                evaluation.resume_with_memory(Value::Generic(value)).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.result().first()?.location {
        Location::Address { address } => Some(address),
        _ => None,
    }
}

/// The rule that the rows have for an address.
fn rule_at(rows: &Rows, address: u64) -> Rule {
    let behind = rows.rows.partition_point(|row| row.address <= address);
    match behind.checked_sub(1) {
        Some(at) => rows.rows[at].rule,
        None => Rule::NONE,
    }
}

/// What a comparison saw.
#[derive(Default)]
struct Seen {
    rows: usize,
    functions: usize,
    /// Rows without a rule.
    none: usize,
    /// Rows whose `rbp` is lost, though the information says where it is.
    lost: usize,
}

/// Compares a file's rows with its call frame information.
fn compare(name: &str, data: &[u8]) -> Rows {
    let rows = compile_image(data).expect("rows");
    well_formed(&rows);
    let file = object::File::parse(data).expect("an ELF file");
    let section = file.section_by_name(".eh_frame").expect(".eh_frame");
    let mut bases = BaseAddresses::default().set_eh_frame(section.address());
    if let Some(text) = file.section_by_name(".text") {
        bases = bases.set_text(text.address());
    }
    let frames = EhFrame::new(section.data().expect("its bytes"), LittleEndian);

    let mut context = UnwindContext::new();
    let mut covered = Vec::new();
    let mut seen = Seen::default();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().expect("an entry") {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let entry = partial.parse(EhFrame::cie_from_offset).expect("an entry");
        if entry.len() == 0 {
            continue;
        }
        covered.push((entry.initial_address(), entry.end_address()));
        seen.functions += 1;
        let mut table = entry.rows(&frames, &bases, &mut context).expect("rows");
        while let Some(row) = table.next_row().expect("a row") {
            if row.start_address() < row.end_address() {
                seen.rows += 1;
                compare_row(name, row, &frames, &rows, &mut seen);
            }
        }
    }
    covered.sort_unstable();
    let gaps = compare_gaps(name, &file, data, &covered, &rows);
    println!(
        "{name}: {} rows of {} functions, {} without a rule, {} without rbp; {gaps} gaps",
        seen.rows, seen.functions, seen.none, seen.lost
    );
    assert!(seen.functions > 0, "{name} has functions");
    assert!(
        seen.none as f64 * 1000.0 <= UNSUPPORTED * seen.rows as f64,
        "{name}: {} of {} rows have no rule",
        seen.none,
        seen.rows
    );
    rows
}

fn compare_row(
    name: &str,
    row: &UnwindTableRow<usize>,
    frames: &EhFrame<Bytes<'_>>,
    rows: &Rows,
    seen: &mut Seen,
) {
    let last = row.end_address() - 1;
    let middle = row.start_address().midpoint(last);
    // An expression may go by where in an entry of 16 bytes it is.
    let each = match row.cfa() {
        CfaRule::Expression(_) => row.start_address()..last.min(row.start_address() + 16),
        CfaRule::RegisterAndOffset { .. } => 0..0,
    };
    let mut lost = false;
    for address in each.chain([row.start_address(), middle, last]) {
        let rule = rule_at(rows, address);
        if rule == Rule::NONE {
            seen.none += usize::from(address == last);
            continue;
        }
        for seed in 0..STATES {
            let state = State::new(scramble(seed ^ address), address);
            let mut ours = by_rule(&rule, &state);
            let theirs = by_row(row, frames, &state);
            if let (
                Some(Caller::Frame {
                    rbp: ours @ None, ..
                }),
                Some(Caller::Frame { rbp: theirs, .. }),
            ) = (&mut ours, &theirs)
            {
                *ours = *theirs;
                lost = theirs.is_some();
            }
            assert!(ours.is_some());
            assert_eq!(ours, theirs, "{name} {address:#x}: {rule:?}, {row:?}");
        }
    }
    seen.lost += usize::from(lost);
}

/// Rows that are in order, of rules that are not those of their neighbours.
fn well_formed(rows: &Rows) {
    assert_eq!(rows.stats.rows, rows.rows.len());
    for pair in rows.rows.windows(2) {
        assert!(pair[0].address < pair[1].address, "{pair:?}");
        assert_ne!(pair[0].rule, pair[1].rule, "{pair:?}");
    }
    assert_eq!(rows.rows.last().map(|row| row.rule), Some(Rule::NONE));
}

/// Where no function is there is no rule, but in procedure linkage tables, where the file begins,
/// where signal handlers return to, and in functions that only symbols tell of. Returns how many
/// gaps there are.
fn compare_gaps(
    name: &str,
    file: &object::File<'_>,
    data: &[u8],
    covered: &[(u64, u64)],
    rows: &Rows,
) -> usize {
    let plts: Vec<_> = [".plt", ".plt.got", ".plt.sec", ".iplt"]
        .iter()
        .filter_map(|name| file.section_by_name(name))
        .map(|section| section.address()..section.address() + section.size())
        .collect();
    let entry = file.entry()..file.entry() + 64;
    let trampolines: Vec<_> = trampolines(file, data).collect();
    let symbols: Vec<_> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .map(|symbol| symbol.address()..symbol.address() + symbol.size())
        .collect();
    let may_have_rule = |address: u64| {
        entry.contains(&address)
            || symbols.iter().any(|symbol| symbol.contains(&address))
            || plts.iter().any(|plt| plt.contains(&address))
            || trampolines
                .iter()
                .any(|at| (at - 1..at + 9).contains(&address))
    };
    let mut gaps = 0;
    let mut cursor = 0;
    for &(start, end) in covered {
        assert!(cursor <= start, "{name}: functions overlap at {start:#x}");
        if cursor < start {
            gaps += 1;
            // A row that begins within a gap is not on its edges.
            let from = rows.rows.partition_point(|row| row.address < cursor);
            let within = rows.rows[from..]
                .iter()
                .map(|row| row.address)
                .take_while(|address| *address < start);
            for address in within.chain([cursor, start - 1]) {
                let rule = rule_at(rows, address);
                assert!(
                    rule == Rule::NONE || may_have_rule(address),
                    "{name} {address:#x}: {rule:?} in a gap"
                );
            }
        }
        cursor = end;
    }
    gaps
}

/// Addresses of `mov $15, %rax; syscall`.
fn trampolines(file: &object::File<'_>, data: &[u8]) -> impl Iterator<Item = u64> {
    let code = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let sections: Vec<_> = file
        .sections()
        .filter_map(|section| Some((section.address(), section.file_range()?)))
        .collect();
    let places: Vec<_> = data
        .windows(code.len())
        .enumerate()
        .filter(|(_, window)| *window == code)
        .map(|(at, _)| at as u64)
        .collect();
    places.into_iter().filter_map(move |at| {
        sections
            .iter()
            .find(|(_, (offset, size))| (*offset..offset + size).contains(&at))
            .map(|(address, (offset, _))| at - offset + address)
    })
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn compare_file(path: &Path) -> Rows {
    compare(&path.display().to_string(), &read(path))
}

/// The file that an interpreter's code is in: its library, where it has one.
fn module(interpreter: &Interpreter) -> PathBuf {
    let root = interpreter.root.as_deref().unwrap_or(Path::new("/"));
    let outside = |path: &Path| root.join(path.strip_prefix("/").expect("a whole path"));
    let library = interpreter
        .exe
        .parent()
        .and_then(Path::parent)
        .expect("a directory above bin")
        .join(format!("lib/libpython3.{}.so.1.0", interpreter.minor()));
    let library = outside(&library);
    if library.exists() {
        library
    } else {
        outside(&interpreter.exe)
    }
}

#[test]
fn libraries_of_this_system() {
    let kinds = |rows: &Rows, kind: CfaKind| {
        rows.rows
            .iter()
            .filter(|row| row.rule.cfa == kind as u8)
            .count()
    };
    let libc = compare_file(&Path::new(SYSTEM).join("libc.so.6"));
    assert_eq!(kinds(&libc, CfaKind::Signal), 1, "__restore_rt");
    assert!(kinds(&libc, CfaKind::Plt) > 0);
    let libcrypto = compare_file(&Path::new(SYSTEM).join("libcrypto.so.3"));
    assert!(kinds(&libcrypto, CfaKind::Deref) > 0);
    for name in ["libstdc++.so.6", "libm.so.6", "ld-linux-x86-64.so.2"] {
        compare_file(&Path::new(SYSTEM).join(name));
    }
}

#[test]
fn interpreters_and_their_libc() {
    pyscry_tests::on_each("unwind_rows", |interpreter| {
        compare_file(&module(interpreter));
    });
    let mut roots: Vec<_> = interpreters::all()
        .into_iter()
        .filter_map(|interpreter| interpreter.root)
        .collect();
    roots.dedup();
    for root in roots {
        compare_file(&root.join("lib/x86_64-linux-gnu/libc.so.6"));
    }
}

#[test]
fn numpy_and_openblas() {
    let Some(site) = std::env::var_os("PYSCRY_SITE") else {
        panic!("PYSCRY_SITE is not set: run the tests with `cargo xtask test`");
    };
    let site = PathBuf::from(site);
    let find = |directory: &str, prefix: &str| {
        let directory = site.join(directory);
        let entries = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
        entries
            .map(|entry| entry.expect("an entry").path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            })
            .unwrap_or_else(|| panic!("no {prefix} in {}", directory.display()))
    };
    compare_file(&find("numpy/_core", "_multiarray_umath"));
    // Its kernels are written in assembly.
    let openblas = compare_file(&find("numpy.libs", "libscipy_openblas"));
    assert!(openblas.stats.analyzed > 500, "{:?}", openblas.stats);
}

#[test]
fn the_kernels_own_image() {
    let data = vdso();
    compare("[vdso]", &data);
}

/// The vDSO of this process.
fn vdso() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the maps");
    let line = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .expect("a vDSO");
    let (start, rest) = line.split_once('-').expect("a range");
    let (end, _) = rest.split_once(' ').expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("an address");
    let (start, end) = (number(start), number(end));
    let mut data = vec![0; (end - start) as usize];
    let memory = fs::File::open("/proc/self/mem").expect("the memory");
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut data, start).expect("the vDSO");
    data
}

#[test]
fn without_section_headers() {
    let whole = read(&Path::new(SYSTEM).join("libc.so.6"));
    let mut stripped = whole.clone();
    // e_shoff; e_shnum and e_shstrndx.
    stripped[0x28..0x30].fill(0);
    stripped[0x3c..0x40].fill(0);
    let expected = compile_image(&whole).expect("rows");
    let found = compile_image(&stripped).expect("rows");
    assert_eq!(found.stats, expected.stats);
    assert_eq!(found.rows, expected.rows);
}

/// `.debug_frame` is read as `.eh_frame` is. gas gives a signal frame there an augmentation that
/// gimli misreads; its trampoline is found by its code.
#[test]
fn debug_frame_says_the_same() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/compile");
    let rows = |name| compile_image(&read(&seeds.join(name))).expect("rows").rows;
    let from_start = |rows: Vec<Row>| -> Vec<_> {
        rows.iter()
            .map(|row| (row.address - rows[0].address, row.rule))
            .collect()
    };
    let expected = from_start(rows("rules"));
    assert!(!expected.is_empty());
    assert_eq!(from_start(rows("debug_frame")), expected);
    assert_eq!(from_start(rows("rules_without_sections")), expected);
}

/// Where a program begins without call frame information, nobody called.
#[test]
fn an_entry_point_without_a_function() {
    let mut program = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/compile/rules"));
    let without = compile_image(&program).expect("rows").rows;
    let behind = without.last().expect("rows").address;
    // e_type, ET_EXEC; e_entry.
    program[0x10] = 2;
    program[0x18..0x20].copy_from_slice(&behind.to_le_bytes());
    let with = compile_image(&program).expect("rows").rows;
    assert_eq!(with[..with.len() - 2], without[..without.len() - 1]);
    let [.., entry, end] = &with[..] else {
        panic!("{with:?}");
    };
    assert_eq!((entry.address, entry.rule), (behind, Rule::END));
    assert!(end.address > behind && end.address <= behind + 64);
    assert_eq!(end.rule, Rule::NONE);
}

#[test]
fn rows_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let rows = compile_image(&read(&Path::new(SYSTEM).join("libc.so.6"))).expect("rows");
    disk.store(b"a build id", &rows).expect("a place on disk");
    assert_eq!(disk.load(b"a build id"), Some(rows));
}
