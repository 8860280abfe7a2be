//! The compiled BPF programs, embedded. `cargo xtask ebpf` makes the object anew.

/// The object.
pub static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/pyscry.bpf.o"));

/// Whether the object is older than the sources that this binary was built next to.
pub const IS_STALE: bool = option_env!("PYSCRY_BPF_STALE").is_some();
