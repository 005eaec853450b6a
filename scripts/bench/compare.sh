#!/bin/sh
# Our figures beside PyTorch's, interleaved so that both see the same machine: each workload runs in a process of its own, system after system, ROUNDS
# times. Prints the least time, the median of the rounds' medians, peak memory, and how many times faster we are (least and median).
# PyTorch runs as installed, with OpenMP's threads sleeping between its loops (passive), and with images channels-last.
# usage: sh scripts/bench/compare.sh [rounds] [name ...]; NNLUA names the program, PYTHON the interpreter, THREADS the number of threads (2),
# NNLUA_BENCH_SECONDS the time for each figure (1.5).
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
nnlua=${NNLUA:-$here/../../build/nnlua} python=${PYTHON:-python3} threads=${THREADS:-2}
NNLUA_BENCH_SECONDS=${NNLUA_BENCH_SECONDS:-1.5} NNLUA_BENCH_PEAK=1
export NNLUA_BENCH_SECONDS NNLUA_BENCH_PEAK
rounds=${1:-3}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- mlp_784_128_10_b64 mlp_784_512_512_10_b128 mnist_cnn_b64 lstm_28x28_h128_b64 resnet20_cifar_b64 chargpt_L4_d128_T64_b12 \
  op_matmul_1024 op_add_4M op_exp_4M op_sum_4M op_softmax_4096x1024 op_layernorm_32768x128 op_layernorm_grad_32768x128 op_chain_4M op_add_64_overhead \
  op_conv3x3_32x64x56 infer_mnist_cnn_b1

torch=yes
if ! "$python" -c 'import torch' 2>/dev/null; then
  torch=no
  echo "skipped: PyTorch (no module torch for $python)"
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT INT TERM

# One line of a workload's output: "name median ms/step (min m, n=k) peak p MB" -> system name median min peak
run() {
  system=$1
  shift
  "$@" 2>/dev/null | sed -n "s/^\([a-z][A-Za-z0-9_]*\)  *\([0-9.e-]*\) ms\/step  (min \([0-9.e-]*\),.*peak \([0-9]*\) MB.*/$system \1 \2 \3 \4/p" >>"$results"
}

ours() {
  case $1 in
  op_* | infer_*) run nnlua "$nnlua" "$here/ops.lua" "$threads" "$1" ;;
  *) run nnlua "$nnlua" "$here/steps.lua" "$threads" "$1" ;;
  esac
}

i=0
while [ "$i" -lt "$rounds" ]; do
  for name; do
    ours "$name"
    [ $torch = yes ] || continue
    run pytorch "$python" "$here/peer_torch.py" "$threads" "$name"
    OMP_WAIT_POLICY=passive run passive "$python" "$here/peer_torch.py" "$threads" "$name"
    case $name in
    *cnn* | *resnet* | *conv*) run channels_last "$python" "$here/peer_torch.py" "$threads" --channels-last "$name" ;;
    esac
  done
  i=$((i + 1))
done

printf '%-28s %-14s %10s %10s %8s %16s\n' workload system 'min ms' 'median ms' 'peak MB' 'min, median x'
sort -k2,2 -k1,1 -k3,3g "$results" | awk -v order="$*" '
  { key = $1 " " $2; n[key]++; med[key, n[key]] = $3
    if (!(key in min) || $4 < min[key]) min[key] = $4
    if ($5 > peak[key]) peak[key] = $5 }
  END {
    count = split(order, name, " ")
    kinds = split("nnlua pytorch passive channels_last", kind, " ")
    for (i = 1; i <= count; i++) for (s = 1; s <= kinds; s++) {
      key = kind[s] " " name[i]
      if (!(key in n)) continue
      m = med[key, int(n[key] / 2) + 1]
      if (s == 1) { own = m; least = min[key] }
      printf "%-28s %-14s %10.5g %10.5g %8d", name[i], kind[s], min[key], m, peak[key]
      if (s > 1 && own > 0) printf " %7.2f %7.2fx", min[key] / least, m / own
      print ""
    }
  }'
