//! `cargo xtask ebpf`: makes the committed BPF object, the same to the byte on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tools;

#[path = "../../profiler-userspace/bpf_sources.rs"]
mod bpf_sources;
mod panics;
mod recipe;
mod strip;
mod toolchain;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing: fail when the committed object is not what the sources give.
    #[arg(long)]
    check: bool,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let toolchain = toolchain::find()?;
    let sources = bpf_sources::digests(&tools::workspace())
        .context("cannot read the sources of the BPF object")?
        .context("the sources of the BPF object are not there")?;
    let dir = tools::workspace().join(bpf_sources::COMMITTED);
    let committed = Committed {
        object: dir.join("pyscry.bpf.o"),
        sources: dir.join("sources.sha256"),
    };
    if args.check {
        check(&toolchain, &committed, &sources)
    } else {
        make(&toolchain, &committed, &sources)
    }
}

/// The two files that are committed.
struct Committed {
    object: PathBuf,
    sources: PathBuf,
}

fn make(toolchain: &toolchain::Toolchain, committed: &Committed, sources: &str) -> Result<()> {
    let built = recipe::build(toolchain, &tools::target().join("bpf"))?;
    panics::check(&built)?;
    write(&committed.object, &built)?;
    write(&committed.sources, sources.as_bytes())?;
    println!("{}: {} bytes", committed.object.display(), built.len());
    Ok(())
}

fn check(toolchain: &toolchain::Toolchain, committed: &Committed, sources: &str) -> Result<()> {
    let old_sources = fs::read_to_string(&committed.sources)
        .with_context(|| format!("cannot read {}", committed.sources.display()))?;
    let old = fs::read(&committed.object)
        .with_context(|| format!("cannot read {}", committed.object.display()))?;

    fs::create_dir_all(tools::target())?;
    let dir = tempfile::tempdir_in(tools::target())?;
    let built = recipe::build(toolchain, dir.path())?;
    panics::check(&built)?;

    let changed = bpf_sources::changed(&old_sources, sources);
    if !changed.is_empty() {
        bail!(
            "the committed BPF object is of other sources. Run `cargo xtask ebpf` and commit {}. \
             Changed:\n    {}",
            bpf_sources::COMMITTED,
            changed.join("\n    ")
        );
    }
    if built != old {
        let other = tools::target().join("pyscry.bpf.o");
        write(&other, &built)?;
        bail!(
            "the committed BPF object is not what its sources give: {} has {} bytes, {} has {}, \
             and they differ from byte {} on. Run `cargo xtask ebpf` and commit {}",
            committed.object.display(),
            old.len(),
            other.display(),
            built.len(),
            old.iter().zip(&built).take_while(|(a, b)| a == b).count(),
            bpf_sources::COMMITTED
        );
    }
    println!(
        "{}: as its sources give it, {} bytes",
        committed.object.display(),
        old.len()
    );
    Ok(())
}

/// Writes a file at once: somebody may be compiling with it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let new = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
