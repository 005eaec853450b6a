#!/bin/sh
# Installs what is missing, builds, and runs every test: C tests under ctest, busted specs with our nnlua, luacheck.
# The last line is `N passed, N failed` (`, N skipped`); the exit code is 0 when nothing failed.
#
#   sh scripts/test.sh                      all tests
#   sh scripts/test.sh options repl         the specs tests/options_spec.lua and tests/repl_spec.lua only
#   sh scripts/test.sh vulkan               the specs that also run on a Vulkan device, there
#   NNLUA_FUZZ_SECONDS=60 sh scripts/test.sh   all, and every reader of files is given damaged ones for a minute (scripts/fuzz.sh), as CI does
#   NNLUA_SANITIZE=1 sh scripts/test.sh     under AddressSanitizer and UndefinedBehaviorSanitizer: C tests and most specs
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1

# Specs that the sanitizers leave out: they try Lua code alone, or the scripts and not the program.
unsanitized=" class options progress setup course "

# Specs that run a second time with every call run by itself (NNLUA_EAGER=1). The battery compares both modes itself.
eager_too="autograd batchnorm checkpoint dtypes errors functional gradient_functions graph health index layers layers_more library linalg losses
  losses_list losses_pairs metrics module norm_layers ops optim optim_matrix optim_rules other_layers profile random_graphs recurrent tensor training"

passed=0 failed=0 skipped=0
count() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }
finish() {
  text="$passed passed, $failed failed"
  [ "$skipped" -gt 0 ] && text="$text, $skipped skipped"
  echo "$text"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}
give_up() {
  echo "$1" >&2
  count 0 1 0
  finish
}

if [ "${NNLUA_SANITIZE:-0}" = 1 ]; then
  build=$root/build-asan option=-DNNLUA_SANITIZE=ON
  export ASAN_OPTIONS="${ASAN_OPTIONS:-abort_on_error=0:detect_stack_use_after_return=0:allocator_may_return_null=1}"
  export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
  export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$root/tests/leaks.supp:print_suppressions=0}"
else
  build=$root/build option=
fi
sh scripts/setup.sh test || give_up "the set-up failed"
# shellcheck disable=SC2086 # no option at all when empty
sh scripts/build.sh "$build" all $option || give_up "the build failed"
out=$build/test-output
mkdir -p "$out"

# number ATTRIBUTE FILE: the value of an attribute of the root element of ctest's report
number() { sed -n "s/.*[[:space:]]$1=\"\([0-9][0-9]*\)\".*/\1/p" "$2" | head -n 1; }

