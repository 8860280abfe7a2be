//! Files that are damaged, or made to do damage, give names or none, and end nothing.

use std::fs::File;
use std::path::Path;

use pyscry::symbols::{Address, Content, ModuleFile, Options, Symbols};
use pyscry_tests::compiled::{function, library};

const SOURCE: &str = "static inline __attribute__((always_inline)) int half(int x) \
    { return x / 2; }\nint f(int x) { int s = 0; for (int i = 0; i < x; i++) \
    s += half(i); return s; }\nint g(int x) { return f(x) * half(x); }\n";

/// Names some addresses of an image, from a file and from memory.
fn resolve(directory: &Path, image: &[u8], addresses: &[Address]) {
    let path = directory.join("damaged.so");
    std::fs::write(&path, image).expect("a damaged file");
    let mut symbols = Symbols::new(Options::default());
    let contents = [
        Content::File(File::open(&path).expect("it")),
        Content::Memory(image.to_vec()),
    ];
    for content in contents {
        let id = symbols.add_module(ModuleFile {
            path: "/app/libtest.so".into(),
            content,
            root: directory.to_owned(),
        });
        let frames = symbols.resolve(id, addresses);
        assert_eq!(frames.len(), addresses.len());
        assert!(frames.iter().all(|frames| !frames.is_empty()));
    }
}

fn addresses(file: &Path) -> Vec<Address> {
    let mut all = addresses_of(file, "f");
    all.extend(addresses_of(file, "g"));
    all
}

fn addresses_of(file: &Path, name: &str) -> Vec<Address> {
    let (start, size) = function(file, name);
    (start..start + size)
        .step_by(3)
        .chain([0, 1, u64::MAX, u64::MAX - 1, 1 << 63])
        .flat_map(|address| {
            [false, true].map(|is_return_address| Address {
                address,
                is_return_address,
            })
        })
        .collect()
}

#[test]
fn truncated_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = library(directory.path(), "a.c", SOURCE, &["-g", "-O2"]);
    let image = std::fs::read(&file).expect("a library");
    let addresses = addresses(&file);
    for len in (0..image.len()).step_by(211).chain(0..130) {
        resolve(directory.path(), &image[..len], &addresses);
    }
}

#[test]
fn flipped_bits() {
    let directory = tempfile::tempdir().expect("a directory");
    for flags in [&["-g", "-O2"][..], &["-g", "-O2", "-gz=zlib"]] {
        let file = library(directory.path(), "a.c", SOURCE, flags);
        let image = std::fs::read(&file).expect("a library");
        let addresses = addresses(&file);
        // Numbers of a fixed generator, so that a failure comes again.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..400 {
            let mut damaged = image.clone();
            let flips = 1 << (round % 7);
            for _ in 0..flips {
                // Section headers are where most numbers are that somebody may trust.
                let from = if round % 2 == 0 {
                    0
                } else {
                    image.len() - 2560
                };
                let at = from + next() as usize % (image.len() - from);
                damaged[at] ^= 1 << (next() % 8);
            }
            resolve(directory.path(), &damaged, &addresses);
        }
    }
}

/// A section that claims to be enormous when it is uncompressed.
#[test]
fn a_compressed_section_that_claims_too_much() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = library(directory.path(), "a.c", SOURCE, &["-g", "-O2", "-gz=zlib"]);
    let image = std::fs::read(&file).expect("a library");
    let addresses = addresses(&file);
    let elf = object::File::parse(&*image).expect("an ELF file");
    for section in object::Object::sections(&elf) {
        let name = object::ObjectSection::name(&section).expect("a name");
        let range = object::ObjectSection::file_range(&section);
        let Some((offset, _)) = range.filter(|_| name.starts_with(".debug_")) else {
            continue;
        };
        for claim in [u64::MAX, 1 << 46, 0] {
            let mut damaged = image.clone();
            // `ch_size` of `Elf64_Chdr`.
            let at = offset as usize + 8;
            damaged[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            resolve(directory.path(), &damaged, &addresses);
        }
    }
}

/// Entries within entries: what reads them calls itself for each level.
#[test]
fn debug_information_that_is_nested_without_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "__asm__(\".globl f\\n.type f,@function\\nf: .file 1 \\\"a.c\\\"\\n.loc 1 1\\nnop\\n\
        nop\\nret\\n.Lend: .size f,.-f\\n\
        .section .debug_abbrev,\\\"\\\",@progbits\\n\
        .byte 1,0x11,1, 0x11,1, 0x12,7, 0x10,0x17, 0x1b,8, 0,0\\n\
        .byte 2,0x2e,1, 0x11,1, 0x12,7, 0,0\\n\
        .byte 3,0x1d,1, 0,0, 0\\n\
        .section .debug_line,\\\"\\\",@progbits\\n.Lline:\\n\
        .section .debug_info,\\\"\\\",@progbits\\n\
        .long .Lbehind-.Lhere\\n.Lhere: .short 4\\n.long 0\\n.byte 8\\n\
        .byte 1\\n.quad f\\n.quad .Lend-f\\n.long .Lline\\n.asciz \\\"/x\\\"\\n\
        .byte 2\\n.quad f\\n.quad .Lend-f\\n\
        .rept 200000\\n.byte 3\\n.endr\\n.rept 200002\\n.byte 0\\n.endr\\n\
        .Lbehind:\\n.text\");\n";
    for flags in [
        &["-Wl,-Bsymbolic"][..],
        &["-Wl,-Bsymbolic", "-Wl,--compress-debug-sections=zlib"],
    ] {
        let file = library(directory.path(), "a.c", text, flags);
        let image = std::fs::read(&file).expect("a library");
        resolve(directory.path(), &image, &addresses_of(&file, "f"));
    }
}
