#!/bin/sh
# What cargo calls instead of rustc (RUSTC_WRAPPER) while it builds the BPF object: "$1" is rustc,
# its arguments follow. For crates of the BPF target, it takes out what depends on the machine.
#
# - cargo hashes the directory of `core`'s sources into `-C metadata`, rustc hashes that into the
#   names of symbols, and these decide the order of what LLVM writes. A crate is identified by its
#   name and version instead.
# - Names of files are relative to the workspace (that is where bpf-linker then finds the source
#   lines that it puts into the BTF), or to a crate.
case " $* " in
*" bpfel-unknown-none "*) ;;
*) exec "$@" ;;
esac
# cargo also asks rustc about the target, without a package.
[ -n "${CARGO_PKG_NAME:-}" ] || exec "$@"

case $CARGO_PKG_NAME in
# Ours: without the version, so that a release does not change the object.
profiler-*) id=$CARGO_PKG_NAME crate= inside= ;;
*)
    id=$CARGO_PKG_NAME-$CARGO_PKG_VERSION
    crate=--remap-path-prefix=$CARGO_MANIFEST_DIR=/$id
    # cargo names the files of a crate that lies inside of the workspace (`core`, when its sources
    # are in the cache there) relative to it.
    inside=${CARGO_MANIFEST_DIR#"$PYSCRY_WORKSPACE"/}
    case $inside in
    /*) inside= ;;
    *) inside=--remap-path-prefix=$inside=/$id ;;
    esac
    ;;
esac
for arg; do
    shift
    case $arg in
    metadata=*) arg=metadata=$id ;;
    esac
    set -- "$@" "$arg"
done
# The last prefix that matches counts: a registry may lie inside of the workspace.
exec "$@" "--remap-path-prefix=$PYSCRY_WORKSPACE=." ${crate:+"$crate"} ${inside:+"$inside"}
