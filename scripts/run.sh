#!/bin/sh
# Runs nnlua with the arguments given: `sh scripts/run.sh train_mnist.lua`. Installs what is missing and builds first, when a source has changed since
# the last build; otherwise it is silent and instant.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
built=$root/build/.built
sources="$root/CMakeLists.txt $root/runtime $root/bindings $root/scripts/setup.sh"

# shellcheck disable=SC2086 # a list of paths; folders are compared too, so a deleted file counts
if [ ! -x "$root/build/nnlua" ] || [ ! -e "$built" ] || [ -n "$(find $sources -newer "$built" 2>/dev/null | head -n 1)" ]; then
  sh "$root/scripts/setup.sh"
  mkdir -p "$root/build"
  : >"$built.new" # before the build, so that what changes meanwhile is seen the next time
  sh "$root/scripts/build.sh" "$root/build" nnlua
  mv "$built.new" "$built"
fi
exec "$root/build/nnlua" "$@"
