#!/bin/sh
# Damaged files for every reader of files (tests/fuzz/readers.lua), three readers at a time, under AddressSanitizer and
# UndefinedBehaviorSanitizer: a crash, a hang, an error that is raised or more memory than the file vouches for is a failure, whose file is kept.
#
#   sh scripts/fuzz.sh                             10000 files for every reader
#   sh scripts/fuzz.sh seconds=60 png onnx         a minute for each of these two
#   sh scripts/fuzz.sh cases=500 seed=7 release    other dice; the release build, which is quicker and sees less
#   sh scripts/fuzz.sh replay png FILE             a kept file once more
# The last line is `N passed, N failed`: readers.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
build=$root/build-asan option=-DNNLUA_SANITIZE=ON amount='' readers='' replay=''
while [ $# -gt 0 ]; do
  case $1 in
    release) build=$root/build option='' ;;
    *=*) amount="$amount $1" ;;
    replay) replay=$2 file=$3 && shift 2 ;;
    *) readers="$readers $1" ;;
  esac
  shift
done
case $amount in *cases=* | *seconds=*) ;; *) amount="$amount cases=10000" ;; esac
sh scripts/setup.sh test || exit 1
# shellcheck disable=SC2086 # no option at all when empty
sh scripts/build.sh "$build" fuzz $option || exit 1
export ASAN_OPTIONS="${ASAN_OPTIONS:-abort_on_error=0:detect_stack_use_after_return=0:allocator_may_return_null=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$root/tests/leaks.supp:print_suppressions=0}"
[ -z "$replay" ] || exec "$build/fuzz" replay "$replay" "$file"

out=$build/test-output/fuzz
mkdir -p "$out"
rm -f "$out"/*.log
for reader in ${readers:-$("$build/fuzz" list)}; do echo "$reader"; done |
  xargs -P 3 -I READER sh -c "'$build/fuzz' run READER '$out' $amount >'$out/READER.log' 2>&1 || echo 'READER: failed' >>'$out/READER.log'"
passed=0 failed=0
for log in "$out"/*.log; do
  cat "$log"
  if grep -q ': failed$' "$log" || ! grep -q ': 0 failures$' "$log"; then failed=$((failed + 1)); else passed=$((passed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
