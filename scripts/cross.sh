#!/bin/sh
# Builds nnlua for aarch64 in build-aarch64 and runs the tests of its kernels, the library's own and a few specs there, under qemu as a processor of the
# first generation (ARMv8.0). Needs the packages that `setup.sh cross` installs; the libraries come as Debian's arm64 packages, unpacked into
# build-aarch64/root: nothing of the system changes. scripts/test.sh calls this.
# The last line is `N passed, N failed`; what is missing is said in one line, with code 77.
set -u
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
build=$root/build-aarch64 sysroot=$root/build-aarch64/root
libraries=/usr/lib/aarch64-linux-gnu
packages="liblua5.4-dev libopenblas0-pthread libhdf5-dev zlib1g-dev libedit-dev libcurl4-openssl-dev libjansson-dev libmd-dev libjpeg62-turbo-dev libpng-dev libgcc-s1 lua-busted"
tests="vm kernels program conv core base index"
specs="tensor autograd layers optim training checkpoint"

# Called by a fresh machine's test run: what can't be installed is left out, not a failure.
skip() {
  echo "skipped: aarch64: $1"
  exit 77
}
[ "$(uname -m)" = x86_64 ] || skip "only an x86-64 machine emulates it"
sh scripts/setup.sh cross >/dev/null 2>&1
for tool in apt-get dpkg-deb aarch64-linux-gnu-gcc qemu-aarch64 cmake ninja busted; do
  command -v "$tool" >/dev/null 2>&1 || skip "no $tool"
done

# The arm64 packages and all that they depend on, by an apt with a state of its own.
fetch() {
  apt=$build/apt
  rm -rf "$apt" "$sysroot"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$sysroot" && : >"$apt/status" || return 1
  set -- -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)"
  # shellcheck disable=SC2086 # a list of words
  apt-get "$@" update && apt-get "$@" install -y --no-install-recommends --download-only $packages || return 1
  for file in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$file" "$sysroot" || return 1; done
  find "$sysroot" -type l -lname '/*' | while read -r link; do ln -sfn "$sysroot$(readlink "$link")" "$link"; done
  ln -sfn hdf5-serial.pc "$sysroot$libraries/pkgconfig/hdf5.pc" # the alternatives that an installation would set
  ln -sfn openblas-pthread/libopenblas.so.0 "$sysroot$libraries/libopenblas.so.0"
  rm -rf "$apt"
  echo "$packages" >"$sysroot/.packages"
}
mkdir -p "$build"
if [ "$(cat "$sysroot/.packages" 2>/dev/null)" != "$packages" ]; then
  fetch >"$build/fetch.log" 2>&1 || skip "Debian's arm64 packages could not be fetched ($build/fetch.log)"
fi

sh scripts/build.sh "$build" all -DCMAKE_TOOLCHAIN_FILE="$root/scripts/aarch64.cmake" -DNNLUA_SYSROOT="$sysroot" -DNNLUA_VULKAN=OFF || {
  echo "aarch64: the build failed"
  echo "0 passed, 1 failed"
  exit 1
}

passed=0 failed=0
verdict() {
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    cat "$3"
    echo "aarch64: $1 failed (code $2)"
  fi
}
NNLUA_TEST_SHARE=15
export NNLUA_TEST_SHARE
log=$build/test.log
ctest --test-dir "$build" -R "^c_($(echo "$tests" | tr ' ' '|'))\$" -j 2 --timeout 600 --output-on-failure >"$log" 2>&1
# "89% tests passed, 1 tests failed out of 9"
counts=$(sed -n 's/.* \([0-9][0-9]*\) tests failed out of \([0-9][0-9]*\)$/\1 \2/p' "$log")
[ -n "$counts" ] || counts="1 1"
failed=${counts% *} passed=$((${counts#* } - ${counts% *}))
[ "${failed:-1}" -eq 0 ] || cat "$log"

cat >"$build/emulated" <<END
#!/bin/sh
exec qemu-aarch64 -cpu cortex-a72 -L "$sysroot" "$build/nnlua" "\$@"
END
chmod +x "$build/emulated"
for name in $specs; do
  timeout -k 10 600 busted --lua="$build/emulated" -o plainTerminal "tests/${name}_spec.lua" >"$log" 2>&1
  verdict "${name}_spec" $? "$log"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
