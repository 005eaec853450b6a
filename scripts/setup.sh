#!/bin/sh
# Installs what building nnlua needs (`sh scripts/setup.sh`), with the word `test` also what its tests need; with `cross` a compiler and an emulator for
# aarch64, for scripts/cross.sh. Silent and quick when nothing is missing. Without apt it names the packages and stops with code 1.
set -eu

# The one list of packages.
build="build-essential cmake ninja-build pkg-config liblua5.4-dev libopenblas-dev libhdf5-dev zlib1g-dev libedit-dev libcurl4-openssl-dev \
libjansson-dev libmd-dev libjpeg-dev libpng-dev ca-certificates glslc spirv-tools libvulkan-volk-dev libvulkan-dev"
test="lua5.4 lua-busted lua-check hdf5-tools python3-h5py python3-numpy python3-onnx mesa-vulkan-drivers vulkan-validationlayers"
cross="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

wanted=$build
[ "${1-}" = test ] && wanted="$build $test"
[ "${1-}" = cross ] && wanted=$cross

say() { printf '%s\n' "$*" >&2; }

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-query >/dev/null 2>&1; then
  # Another system: its packages have other names, so look for what they bring.
  missing=
  for tool in cc cmake ninja pkg-config glslc spirv-val; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
  done
  if [ "${1-}" = test ]; then
    for tool in lua5.4 busted luacheck python3; do
      command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
  fi
  for library in lua5.4 openblas hdf5 zlib libedit libcurl jansson libmd libjpeg libpng; do
    pkg-config --exists "$library" >/dev/null 2>&1 || missing="$missing $library"
  done
  # volk is a header and a source file.
  [ -f /usr/include/volk.h ] || [ -f /usr/local/include/volk.h ] || missing="$missing volk"
  [ -z "$missing" ] && exit 0
  say "nnlua: missing:$missing"
  say "nnlua: there is no apt here to install them. These are Debian's names of the packages to install: $wanted"
  exit 1
fi

# shellcheck disable=SC2086 # a list of words
have=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $wanted 2>/dev/null) || true
missing=
for package in $wanted; do
  case "
$have
" in
    *"
$package installed
"*) ;;
    *) missing="$missing $package" ;;
  esac
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    say "nnlua: missing:$missing"
    say "nnlua: install them as root: apt-get install$missing"
    exit 1
  fi
  as_root=sudo
fi

say "nnlua: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1
}
# The lists of a fresh machine are empty or old; fetch them only when they are needed.
if ! install && ! { $as_root apt-get update >"$log" 2>&1 && install; }; then
  cat "$log" >&2
  say "nnlua: the packages could not be installed:$missing"
  exit 1
fi
