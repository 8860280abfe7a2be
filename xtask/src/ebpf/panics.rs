//! A BPF program cannot panic. Finds what the compiler left of a panic in an object.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};

/// What only code that can panic contains: in the name of a function, or of the file of an
/// instruction (a panic that was inlined has no symbol, but its lines are in the BTF).
const TRACES: [&str; 3] = ["panicking", "panic_", "rust_begin_unwind"];

/// Fails when the object has code that panics.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    let object = object::File::parse(bytes).context("the BPF object is not an ELF file")?;
    let mut names: Vec<String> = object
        .symbols()
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect();
    let btf = object
        .section_by_name(".BTF")
        .context("the BPF object has no BTF")?
        .data()
        .context("the BPF object's BTF cannot be read")?;
    names.extend(btf_strings(btf).unwrap_or_default());
    names.retain(|name| TRACES.iter().any(|trace| name.contains(trace)));
    if !names.is_empty() {
        bail!(
            "the BPF object has code that can panic: {}",
            names.join(", ")
        );
    }
    Ok(())
}

/// The strings of a BTF section: names, file names and source lines.
fn btf_strings(btf: &[u8]) -> Option<Vec<String>> {
    let word = |at: usize| {
        let bytes = btf.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let start = word(4)? + word(16)?;
    let strings = btf.get(start..start + word(20)?)?;
    Some(
        strings
            .split(|byte| *byte == 0)
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect(),
    )
}
