//! The tools that make the committed BPF object, to the version.
//!
//! `scripts/install-build-tools.sh` reads the values from here: one constant a line.

/// The commit that the nightly compiler was built from.
pub(crate) const RUSTC_COMMIT: &str = "e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a";

/// What rustup calls that nightly. rustup names a nightly by the day after its last commit.
pub(crate) const RUSTC_TOOLCHAIN: &str = "nightly-2026-05-20";

/// How that compiler describes itself, for messages.
pub(crate) const RUSTC_RELEASE: &str = "1.97.0-nightly (e50aa6fba 2026-05-19)";

/// The version of `bpf-linker`. It links with the LLVM of the nightly above.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// The release whose standard library sources `core` is built from.
pub(crate) const RUST_SRC: &str = "1.97.1";

/// Debian's package of these sources.
pub(crate) const RUST_SRC_DEB: &str = "rust-src_1.97.1+dfsg1-1_all.deb";

/// The SHA-256 of that package.
pub(crate) const RUST_SRC_DEB_SHA256: &str =
    "d0637f8f464234ffb12baa55fc0e851f5f9dcfd0199c1a0922e4488a4f591992";

/// The SHA-256 over the sources of `core` and `compiler_builtins`, wherever they came from.
pub(crate) const RUST_SRC_SHA256: &str =
    "f4779b830980c69c2dce718c057d5511faa86a0e0551d1e276a95ed3a014ce8d";
