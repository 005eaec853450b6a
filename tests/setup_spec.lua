-- scripts/setup.sh, run.sh, test.sh: in a folder of their own, with stand-ins for the programs that they call.
local program = dofile "tests/program.lua"
local core = require "nnlua.core"

describe("the scripts", function()
  local folder
  before_each(function()
    folder = program.folder()
    for _, sub in ipairs { "bin", "tree/scripts", "tree/runtime", "tree/bindings", "tree/tests", "tree/build" } do
      assert(core.sys.mkdir_p(folder .. "/" .. sub))
    end
    for _, name in ipairs { "setup", "run", "test" } do
      program.write(folder .. "/tree/scripts/" .. name .. ".sh", program.read("scripts/" .. name .. ".sh"))
    end
  end)
  after_each(function() program.remove(folder) end)

  -- A program called `name` that notes its arguments in the file `calls` and then does `body`.
  local function stand_in(name, body)
    local path = name:find "/" and folder .. "/" .. name or folder .. "/bin/" .. name
    program.write(path, ('#!/bin/sh\necho "%s $*" >>%s/calls\n%s\n'):format(name, folder, body or ""))
    assert(os.execute("chmod +x " .. path))
  end

  -- Makes the folder's bin the whole PATH but for a few tools that the scripts may use.
  local function sh(line)
    for tool in ("sh cat mktemp rm env find head mkdir mv sed tail basename dirname timeout touch"):gmatch "%S+" do
      os.execute(("ln -sf $(command -v %s) %s/bin/%s"):format(tool, folder, tool))
    end
    local _, _, code = os.execute(("cd %s/tree && env -i PATH=%s/bin %s >../out 2>../err"):format(folder, folder, line))
    local calls = io.open(folder .. "/calls")
    local called = calls and calls:read "a" or ""
    if calls then calls:close() end
    os.remove(folder .. "/calls")
    return code, program.read(folder .. "/out"), program.read(folder .. "/err"), called
  end

  describe("setup.sh", function()
    -- dpkg-query that knows every package but those in `missing`
    local function packages(missing)
      stand_in("dpkg-query", ([[shift 2
for p in "$@"; do case " %s " in *" $p "*) ;; *) echo "$p installed";; esac; done
echo "libmd-dev-docs not-installed"
exit %d]]):format(missing, missing == "" and 0 or 1))
      stand_in("id", "echo 0")
    end

    it("is silent and calls no apt when nothing is missing", function()
      packages ""
      stand_in "apt-get"
      local code, out, err, called = sh "sh scripts/setup.sh test"
      assert.same({ 0, "", "" }, { code, out, err })
      assert.is_nil(called:find "apt-get", 1, true)
    end)

    it("installs what is missing, and nothing else", function()
      packages "libmd-dev lua-busted"
      stand_in "apt-get"
      local code, out, err, called = sh "sh scripts/setup.sh"
      assert.same({ 0, "", "nnlua: installing libmd-dev\n" }, { code, out, err })
      assert.matches("apt%-get install %-y %-%-no%-install%-recommends libmd%-dev\n", called)
      local _, _, _, all = sh "sh scripts/setup.sh test"
      assert.matches("recommends libmd%-dev lua%-busted\n", all)
    end)

    it("installs a compiler for another processor when asked", function()
      packages "qemu-user lua-busted"
      stand_in "apt-get"
      local _, _, _, called = sh "sh scripts/setup.sh cross"
      assert.matches("recommends qemu%-user\n", called)
    end)

    it("fetches the lists and tries again when that fails", function()
      packages "libmd-dev"
      stand_in("apt-get", ('case $1 in update) : >%s/updated;; *) [ -e %s/updated ];; esac'):format(folder, folder))
      local code, _, _, called = sh "sh scripts/setup.sh"
      assert.equal(0, code)
      assert.matches("apt%-get install.*apt%-get update.*apt%-get install", called)
    end)

    it("shows why an installation failed", function()
      packages "libmd-dev"
      stand_in("apt-get", "echo no route; exit 100")
      local code, _, err = sh "sh scripts/setup.sh"
      assert.equal(1, code)
      assert.matches("no route.*could not be installed: libmd%-dev", err)
    end)

    it("names the packages and stops where there is no apt, or no way to become root", function()
      local code, out, err = sh "sh scripts/setup.sh"
      assert.same({ 1, "" }, { code, out })
      assert.matches("missing: cc cmake ninja pkg%-config glslc spirv%-val lua5.4 openblas", err)
      assert.matches("packages to install: build%-essential .*libhdf5%-dev", err)
      packages "libmd-dev"
      stand_in("id", "echo 1000")
      stand_in "apt-get"
      local code2, _, err2, called = sh "sh scripts/setup.sh"
      assert.equal(1, code2)
      assert.matches("as root: apt%-get install libmd%-dev", err2)
      assert.is_nil(called:find "apt-get", 1, true)
      stand_in("sudo", 'shift 0; "$@"')
      local code3, _, _, called3 = sh "sh scripts/setup.sh"
      assert.equal(0, code3)
      assert.matches("sudo env DEBIAN_FRONTEND=noninteractive apt%-get install", called3)
    end)
  end)

  describe("run.sh", function()
    before_each(function()
      stand_in "tree/scripts/setup.sh"
      stand_in("tree/scripts/build.sh", "exit ${BUILD_CODE:-0}")
      stand_in("tree/build/nnlua", 'echo "ran $*"; exit 4')
      program.write(folder .. "/tree/CMakeLists.txt", "")
      program.write(folder .. "/tree/runtime/a.c", "")
    end)

    it("sets up and builds first, and then only when a source has changed", function()
      local code, out, _, called = sh "sh scripts/run.sh a.lua 'b c'"
      assert.same({ 4, "ran a.lua b c\n" }, { code, out })
      assert.matches("setup%.sh.*build%.sh .*/build nnlua\n", called)
      code, out, _, called = sh "sh scripts/run.sh x"
      assert.same({ 4, "ran x\n", "tree/build/nnlua x\n" }, { code, out, called })
      os.execute("sleep 0.02; touch " .. folder .. "/tree/runtime/a.c")
      assert.matches("build%.sh", select(4, sh "sh scripts/run.sh"))
      assert.is_nil(select(4, sh "sh scripts/run.sh"):find "build%.sh")
      os.execute("sleep 0.02; rm " .. folder .. "/tree/runtime/a.c")
      assert.matches("build%.sh", select(4, sh "sh scripts/run.sh"))
    end)

    it("does not run what failed to build, now or the next time", function()
      for _ = 1, 2 do
        local code, out, _, called = sh "BUILD_CODE=1 sh scripts/run.sh"
        assert.same({ 1, "" }, { code, out })
        assert.matches("build%.sh", called)
      end
    end)
  end)

  describe("test.sh", function()
    local function summary(text, code) return ("echo '%s'; exit %d"):format(text, code or 0) end
    local function world(o)
      stand_in "tree/scripts/setup.sh"
      stand_in("tree/scripts/build.sh", o.build)
      stand_in("tree/scripts/cross.sh", o.cross or "echo 0 passed, 0 failed")
      stand_in("tree/scripts/fuzz.sh", o.fuzz or "echo 0 passed, 0 failed")
      stand_in("ctest", ([[for a; do last=$a; done
[ -n '%s' ] && printf '<testsuite name="x"\n\t%s\n>' >"$last"
exit %d]]):format(o.ctest or "", o.ctest or "", o.ctest_code or 0))
      stand_in("luacheck", o.luacheck)
      stand_in("busted", ("case $* in *one_spec*) %s;; *) %s;; esac"):format(o.one, o.two or o.one))
      program.write(folder .. "/tree/tests/one_spec.lua", "")
      program.write(folder .. "/tree/tests/two_spec.lua", "")
      local code, out, _, called = sh "sh scripts/test.sh"
      return { out:match "([^\n]*)\n$", code }, out, called
    end
    local ctest = 'tests="5" failures="0" disabled="0" skipped="1"'
    local fine = summary "12 successes / 0 failures / 0 errors / 0 pending : 0.1 seconds"

    it("adds up C tests, specs and luacheck", function()
      assert.same({ "29 passed, 0 failed, 1 skipped", 0 }, (world { ctest = ctest, one = fine }))
      local ended, out = world { ctest = ctest, one = summary "1 success / 0 failures / 0 errors / 2 pending : 0.1 seconds", two = fine }
      assert.same({ "18 passed, 0 failed, 3 skipped", 0 }, ended)
      assert.matches("one_spec: 1 passed, 0 failed, 2 skipped", out)
    end)

    it("runs specs again that exist", function()
      local text, n = program.read "scripts/test.sh", 0
      for _, list in ipairs { "eager_too", "on_device" } do
        for name in text:match("\n" .. list .. '="(.-)"'):gmatch "%g+" do
          assert(program.read("tests/" .. name .. "_spec.lua"))
          n = n + 1
        end
      end
      assert.is_true(n > 30)
    end)

    it("counts failures of every kind", function()
      assert.same({ "15 passed, 4 failed", 1 },
        (world { ctest = 'tests="5" failures="2" disabled="0" skipped="0"', ctest_code = 8,
          one = summary("5 successes / 1 failure / 1 error / 0 pending : 1", 2),
          two = summary "6 successes / 0 failures / 0 errors / 0 pending : 1" }))
      assert.same({ "28 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, luacheck = "exit 1" }))
    end)

    it("counts the tests for another processor, which may be skipped or fail", function()
      assert.same({ "36 passed, 0 failed, 1 skipped", 0 }, (world { ctest = ctest, one = fine, cross = "echo 7 passed, 0 failed" }))
      assert.same({ "29 passed, 0 failed, 2 skipped", 0 }, (world { ctest = ctest, one = fine, cross = "echo skipped: aarch64: no qemu; exit 77" }))
      assert.same({ "35 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, cross = "echo 6 passed, 1 failed; exit 1" }))
      assert.same({ "29 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, cross = "echo 6 passed, 0 failed; exit 1" }))
      assert.same({ "29 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, cross = "exit 2" }))
    end)

    it("counts the readers that were given damaged files: by seconds where it is told so, else a few files", function()
      local ended, _, called = world { ctest = ctest, one = fine, fuzz = "echo 7 passed, 0 failed" }
      assert.same({ "43 passed, 0 failed, 1 skipped", 0 }, ended)
      assert.matches("fuzz%.sh release cases=300\n", called)
      assert.matches("fuzz%.sh release cases=5000 hdf5\n", called)
      assert.same({ "41 passed, 2 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, fuzz = "echo 6 passed, 1 failed; exit 1" }))
      assert.same({ "29 passed, 2 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine, fuzz = "exit 2" }))
      assert.matches("fuzz%.sh seconds=60\n", select(4, sh "NNLUA_FUZZ_SECONDS=60 sh scripts/test.sh"))
    end)

    it("counts what crashes or says nothing as a failure", function()
      assert.same({ "17 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = "kill -SEGV $$", two = fine }))
      assert.same({ "17 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = "exit 0", two = fine }))
      -- all tests passed, and then it died
      assert.same({ "29 passed, 1 failed, 1 skipped", 1 }, (world { ctest = ctest, one = fine:gsub("exit 0", "exit 139"), two = fine }))
      assert.same({ "25 passed, 1 failed", 1 }, (world { ctest_code = 0, one = fine }))
      assert.same({ "25 passed, 1 failed", 1 }, (world { ctest = ctest, ctest_code = 8, one = fine }))
      assert.same({ "0 passed, 1 failed", 1 }, (world { ctest = ctest, one = fine, build = "exit 1" }))
    end)
  end)

  it("hold for any shell, and .ci/run is test.sh with a minute of damaged files for each reader", function()
    for _, file in ipairs { "scripts/setup.sh", "scripts/build.sh", "scripts/run.sh", "scripts/test.sh", "scripts/cross.sh", "scripts/fuzz.sh",
      ".ci/run" } do
      assert(os.execute("sh -n " .. file))
      assert.matches("^#!/bin/sh\n", program.read(file))
    end
    assert.equal('#!/bin/sh\nNNLUA_FUZZ_SECONDS=60 exec sh "$(dirname -- "$0")/../scripts/test.sh"\n', program.read ".ci/run")
  end)
end)
