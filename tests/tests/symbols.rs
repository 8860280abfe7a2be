//! Names of native code, of the kernel and of what a JIT compiler made, from files compiled here.

use std::fs::File;
use std::path::{Path, PathBuf};

use pyscry::process::{maps, proc_file};
use pyscry::symbols::{Address, Content, ModuleFile, ModuleId, Options, Symbols, text};
use pyscry_tests::compiled::{function, library, mark, marks, run};

/// `outer` has `middle` inlined, and that `inner`.
fn nested() -> String {
    let [inner, outer, local] = [0, 1, 2].map(mark);
    format!(
        "#define INLINE static inline __attribute__((always_inline))\n\
         INLINE void inner(void) {{\n\
             {inner};\n\
         }}\n\
         INLINE void middle(void) {{\n\
             inner();\n\
         }}\n\
         void outer(void) {{\n\
             middle();\n\
             {outer};\n\
         }}\n\
         __attribute__((noinline)) static int local(int x) {{\n\
             {local};\n\
             return x + 1;\n\
         }}\n\
         int exported(int x) {{ return local(x) * 2; }}\n"
    )
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn module(symbols: &mut Symbols, file: &Path, path: &str, root: &Path) -> ModuleId {
    symbols.add_module(ModuleFile {
        path: path.into(),
        content: Content::File(File::open(file).expect("a file")),
        root: root.to_owned(),
    })
}

fn at(address: u64) -> Address {
    Address {
        address,
        is_return_address: false,
    }
}

/// The frames at an address as text, from the innermost.
fn texts(symbols: &mut Symbols, module: ModuleId, address: u64) -> Vec<String> {
    let frames = symbols.resolve(module, &[at(address)]).remove(0);
    frames
        .iter()
        .map(|frame| text::native(frame).to_string())
        .collect()
}

/// The frames at an address of a file that is taken for `/app/libtest.so` below `root`.
fn named(file: &Path, root: &Path, address: u64) -> Vec<String> {
    let mut symbols = Symbols::new(Options::default());
    let id = module(&mut symbols, file, "/app/libtest.so", root);
    texts(&mut symbols, id, address)
}

fn lines_of(directory: &Path) -> [Vec<String>; 3] {
    let source = directory.join("a.c");
    let source = source.display();
    [
        vec![
            format!("inner ({source}:3)"),
            format!("middle ({source}:6)"),
            format!("outer ({source}:9)"),
        ],
        vec![format!("outer ({source}:10)")],
        vec![format!("local ({source}:13)")],
    ]
}

#[test]
fn files_lines_and_inlined_functions() {
    let directory = directory();
    let directory = directory.path();
    for flags in [
        &["-g", "-O1"][..],
        &["-g", "-O2", "-gdwarf-4"],
        &["-g", "-O1", "-gz=zlib"],
        &["-g", "-O1", "-Wl,--compress-debug-sections=zstd"],
    ] {
        let file = library(directory, "a.c", &nested(), flags);
        let found = marks(&file).into_iter();
        let found = found.map(|mark| named(&file, Path::new("/"), mark));
        assert_eq!(found.collect::<Vec<_>>(), lines_of(directory), "{flags:?}");
    }
}

#[test]
fn inlined_frames_say_so() {
    let directory = directory();
    let file = library(directory.path(), "a.c", &nested(), &["-g", "-O1"]);
    let mut symbols = Symbols::new(Options::default());
    let id = module(&mut symbols, &file, "/x/libtest.so", Path::new("/"));
    let frames = symbols.resolve(id, &[at(marks(&file)[0])]).remove(0);
    let inlined = frames.iter().map(|frame| frame.inlined);
    assert_eq!(inlined.collect::<Vec<_>>(), [true, true, false]);
    assert!(frames.iter().all(|frame| &*frame.module == "libtest.so"));
    assert!(frames.iter().all(|frame| frame.offset == marks(&file)[0]));

    let lines = Options {
        lines: false,
        ..Options::default()
    };
    let small = Options {
        largest_debug_info: 10,
        ..Options::default()
    };
    for (options, notes) in [(lines, 0), (small, 1)] {
        let mut symbols = Symbols::new(options);
        let id = module(&mut symbols, &file, "/x/libtest.so", Path::new("/"));
        let text = texts(&mut symbols, id, marks(&file)[0]);
        assert_eq!(text, ["outer (libtest.so)"]);
        assert_eq!(symbols.take_notes().len(), notes);
    }
}

/// A call at the end of a function: the return address is in the next one.
#[test]
fn return_addresses_belong_to_the_call() {
    let directory = directory();
    let text = "__asm__(\".globl first\\n.type first,@function\\nfirst: call *%rax\\n\
        .size first,.-first\\n.globl second\\n.type second,@function\\nsecond: ret\\n\
        .size second,.-second\");";
    let file = library(directory.path(), "a.c", text, &[]);
    let (address, _) = function(&file, "second");
    let mut symbols = Symbols::new(Options::default());
    let id = module(&mut symbols, &file, "/libtest.so", Path::new("/"));
    let returns = Address {
        address,
        is_return_address: true,
    };
    let names = symbols
        .resolve(id, &[at(address), returns])
        .iter()
        .map(|frames| text::native(&frames[0]).to_string())
        .collect::<Vec<_>>();
    assert_eq!(names, ["second (libtest.so)", "first (libtest.so)"]);
}

/// Splits a library into a stripped one and `libtest.debug`.
fn split(directory: &Path, flags: &[&str]) -> (PathBuf, PathBuf, Vec<u64>) {
    let mut all = vec!["-g", "-O1"];
    all.extend(flags);
    let file = library(directory, "a.c", &nested(), &all);
    let marks = marks(&file);
    let debug = directory.join("libtest.debug");
    run(
        directory,
        "objcopy",
        &["--only-keep-debug", "libtest.so", "libtest.debug"],
    );
    run(directory, "strip", &["libtest.so"]);
    (file, debug, marks)
}

fn place(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
    std::fs::copy(from, to).expect("a copy");
}

#[test]
fn debug_links_below_the_targets_root() {
    for place_of_debug in [
        "app/libtest.debug",
        "app/.debug/libtest.debug",
        "usr/lib/debug/app/libtest.debug",
    ] {
        let directory = directory();
        let directory = directory.path();
        let (file, debug, marks) = split(directory, &["-Wl,--build-id=none"]);
        run(
            directory,
            "objcopy",
            &["--add-gnu-debuglink=libtest.debug", "libtest.so"],
        );
        let root = directory.join("root");
        place(&file, &root.join("app/libtest.so"));
        let stripped = [format!("libtest.so+{:#x}", marks[2])];
        assert_eq!(named(&file, &root, marks[2]), stripped);
        place(&debug, &root.join(place_of_debug));
        let found = marks.iter().map(|mark| named(&file, &root, *mark));
        assert_eq!(found.collect::<Vec<_>>(), lines_of(directory));
        // Another file of that name is not the one that was linked to.
        let mut wrong = std::fs::read(&debug).expect("a debug file");
        wrong.push(0);
        std::fs::write(root.join(place_of_debug), wrong).expect("written");
        assert_eq!(named(&file, &root, marks[2]), stripped);
    }
}

#[test]
fn debug_files_by_build_id() {
    let directory = directory();
    let directory = directory.path();
    let id = "-Wl,--build-id=0xabcdef0123456789abcd";
    let (file, debug, marks) = split(directory, &[id]);
    let root = directory.join("root");
    let by_id = root.join("usr/lib/debug/.build-id/ab/cdef0123456789abcd.debug");
    place(&debug, &root.join("store/libtest.debug"));
    std::fs::create_dir_all(by_id.parent().expect("a parent")).expect("a directory");
    // As packages have it: a link, which is meant for the target's root.
    std::os::unix::fs::symlink("/store/libtest.debug", &by_id).expect("a link");
    let found = marks.iter().map(|mark| named(&file, &root, *mark));
    assert_eq!(found.collect::<Vec<_>>(), lines_of(directory));

    // The target and its files are gone when names are asked for.
    let mut symbols = Symbols::new(Options::default());
    let early = module(&mut symbols, &file, "/app/libtest.so", &root);
    std::fs::remove_dir_all(&root).expect("removed");
    std::fs::remove_file(&file).expect("removed");
    let names = texts(&mut symbols, early, marks[0]);
    assert_eq!(names, lines_of(directory)[0]);
}

#[test]
fn stripped_files_name_only_what_a_symbol_covers() {
    let directory = directory();
    let directory = directory.path();
    let file = library(directory, "a.c", &nested(), &["-O1"]);
    let marks = marks(&file);
    let root = Path::new("/");
    assert_eq!(named(&file, root, marks[2]), ["local (libtest.so)"]);
    run(directory, "strip", &["libtest.so"]);
    assert_eq!(named(&file, root, marks[1]), ["outer (libtest.so)"]);
    let local = format!("libtest.so+{:#x}", marks[2]);
    assert_eq!(named(&file, root, marks[2]), [local]);
    let (start, size) = function(&file, "exported");
    assert_eq!(named(&file, root, start), ["exported (libtest.so)"]);
    let last = start + size - 1;
    assert_eq!(named(&file, root, last), ["exported (libtest.so)"]);
    let behind = format!("libtest.so+{:#x}", start + size);
    assert_eq!(named(&file, root, start + size), [behind]);
}

#[test]
fn parts_of_functions_keep_their_names() {
    let directory = directory();
    let text = "void die(int) __attribute__((cold, noreturn));\n\
        int f(int x) { if (x < 0) die(x); return x + 1; }\n";
    for (source, cold, shown) in [
        ("a.c", "f.cold", "f.cold"),
        ("a.cc", "_Z1fi.cold", "f(int) [clone .cold]"),
    ] {
        for flags in [&["-O2"][..], &["-O2", "-g"]] {
            let file = library(directory.path(), source, text, flags);
            let (address, _) = function(&file, cold);
            let mut symbols = Symbols::new(Options::default());
            let id = module(&mut symbols, &file, "/libtest.so", Path::new("/"));
            let frames = symbols.resolve(id, &[at(address)]).remove(0);
            assert_eq!(frames[0].name.as_deref(), Some(shown));
            assert_eq!(frames[0].raw_name.as_deref(), Some(cold));
        }
    }
}

#[test]
fn names_of_cpp_and_rust() {
    let directory = directory();
    let directory = directory.path();
    let text = "namespace n { template <typename T> struct Box { \
            __attribute__((noinline)) T get(T value) { return value + 1; } }; \
          namespace { __attribute__((noinline)) int hidden(long x) { return x + 2; } } }\n\
        int use(int x) { return n::Box<int>().get(x) + n::hidden(x); }\n\
        extern \"C\" int old_rust() __asm__(\"_ZN5alloc3vec4push17h0123456789abcdefE\");\n\
        extern \"C\" int old_rust() { return 3; }\n";
    for flags in [&["-O1"][..], &["-O1", "-g"]] {
        let file = library(directory, "a.cc", text, flags);
        for (raw, name) in [
            ("_ZN1n3BoxIiE3getEi", "n::Box<int>::get(int)"),
            (
                "_ZN1n12_GLOBAL__N_16hiddenEl",
                "n::(anonymous namespace)::hidden(long)",
            ),
            ("_Z3usei", "use(int)"),
            ("_ZN5alloc3vec4push17h0123456789abcdefE", "alloc::vec::push"),
        ] {
            let (address, _) = function(&file, raw);
            let mut symbols = Symbols::new(Options::default());
            let id = module(&mut symbols, &file, "/libtest.so", Path::new("/"));
            let frames = symbols.resolve(id, &[at(address)]).remove(0);
            let frame = frames.last().expect("a frame");
            assert_eq!(frame.name.as_deref(), Some(name), "{flags:?}");
            assert_eq!(frame.raw_name.as_deref(), Some(raw), "{flags:?}");
        }
    }
    let source = "pub struct Thing<T>(pub T);\n\
        impl Thing<u8> { #[inline(never)] pub fn work(&self) -> u8 { self.0 + 1 } }\n";
    std::fs::write(directory.join("thing.rs"), source).expect("a source file");
    let arguments = "--crate-type=dylib --crate-name=thing -Cprefer-dynamic -g \
        -Csymbol-mangling-version=v0 -olibthing.so thing.rs";
    let arguments = arguments.split_whitespace().collect::<Vec<_>>();
    run(directory, "rustc", &arguments);
    let file = directory.join("libthing.so");
    let data = std::fs::read(&file).expect("a library");
    let elf = object::File::parse(&*data).expect("an ELF file");
    let address = object::Object::symbols(&elf)
        .find(|symbol| {
            object::ObjectSymbol::name(symbol)
                .is_ok_and(|name| name.starts_with("_RN") && name.contains("4work"))
        })
        .map(|symbol| object::ObjectSymbol::address(&symbol))
        .expect("a mangled name");
    let shown = named(&file, Path::new("/"), address);
    let source = directory.join("thing.rs");
    let expected = format!("<thing::Thing<u8>>::work ({}:2)", source.display());
    assert_eq!(shown, [expected]);
}

#[test]
fn deleted_files_and_files_seen_twice() {
    let directory = directory();
    let file = library(directory.path(), "a.c", &nested(), &["-g", "-O1"]);
    let marks = marks(&file);
    let mut symbols = Symbols::new(Options::default());
    let first = module(&mut symbols, &file, "/app/libtest.so", Path::new("/"));
    let again = module(&mut symbols, &file, "/app/libtest.so", Path::new("/"));
    assert_eq!(first, again);
    let other = directory.path().join("other.so");
    std::fs::write(&other, "not an ELF file").expect("a file");
    let other = module(&mut symbols, &other, "/app/other.so", Path::new("/"));
    assert_ne!(first, other);
    std::fs::remove_file(&file).expect("removed");
    let names = texts(&mut symbols, first, marks[2]);
    assert_eq!(names, lines_of(directory.path())[2]);
    assert_eq!(texts(&mut symbols, other, 0x1a2b), ["other.so+0x1a2b"]);
}

#[test]
fn the_vdso_from_memory() {
    let maps = maps::of_process(std::process::id()).expect("mappings");
    let vdso = maps
        .iter()
        .find(|mapping| mapping.path == Path::new("[vdso]"))
        .expect("a vDSO");
    let len = (vdso.end - vdso.start) as usize;
    // SAFETY: mapped readable for as long as this process lives.
    let bytes = unsafe { std::slice::from_raw_parts(vdso.start as *const u8, len) }.to_vec();
    let copy = directory();
    let file = copy.path().join("vdso.so");
    std::fs::write(&file, &bytes).expect("a copy");
    let (address, _) = function(&file, "__vdso_getcpu");
    let mut symbols = Symbols::new(Options::default());
    let id = symbols.add_module(ModuleFile {
        path: "[vdso]".into(),
        content: Content::Memory(bytes),
        root: "/".into(),
    });
    let names = texts(&mut symbols, id, address + 1);
    assert_eq!(names, ["getcpu ([vdso])"]);
    assert_eq!(texts(&mut symbols, id, 0x10), ["[vdso]+0x10"]);
}

#[test]
fn the_map_of_a_jit_compiler() {
    let pid = std::process::id();
    let inside = proc_file::innermost_tid(pid, pid);
    let path = PathBuf::from(format!("/tmp/perf-{inside}.map"));
    let mut symbols = Symbols::new(Options::default());
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let map = symbols.add_perf_map(&root, inside);
    let mut name =
        |address| text::native(&symbols.resolve_jit(map, &[at(address)])[0][0]).to_string();
    assert_eq!(name(0x1005), "[jit]");
    std::fs::write(&path, "1000 10 Function:a b\n2000 10 _ZN1n1fEi\n").expect("a map");
    assert_eq!(name(0x1005), "Function:a b ([jit])");
    assert_eq!(name(0x2005), "n::f(int) ([jit])");
    assert_eq!(name(0x1010), "[jit]");
    let mut text = std::fs::read_to_string(&path).expect("a map");
    text.push_str("1008 8 newer\n");
    std::fs::write(&path, text).expect("a longer map");
    assert_eq!(name(0x1009), "newer ([jit])");
    assert_eq!(name(0x1005), "Function:a b ([jit])");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn functions_of_the_kernel() {
    let text = std::fs::read_to_string("/proc/kallsyms").expect("kallsyms");
    let start = text
        .lines()
        .find_map(|line| line.strip_suffix(" T schedule")?.get(..16))
        .map(|hex| u64::from_str_radix(hex, 16).expect("an address"))
        .expect("schedule");
    let mut symbols = Symbols::new(Options::default());
    assert!(!symbols.kernel_is_hidden(), "run the tests as root");
    let frame = symbols.kernel(&[start + 5]).remove(0);
    assert_eq!(text::kernel(&frame).to_string(), "schedule ([kernel])");
    assert_eq!(frame.start, start);
    assert!(frame.size.is_some_and(|size| size > 5));
    let nothing = symbols.kernel(&[0x1000]).remove(0);
    assert_eq!(text::kernel(&nothing).to_string(), "[kernel]");
}
