#!/bin/sh
# Our figures on a Vulkan device beside PyTorch's on CUDA: first what the driver says of the device, then every workload in a process of its own, ours and
# theirs in turns, ROUNDS times. A line per workload: least times, how many times faster we are, and the least that is wanted.
# usage: sh scripts/bench/gpu.sh [rounds] [name ...]; DEVICE (vulkan), NNLUA names the program, PYTHON the interpreter, NNLUA_BENCH_SECONDS the time
# for each figure (1.5), NNLUA_BENCH_MB and NNLUA_BENCH_N the sizes of large.lua. Products are also printed in TFLOP/s.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$here/../../build
nnlua=${NNLUA:-$build/nnlua} python=${PYTHON:-python3} device=${DEVICE:-vulkan} side=${NNLUA_BENCH_N:-4096}
NNLUA_BENCH_SECONDS=${NNLUA_BENCH_SECONDS:-1.5}
export NNLUA_BENCH_SECONDS
rounds=${1:-3}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- large_add large_exp large_chain large_sum large_adam large_softmax large_layernorm large_matmul_f32 large_matmul_f16 \
  op_conv3x3_32x64x56 mlp_784_128_10_b64 mlp_784_512_512_10_b128 mnist_cnn_b64 lstm_28x28_h128_b64 resnet20_cifar_b64 chargpt_L4_d128_T64_b12

DEVICE=$device "$nnlua" -e 'local nn = require "nnlua"
print(nn.devices())
local properties = rawget(nn, "device_properties") -- limits, heaps, both lists of cooperative matrices
if properties then print((assert(properties(os.getenv "DEVICE")))) end'
torch=yes
if ! "$python" -c 'import torch; assert torch.cuda.is_available(); print("PyTorch", torch.__version__, torch.cuda.get_device_name())' 2>/dev/null; then
  torch=no
  echo "skipped: PyTorch on CUDA (no module torch for $python, or no CUDA device)"
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT INT TERM

# system name median least
run() {
  system=$1
  shift
  "$@" 2>/dev/null | sed -n "s/^\([a-z][A-Za-z0-9_]*\)  *\([0-9.e-]*\) ms\/step  (min \([0-9.e-]*\),.*/$system \1 \2 \3/p" >>"$results"
}

i=0
while [ "$i" -lt "$rounds" ]; do
  for name; do
    case $name in
    large_*) file=large ;;
    op_* | infer_*) file=ops ;;
    *) file=steps ;;
    esac
    run nnlua "$nnlua" "$here/$file.lua" --device "$device" "$name"
    [ $torch = no ] || run pytorch "$python" "$here/peer_torch.py" --device cuda "$name"
  done
  i=$((i + 1))
done

printf '%-28s %12s %12s %9s %8s\n' workload 'nnlua ms' 'pytorch ms' faster wanted
awk -v order="$*" -v side="$side" '
  { key = $1 " " $2; if (!(key in least) || $4 < least[key]) least[key] = $4 }
  function wanted(name) {
    if (name ~ /matmul_f16/) return "150 TFLOP/s"
    if (name ~ /matmul/) return "0.5x"
    if (name ~ /^op_conv/) return "0.4x"
    return name ~ /^large/ ? "0.9x" : "1x"
  }
  END {
    count = split(order, name, " ")
    for (i = 1; i <= count; i++) {
      ours = least["nnlua " name[i]]; theirs = least["pytorch " name[i]]
      printf "%-28s %12s %12s %9s %8s", name[i], ours == "" ? "failed" : ours, theirs == "" ? "-" : theirs,
        ours != "" && theirs != "" ? sprintf("%.2fx", theirs / ours) : "-", wanted(name[i])
      n = name[i] ~ /matmul_f16/ ? 2 * side : side
      if (name[i] ~ /^large_matmul/ && ours > 0) printf "  %.1f TFLOP/s", 2 * n * n * n / ours / 1e9
      print ""
    }
  }' "$results"