run_ctest() {
  report=$out/ctest.xml
  rm -f "$report"
  ctest --test-dir "$build" --output-on-failure --timeout 600 --output-junit "$report" >"$out/ctest.log" 2>&1
  code=$?
  total=$(number tests "$report") bad=$(number failures "$report") off=$(number disabled "$report") skip=$(number skipped "$report")
  if [ -z "$total" ] || { [ "$code" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; }; then
    cat "$out/ctest.log"
    echo "ctest did not finish (code $code)"
    count 0 1 0
    return
  fi
  none=$((${off:-0} + ${skip:-0}))
  [ "$bad" -ne 0 ] || [ "$none" -ne 0 ] && cat "$out/ctest.log"
  echo "ctest: $((total - bad - none)) passed, $bad failed, $none skipped"
  count $((total - bad - none)) "$bad" "$none"
}

# run_spec FILE [MODE]: one process per spec, so that a crash or a hang costs one spec and has a name.
run_spec() {
  name=$(basename "$1" .lua)${2:+ ($2)} log=$out/$(basename "$1" .lua)${2:+.$2}.log
  timeout -k 10 900 busted --lua="$build/nnlua" -o plainTerminal "$1" >"$log" 2>&1
  code=$?
  # "12 successes / 0 failures / 1 error / 0 pending : 0.01 seconds", "1 success / ..."
  summary=$(sed -n 's,^\([0-9][0-9]*\) success[es]* / \([0-9][0-9]*\) failures* / \([0-9][0-9]*\) errors* / \([0-9][0-9]*\) pending.*,\1 \2 \3 \4,p' \
    "$log" | tail -n 1)
  if [ -z "$summary" ]; then
    cat "$log"
    echo "$name: did not finish (code $code)"
    count 0 1 0
    return
  fi
  # shellcheck disable=SC2086
  set -- $summary
  bad=$(($2 + $3))
  [ "$code" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1 # it died after its last test
  [ "$bad" -ne 0 ] || [ "$4" -ne 0 ] && cat "$log"
  echo "$name: $1 passed, $bad failed, $4 skipped"
  count "$1" "$bad" "$4"
}

# again SPEC MODE: a spec of the lists below, in another mode (tests/setup_spec.lua looks whether all of them exist)
again() {
  [ ! -e "tests/$1_spec.lua" ] || run_spec "tests/$1_spec.lua" "$2"
}

# These once more with every tensor on the first Vulkan device, watched by the validation layers: a message of theirs fails the process. What the device says
# it has not (f64, LAPACK) is counted among the skipped.
on_device="ops functional autograd gradient_functions layers layers_more conv_layers norm_layers attention_layers recurrent_layers other_layers functional_models
  initializers regularizers losses losses_list losses_pairs metrics optim optim_rules optim_matrix policy recurrent batchnorm training callbacks health graph jit profile
  modes index positions errors tensor module checkpoint random_graphs augmentation_layers
  library library_functions optim_torch wrong_use training_weights training_fit"
run_on_device() {
  if ! NNLUA_DEVICE=vulkan "$build/nnlua" -e 'require "nnlua"' >"$out/device.log" 2>&1; then
    for spec in $on_device; do
      [ -e "tests/${spec}_spec.lua" ] || continue
      echo "${spec}_spec (vulkan): skipped: $(head -n 1 "$out/device.log")"
      count 0 0 1
    done
    return
  fi
  NNLUA_DEVICE=vulkan NNLUA_VK_VALIDATE=1
  export NNLUA_DEVICE NNLUA_VK_VALIDATE
  for spec in $on_device; do again "$spec" vulkan; done
  unset NNLUA_DEVICE NNLUA_VK_VALIDATE
}

if [ "${1:-}" = vulkan ]; then
  run_on_device
  finish
fi
if [ $# -gt 0 ]; then
  for name in "$@"; do run_spec "tests/${name%_spec}_spec.lua"; done
  finish
fi

# Damaged files for every reader, one count each; the arguments are scripts/fuzz.sh's.
run_fuzz() {
  sh scripts/fuzz.sh "$@" >"$out/fuzz.log" 2>&1
  code=$?
  # shellcheck disable=SC2046 # two words
  set -- $(tail -n 1 "$out/fuzz.log" | sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p')
  [ $# -eq 2 ] && { [ "$code" -eq 0 ] || [ "$2" -ne 0 ]; } || set -- 0 1
  [ "$2" -eq 0 ] || cat "$out/fuzz.log"
  echo "fuzz: $1 passed, $2 failed"
  count "$1" "$2" 0
}

run_ctest
# A few hundred each with this build, or with NNLUA_FUZZ_SECONDS=n so many seconds each under the sanitizers; 5000 for the reader of foreign HDF5.
if [ -n "${NNLUA_FUZZ_SECONDS:-}" ]; then run_fuzz "seconds=$NNLUA_FUZZ_SECONDS"
elif [ -n "$option" ]; then run_fuzz cases=300
else run_fuzz release cases=300
fi
[ -n "$option" ] || run_fuzz release cases=5000 hdf5
for spec in tests/*_spec.lua; do
  if [ -n "$option" ]; then
    case $unsanitized in *" $(basename "$spec" _spec.lua) "*) continue ;; esac
  fi
  run_spec "$spec"
done
[ -n "$option" ] || run_on_device
[ -n "$option" ] && finish

# The same program for another processor: its count is the last line; code 77 says that this machine can't.
run_cross() {
  sh scripts/cross.sh >"$out/cross.log" 2>&1
  code=$?
  line=$(tail -n 1 "$out/cross.log")
  if [ "$code" -eq 77 ]; then
    echo "$line"
    count 0 0 1
    return
  fi
  # shellcheck disable=SC2046 # two words
  set -- $(echo "$line" | sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p')
  [ $# -eq 2 ] && { [ "$code" -eq 0 ] || [ "$2" -ne 0 ]; } || set -- 0 1
  [ "$2" -eq 0 ] || cat "$out/cross.log"
  echo "aarch64: $1 passed, $2 failed"
  count "$1" "$2" 0
}
run_cross

for name in $eager_too; do NNLUA_EAGER=1 again "$name" eager; done
if luacheck -q --no-color . >"$out/luacheck.log" 2>&1; then
  count 1 0 0
else
  cat "$out/luacheck.log"
  count 0 1 0
fi
finish
