#!/usr/bin/env bash
# Makes sure that this machine can compile plugins: Rust with the standard library of wasm32-wasip2.
#
# Takes the first route that works, says on stdout which one it was, and does nothing when all is there already:
#
#   in-use      the Rust toolchain in use has the target
#   composite   one put together by an earlier run of this script is there, and up to date
#   rustup      `rustup target add wasm32-wasip2`
#   composite   where rustup can download nothing, but Debian's packages and crates.io can be reached: Debian's compiler
#               and std sources, the linkers out of the toolchain in use, a std compiled here, once (two minutes)
#
# Nothing is installed into the system and no root is needed: packages are downloaded through an apt configuration of
# our own, their signatures checked, and unpacked into one directory, $DOWNBEAT_GUEST_TOOLCHAIN (default
# ~/.local/share/downbeat/guest-toolchain), which can be deleted at any time. `downbeat plugin build` looks there too.
# Building the engine needs none of this.
set -euo pipefail

TARGET=wasm32-wasip2
TOOLCHAIN=${DOWNBEAT_GUEST_TOOLCHAIN:-${XDG_DATA_HOME:-$HOME/.local/share}/downbeat/guest-toolchain}
RECIPE=1 # raise it when a change below must rebuild the toolchains that earlier versions made
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# What an outer cargo leaves in the environment would pick the wrong compiler, flags or directory.
unset RUSTC RUSTDOC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTC_BOOTSTRAP RUSTFLAGS RUSTUP_TOOLCHAIN \
  CARGO_BUILD_RUSTC CARGO_BUILD_RUSTC_WRAPPER CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR \
  CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR

say() { echo "toolchain: $*" >&2; }

main() {
  if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
    give_up "there is no Rust on this machine (no rustc and cargo in PATH)"
  fi
  SYSROOT=$(rustc --print sysroot)
  HOST=$(rustc -vV | sed -n 's/^host: //p')
  STAMP="recipe $RECIPE | $(rustc -V) | $SYSROOT"

  ready && return
  mkdir -p "$(dirname "$TOOLCHAIN")"
  if command -v flock >/dev/null; then
    exec 9>"$TOOLCHAIN.lock"
    flock -n 9 || { say "another toolchain.sh is at work, waiting for it"; flock 9; }
    ready && return
  fi
  add_target && return
  compose
}

# The routes that cost nothing. A directory without a stamp was made by someone else, who answers for it.
ready() {
  if has_std rustc; then
    echo "in-use: $SYSROOT has $TARGET"
  elif [ "$(cat "$TOOLCHAIN/stamp" 2>/dev/null || echo "$STAMP")" = "$STAMP" ] && has_std "$TOOLCHAIN/bin/rustc"; then
    echo "composite: $TOOLCHAIN"
  else
    return 1
  fi
}

