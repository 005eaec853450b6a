#!/bin/sh
# Builds nnlua: sh scripts/build.sh FOLDER TARGET [cmake option...]. The options count when FOLDER is new. Says one line before a first build, and
# shows the compiler's words only when it fails.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
folder=$1 target=$2
shift 2
mkdir -p "$folder"

fail() {
  cat "$folder/build.log" >&2
  echo "nnlua: the build failed; $folder/build.log holds the text above" >&2
  exit 1
}
if [ ! -e "$folder/build.ninja" ]; then
  echo "nnlua: building (the first time takes a minute or two)" >&2
  cmake -S "$root" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@" >"$folder/build.log" 2>&1 || fail
fi
cmake --build "$folder" --target "$target" >"$folder/build.log" 2>&1 || fail
