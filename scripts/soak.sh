#!/bin/sh
# The reliability sweeps at ten times the counts of scripts/test.sh: saving under kill -9, power losses, full disks, corrupted and hostile files,
# training that is killed and goes on, damaged bytecode. At most 90 minutes. Each sweep prints its seed and its count; one that ran fewer cases than
# stated fails.
#
#   sh scripts/soak.sh              all
#   NNLUA_SEED=7 sh scripts/soak.sh other dice
#   NNLUA_SOAK=2 sh scripts/soak.sh twice the counts instead of ten times
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
sh scripts/setup.sh test || exit 1
sh scripts/build.sh "$root/build" all || exit 1
out=$root/build/test-output
mkdir -p "$out"
NNLUA_SOAK=${NNLUA_SOAK:-10} NNLUA_SEED=${NNLUA_SEED:-$(date +%s)}
export NNLUA_SOAK NNLUA_SEED
echo "seed $NNLUA_SEED, $NNLUA_SOAK times the counts"
end=$(($(date +%s) + 5400))
failed=0

# sweep NAME COMMAND...: its output is shown; it must end well, in the time that is left
sweep() {
  name=$1
  shift
  began=$(date +%s)
  left=$((end - began))
  if [ "$left" -lt 10 ]; then
    echo "$name: no time left"
    failed=$((failed + 1))
    return
  fi
  if timeout -k 10 "$left" "$@" >"$out/soak.$name.log" 2>&1; then
    result=passed
  else
    result=failed
    failed=$((failed + 1))
  fi
  cat "$out/soak.$name.log"
  echo "$name: $result in $(($(date +%s) - began)) s"
}

# spec NAME SPEC: a busted spec as a sweep
spec() { sweep "$1" busted --lua="$root/build/nnlua" -o plainTerminal "tests/$2_spec.lua"; }

# at_least NAME COUNT PATTERN: the log says NNLUA_SOAK times so many cases; PATTERN has the number as its group (sed -E)
at_least() {
  want=$(($2 * NNLUA_SOAK))
  count=$(sed -nE "s/.*$3.*/\\1/p" "$out/soak.$1.log" | tail -n 1)
  if [ "${count:-0}" -lt "$want" ]; then
    echo "$1: $want cases wanted, ${count:-none} ran ($3)"
    failed=$((failed + 1))
  fi
}

sweep archive "$root/build/test_archive"
at_least archive 10000 'corruptions and truncations: seed [0-9]+, ([0-9]+) cases'
at_least archive 200 'kill -9 while saving: seed [0-9]+, ([0-9]+) moments'
at_least archive 2000 'power losses: seed [0-9]+, ([0-9]+) states'
sweep hostile "$root/build/fuzz" run hdf5 "$out" cases=$((5000 * NNLUA_SOAK)) "seed=$NNLUA_SEED"
at_least hostile 5000 'hdf5: seed [0-9]+, ([0-9]+) files'
spec corrupted checkpoint
at_least corrupted 10000 'corrupted checkpoints: seed [0-9]+, ([0-9]+) cases'
spec resume resume
at_least resume 200 'kill -9 of training: seed [0-9]+, ([0-9]+) kills'
spec exactness exactness
at_least exactness 20 'mlp: seed [0-9]+, .* ([0-9]+) kills'
at_least exactness 20 'cnn: seed [0-9]+, .* ([0-9]+) kills'
spec bytecode cli
at_least bytecode 5000 'damaged bytecode: seed [0-9]+, ([0-9]+) chunks'
at_least bytecode 5000 'damaged bytecode: seed [0-9]+, ([0-9]+) processes'

echo "$failed failed"
[ "$failed" -eq 0 ]