# rustc prints the directory whether or not anything is installed in it, so look for the library itself.
has_std() {
  local libdir
  libdir=$("$1" --print target-libdir --target "$TARGET" 2>/dev/null) || return 1
  compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

add_target() {
  command -v rustup >/dev/null || return 1
  say "rustup target add $TARGET"
  local log
  if log=$(RUST_BACKTRACE=0 rustup target add "$TARGET" 2>&1) && has_std rustc; then
    echo "rustup: added $TARGET to $SYSROOT"
  else
    log=$(grep -m 1 '^error' <<<"$log" || tail -n 1 <<<"$log")
    say "that did not work: ${log:0:160}"
    return 1
  fi
}

# Puts the composite toolchain together beside its final place and moves it there when it has proven itself.
compose() {
  local needed missing="" linkers=$SYSROOT/lib/rustlib/$HOST/bin
  for needed in apt-get dpkg-deb cc ar "$KEYRING" "$linkers/wasm-component-ld"; do
    [ -f "$needed" ] || command -v "$needed" >/dev/null || missing="$missing $needed"
  done
  [ -z "$missing" ] ||
    give_up "rustup could not add it, and for putting one together from Debian's packages this is missing:$missing"
  [ ! -e "$TOOLCHAIN" ] || [ -f "$TOOLCHAIN/stamp" ] ||
    give_up "rustup could not add it, and $TOOLCHAIN, where one would be put together, was not made by this script"

  say "putting one together from Debian's packages in $TOOLCHAIN (once; a few minutes, 200 MB of downloads)"
  NEW=$TOOLCHAIN.new
  rm -rf "$NEW"
  mkdir -p "$NEW/bin" "$NEW/work"
  trap 'rm -rf "$NEW"' EXIT

  unpack_compiler
  borrow_linkers "$linkers"
  unpack_libc
  compile_std
  prove

  (cd "$NEW" && rm -rf work usr/src usr/share)
  echo "$STAMP" >"$NEW/stamp"
  rm -rf "$TOOLCHAIN"
  mv "$NEW" "$TOOLCHAIN"
  echo "composite: $TOOLCHAIN"
}

# Debian's compiler for web browsers (rustc-web: recent in every supported release) with the std sources that belong to
# it, and the libraries that it needs. Worked out against an empty system, so that the result does not depend on what
# happens to be installed; the C library and its kin are the host's own, as its linker is.
unpack_compiler() {
  say "1/3 Debian's rustc-web and rust-web-src"
  private_apt "$NEW/work/compiler" \
    "$(mirror debian) bookworm main" "$(mirror debian-security) bookworm-security main"
  local names
  names=$(apt-get "${APT[@]}" -o Dir::State::status=/dev/null -qq --no-install-recommends -s install libstd-rust-web-dev |
    awk '$1 == "Inst" && $2 !~ /^(libc6|libcrypt1|libgcc-s1|libstdc\+\+6|gcc-[0-9]+-base)$/ { print $2 }')
  # shellcheck disable=SC2086 # a list of words
  unpack "$NEW/work/compiler" "$NEW" rustc-web rust-web-src $names

  # Finds its own root, so that the directory can be moved; without --sysroot it would look in /usr.
  cat >"$NEW/bin/rustc" <<'WRAPPER'
#!/bin/sh
root=${0%/bin/rustc}
for dir in "$root"/usr/lib/*-linux-gnu; do LD_LIBRARY_PATH=$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; done
export LD_LIBRARY_PATH
exec "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
WRAPPER
  chmod +x "$NEW/bin/rustc"
  "$NEW/bin/rustc" -V >&2
}

# cargo, rust-lld and wasm-component-ld are in the toolchain in use already.
borrow_linkers() {
  ln -s "$SYSROOT/bin/cargo" "$NEW/bin/cargo"
  ln -s "$1" "$NEW/usr/lib/rustlib/$HOST/bin"
}

# wasi-libc for wasip2 is in Debian since trixie; it is data, the same for every machine.
unpack_libc() {
  say "2/3 Debian's wasi-libc"
  private_apt "$NEW/work/libc" "$(mirror debian) trixie main"
  unpack "$NEW/work/libc" "$NEW/work/libc" wasi-libc

  local from=$NEW/work/libc/usr/lib/$TARGET into=$NEW/usr/lib/rustlib/$TARGET/lib/self-contained
  mkdir -p "$into"
  cp "$from"/crt1-command.o "$from"/crt1-reactor.o "$into/"
  # Debian keeps the thread functions apart; std refers to them (they fail at run time: a component has no threads).
  if [ -f "$from/libwasi-emulated-pthread.a" ]; then
    (cd "$from" && printf 'CREATE all.a\nADDLIB libc.a\nADDLIB libwasi-emulated-pthread.a\nSAVE\nEND\n' | ar -M)
    cp "$from/all.a" "$into/libc.a"
  else
    cp "$from/libc.a" "$into/"
  fi
}

# The one use of an unstable switch; afterwards the toolchain is an ordinary stable one.
compile_std() {
  say "3/3 compiling the standard library for $TARGET"
  local std=$NEW/work/std version
  version=$("$NEW/bin/rustc" -vV | sed -n 's/^release: //p')
  mkdir -p "$std/src"
  echo '#![no_std]' >"$std/src/lib.rs"
  printf '[package]\nname = "std-only"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$std/Cargo.toml"
  # Bitcode, as in the std that rustup distributes, lets plugins use LTO; paths are remapped so that a plugin's bytes
  # do not depend on where this directory is.
  local flags="-Cembed-bitcode=yes --remap-path-prefix=$NEW/usr/lib/rustlib/src/rust=/rustc/$version \
--remap-path-prefix=$NEW/usr/src/rustc-$version=/rustc/$version \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/rust/deps"
  (
    cd "$std"
    RUSTC=$NEW/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags CARGO_TARGET_DIR=$std/target CARGO_INCREMENTAL=0 \
      "$NEW/bin/cargo" build --quiet --release --target "$TARGET" -Zbuild-std=std,panic_abort >&2
  )
  cp "$std/target/$TARGET/release/deps/"lib*.rlib "$NEW/usr/lib/rustlib/$TARGET/lib/"
  rm "$NEW/usr/lib/rustlib/$TARGET/lib/"libstd_only-*
}

# A library that prints must come out as a component: the header's fourth field is 13 and 1 (a core module has 1 and 0).
prove() {
  local proof=$NEW/work/proof
  mkdir "$proof"
  echo '#[no_mangle] pub extern "C" fn hello() { println!("hello") }' >"$proof/proof.rs"
  (cd "$proof" && "$NEW/bin/rustc" --target "$TARGET" --crate-type cdylib proof.rs -o proof.wasm)
  [ "$(od -An -tx1 -N8 "$proof/proof.wasm" | tr -d ' \n')" = 0061736d0d000100 ] ||
    give_up "the composite toolchain was put together, but what it compiles is not a component"
}

# private_apt DIR SOURCE...: points apt, through the array APT, at these sources alone, with its state below DIR. The
# system's configuration is read (proxies), its sources, pins and hooks are not.
private_apt() {
  local dir=$1 source
  shift
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  for source; do echo "deb [signed-by=$KEYRING] $source"; done >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$dir/lists";
Dir::Cache "$dir/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
CONF
  APT=(-c "$dir/apt.conf")
  apt-get "${APT[@]}" -qq update
}

# unpack DIR INTO PACKAGE...: downloads packages into DIR, then unpacks them without running any script of theirs.
unpack() {
  local dir=$1 into=$2 deb
  shift 2
  (cd "$dir" && apt-get "${APT[@]}" -qq download "$@" >&2)
  for deb in "$dir"/*.deb; do
    dpkg-deb -x "$deb" "$into"
    rm "$deb"
  done
}

# mirror NAME: where this machine gets the archive `debian` or `debian-security` from, else Debian's own address.
mirror() {
  local uri
  uri=$(apt-get indextargets --format "\$(COMPONENT) \$(REPO_URI)" 'Created-By: Packages' |
    awk -v end="/$1/?\$" '$1 == "main" && $2 ~ end { print $2; exit }')
  echo "${uri:-http://deb.debian.org/$1}"
}

give_up() {
  cat >&2 <<MESSAGE
error: no Rust toolchain here can compile plugins for $TARGET: $1
  hint: with rustup (https://rustup.rs), run \`rustup target add $TARGET\`
  hint: on Debian, this script needs apt, debian-archive-keyring, gcc, and Rust as rustup installs it
  hint: a toolchain directory made elsewhere can be named in DOWNBEAT_GUEST_TOOLCHAIN (it holds bin/rustc and bin/cargo)
  hint: a workflow can also name a finished component: its path ends in .wasm
MESSAGE
  exit 1
}

main
