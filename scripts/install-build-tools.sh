#!/bin/sh
# Installs what `cargo xtask` needs and a machine with Rust does not have: packages for the tests
# and the pictures, bpf-linker, and the sources of Rust's standard library. For Debian and its
# relatives, as root or with sudo. What is there already is left alone; nothing is added to the
# system's package sources.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${PYSCRY_CACHE:-$root/.cache}
mirror=${PYSCRY_DEBIAN_MIRROR:-http://deb.debian.org/debian}

say() { echo "install-build-tools: $*" >&2; }
die() { say "$*"; exit 1; }

# The value of a constant in pins.rs, which may stand on the next line.
pin() {
    tr '\n' ' ' <"$root/xtask/src/tools/pins.rs" |
        sed -n "s/.* const $1: &str = *\"\([^\"]*\)\";.*/\1/p"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_packages() {
    missing=
    for package in debootstrap debian-archive-keyring cpio busybox-static \
        librsvg2-bin curl xz-utils gcc g++ gdb binutils; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    # What opens files in the tests. Others package these, too: what is there is good enough.
    for needed in chromium:chromium go:golang-go npm:npm; do
        command -v "${needed%%:*}" >/dev/null || missing="$missing ${needed#*:}"
    done
    [ -n "$missing" ] || return 0
    say "packages:$missing"
    as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends $missing
}

# The rustup toolchain that was built from the pinned commit, whatever its name is here.
nightly() {
    commit=$(pin RUSTC_COMMIT)
    for name in $(rustup toolchain list | cut -d' ' -f1); do
        if rustup run "$name" rustc -vV 2>/dev/null | grep -q "^commit-hash: $commit$"; then
            echo "$name"
            return
        fi
    done
}

install_nightly() {
    [ -z "$(nightly)" ] || return 0
    say "$(pin RUSTC_TOOLCHAIN)"
    rustup toolchain install "$(pin RUSTC_TOOLCHAIN)" --profile minimal
    [ -n "$(nightly)" ] || die "$(pin RUSTC_TOOLCHAIN) is not of commit $(pin RUSTC_COMMIT)"
}

install_bpf_linker() {
    version=$(pin BPF_LINKER)
    [ "$(bpf-linker --version 2>/dev/null)" != "bpf-linker $version" ] || return 0
    say "bpf-linker $version"
    cargo "+$(nightly)" install bpf-linker --version "$version" --locked --force
}

# Puts Debian's rust-src of the pinned release into "$1".
fetch_rust_src() {
    deb=$(pin RUST_SRC_DEB)
    if curl -fsSL --retry 3 -o "$1/$deb" "$mirror/pool/main/r/rustc/$deb"; then
        echo "$(pin RUST_SRC_DEB_SHA256)  $1/$deb" | sha256sum -c --quiet ||
            die "$deb of $mirror is not the package that it should be"
        return
    fi
    # The mirror has only the newest revision. xtask compares the contents with the pinned ones.
    for suite in forky sid; do
        say "no $deb any more, looking into $suite"
        mkdir -p "$1/$suite/lists/partial" "$1/$suite/cache/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
            >"$1/$suite/sources.list"
        : >"$1/$suite/status"
        (
            cd "$1"
            set -- -qq -o Dir::Etc::SourceList="$1/$suite/sources.list" \
                -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$1/$suite/lists" \
                -o Dir::State::Status="$1/$suite/status" -o Dir::Cache="$1/$suite/cache" -o APT::Sandbox::User=root
            apt-get "$@" update
            apt-get "$@" download rust-src
        ) || continue
        for found in "$1/rust-src_$(pin RUST_SRC)"*.deb; do
            [ ! -e "$found" ] || return 0
        done
    done
    die "no rust-src $(pin RUST_SRC) at $mirror; rustup has it:" \
        "rustup toolchain install $(pin RUST_SRC) --profile minimal --component rust-src"
}

install_rust_src() {
    release=$(pin RUST_SRC)
    dir=$cache/rust-src-$release
    [ ! -e "$dir/library/core/Cargo.toml" ] || return 0
    # rustup's component, when that release is installed with it.
    rustup_src=$(rustup run "$release" rustc --print sysroot 2>/dev/null || true)/lib/rustlib/src
    [ ! -e "$rustup_src/rust/library/core/Cargo.toml" ] || return 0
    say "rust-src $release"
    mkdir -p "$cache"
    temp=$(mktemp -d "$cache/rust-src.XXXXXX")
    trap 'rm -rf "$temp"' EXIT
    fetch_rust_src "$temp"
    dpkg-deb -x "$temp"/rust-src_*.deb "$temp/unpacked"
    mkdir -p "$dir"
    rm -rf "$dir/library"
    mv "$temp/unpacked/usr/src/rustc-$release/library" "$dir/library"
}

command -v rustup >/dev/null || die "rustup is not installed: https://rustup.rs"
command -v apt-get >/dev/null || die "this is not a Debian: see the list in $0"
install_packages
install_nightly
install_bpf_linker
install_rust_src
say "all there"
