#!/bin/sh
# Whole MNIST epochs, ours beside PyTorch's: the scripts as users run them, data pipeline, validation and metrics included, system after system, ROUNDS
# times. Prints for each the seconds of an epoch (least, median) and of the whole script divided by its epochs, and how many times faster we are.
# PyTorch: a DataLoader over a TensorDataset in memory as installed and with OpenMP's threads sleeping between loops (passive), and batches cut out by an
# index instead of the DataLoader (indexed).
# usage: NNLUA_DATA=DIR sh scripts/bench/epochs.sh [rounds] [model ...]: DIR holds mnist/ with its four files; NNLUA, PYTHON, THREADS as in compare.sh;
# EPOCHS (2) of each run.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
nnlua=${NNLUA:-$here/../../build/nnlua} python=${PYTHON:-python3} threads=${THREADS:-2} epochs=${EPOCHS:-2}
data=${NNLUA_DATA:?names the folder that holds mnist}/mnist
rounds=${1:-3}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- mlp cnn
torch=yes
if ! "$python" -c 'import torch' 2>/dev/null; then
  torch=no
  echo "skipped: PyTorch (no module torch for $python)"
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT INT TERM

# "epoch 1/2  1.2 s  ..." or "epoch 1 1.2 s  ..." -> model system seconds whole
run() {
  system=$1 model=$2
  shift 2
  begin=$(date +%s%N)
  "$@" --model "$model" --epochs "$epochs" --threads "$threads" >"$results.out" 2>&1 || { cat "$results.out" >&2; exit 1; }
  whole=$((($(date +%s%N) - begin) / 1000 / epochs))
  sed -n "s,^epoch [0-9/]*  *\([0-9.]*\) s .*,$model $system \1 $whole,p" "$results.out" >>"$results"
  rm -f "$results.out"
}
i=0
while [ "$i" -lt "$rounds" ]; do
  for model; do
    run nnlua "$model" "$nnlua" "$here/../train_mnist.lua" --data "$data"
    [ $torch = yes ] || continue
    run pytorch "$model" "$python" "$here/epochs_torch.py" --data "$data"
    OMP_WAIT_POLICY=passive run passive "$model" "$python" "$here/epochs_torch.py" --data "$data"
    run indexed "$model" "$python" "$here/epochs_torch.py" --data "$data" --indexed
  done
  i=$((i + 1))
done

printf '%-6s %-10s %12s %12s %14s %24s\n' model system 'epoch min s' 'median s' 'script/epochs' 'min, median, script x'
sort -k1,2 -k3,3g "$results" | awk -v order="$*" '
  { key = $1 " " $2; n[key]++; all[key, n[key]] = $3; if (!(key in whole) || $4 < whole[key]) whole[key] = $4 }
  END {
    count = split(order, name, " ")
    kinds = split("nnlua pytorch passive indexed", kind, " ")
    for (i = 1; i <= count; i++) for (s = 1; s <= kinds; s++) {
      key = name[i] " " kind[s]
      if (!(key in n)) continue
      m = all[key, int((n[key] + 1) / 2)]
      if (s == 1) { own = m; least = all[key, 1]; script = whole[key] }
      printf "%-6s %-10s %12.4g %12.4g %14.4g", name[i], kind[s], all[key, 1], m, whole[key] / 1e6
      if (s > 1) printf " %7.2f %7.2f %7.2fx", all[key, 1] / least, m / own, whole[key] / script
      print ""
    }
  }'
