//! What following code says is what call frame information says, on every row of every function
//! that has both a symbol and such information: as if the information were not there, the code is
//! followed, and the two are compared.

#![allow(clippy::expect_used, reason = "what a test reads has to be there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow,
};
use object::{Object, ObjectSection, ObjectSegment};
use pyscry::elf::ElfImage;
use pyscry::unwind::{State, follow};

const RBP: u16 = 6;

/// `pop %rbp`. The call frame information of Intel's vector mathematics in numpy says before it
/// that `rbp` is the caller's, which it is behind it.
const POP_RBP: u8 = 0x5d;

const SYSTEM: &str = "/usr/lib/x86_64-linux-gnu";

/// What a comparison saw, in pieces of code where neither side changes.
#[derive(Debug, Default)]
struct Seen {
    /// Known of the register that the information counts from, and the same.
    same: usize,
    /// Known of other registers only, so that they cannot be compared.
    others: usize,
    /// Nothing known.
    none: usize,
    /// The information is early, see [`POP_RBP`].
    early: usize,
}

/// What is known at an address, and until where.
fn known(told: &[(u64, State)], address: u64) -> Option<(&State, u64)> {
    let behind = told.partition_point(|row| row.0 <= address);
    let next = told.get(behind).map_or(u64::MAX, |row| row.0);
    Some((&told.get(behind.checked_sub(1)?)?.1, next))
}

fn compare(row: &UnwindTableRow<usize>, state: &State, code: u8, seen: &mut Seen) -> bool {
    if (0..16).all(|register| state.distance(register).is_none()) {
        seen.none += 1;
        return true;
    }
    let at_register = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            let distance = state.distance(register.0 as u8);
            distance.map(|distance| (i64::from(distance), *offset))
        }
        CfaRule::Expression(_) => None,
    };
    match at_register {
        Some((ours, theirs)) if ours != theirs => return false,
        Some(_) => seen.same += 1,
        None => seen.others += 1,
    }
    let (same, saved) = (state.rbp_same(), state.rbp_saved().map(i64::from));
    match row.register(Register(RBP)) {
        _ if !same && saved.is_none() => true,
        RegisterRule::Undefined | RegisterRule::SameValue if !same && code == POP_RBP => {
            seen.early += 1;
            true
        }
        RegisterRule::Undefined | RegisterRule::SameValue => same,
        RegisterRule::Offset(offset) => saved.map_or(same, |saved| saved == offset),
        _ => true,
    }
}

/// The byte at an address.
fn byte(file: &object::File<'_>, address: u64) -> Option<u8> {
    file.segments()
        .find_map(|segment| segment.data_range(address, 1).ok()??.first().copied())
}

fn compare_file(path: &Path) {
    let image = ElfImage::open(path).expect("a file");
    let followed: BTreeMap<u64, Vec<(u64, State)>> = follow(&image.parse().expect("an ELF file"))
        .into_iter()
        .filter_map(|told| Some((told.first()?.0, told)))
        .collect();

    let data = fs::read(path).expect("a file");
    let file = object::File::parse(&data[..]).expect("an ELF file");
    let section = file.section_by_name(".eh_frame").expect(".eh_frame");
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let frames = EhFrame::new(section.data().expect("its bytes"), LittleEndian);
    let mut context = UnwindContext::new();
    let mut seen = Seen::default();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().expect("an entry") {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let entry = partial.parse(EhFrame::cie_from_offset).expect("an entry");
        let mut table = entry.rows(&frames, &bases, &mut context).expect("rows");
        while let Some(row) = table.next_row().expect("a row") {
            let mut address = row.start_address();
            while address < row.end_address()
                && let Some((_, told)) = followed.range(..=address).next_back()
                && let Some((state, next)) = known(told, address)
            {
                let code = byte(&file, address).expect("code");
                assert!(
                    compare(row, state, code, &mut seen),
                    "{} {address:#x}: {state:?}, {row:?}",
                    path.display()
                );
                address = next;
            }
        }
    }
    println!("{}: {seen:?}", path.display());
    assert!(seen.same > 0, "{}", path.display());
    assert!(seen.others * 100 <= seen.same, "{}", path.display());
    assert!(seen.early <= 1, "{}", path.display());
}

#[test]
fn libraries_of_this_system() {
    for name in ["libc.so.6", "libcrypto.so.3", "libstdc++.so.6", "libm.so.6"] {
        compare_file(&Path::new(SYSTEM).join(name));
    }
}

#[test]
fn interpreters() {
    pyscry_tests::on_each("unwind_follow", |interpreter| {
        if interpreter.root.is_none() {
            let bin = interpreter.exe.parent().and_then(Path::parent);
            let name = format!("lib/libpython3.{}.so.1.0", interpreter.minor());
            let library = bin.expect("a directory above bin").join(name);
            compare_file(if library.exists() {
                &library
            } else {
                &interpreter.exe
            });
        }
    });
}

#[test]
fn numpy_and_openblas() {
    let Some(site) = std::env::var_os("PYSCRY_SITE") else {
        panic!("PYSCRY_SITE is not set: run the tests with `cargo xtask test`");
    };
    for (directory, prefix) in [
        ("numpy/_core", "_multiarray_umath"),
        ("numpy.libs", "libscipy_openblas"),
    ] {
        let directory = PathBuf::from(&site).join(directory);
        let path = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()))
            .map(|entry| entry.expect("an entry").path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            });
        compare_file(&path.unwrap_or_else(|| panic!("no {prefix} in {}", directory.display())));
    }
}
