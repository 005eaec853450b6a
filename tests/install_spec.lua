-- What `cmake --install` puts where, and the library in a stock lua5.4. CMakeLists.txt, bindings/main.c.
local program = dofile "tests/program.lua"
local core = require "nnlua.core"

local build = program.path and program.path:match "^(.*)/nnlua$"
local can_install = build and core.sys.file_exists(build .. "/cmake_install.cmake") and core.sys.file_exists(build .. "/lib/lua/5.4/nnlua/core.so")
local sanitized = os.getenv "ASAN_OPTIONS" ~= nil

describe("an installed nnlua", function()
  local folder
  setup(function()
    folder = program.folder()
    if can_install then
      assert(os.execute(("cmake --install %s --prefix %s/new >/dev/null"):format(program.quote(build), folder)))
      assert(os.rename(folder .. "/new", folder .. "/moved")) -- it does not know where it was installed
      assert(core.sys.mkdir_p(folder .. "/elsewhere"))
    end
  end)
  teardown(function() program.remove(folder) end)

  local function spec(name, test)
    it(name, function()
      if not can_install then return pending "the program does not run from a complete build folder" end
      test(folder .. "/moved")
    end)
  end

  spec("runs from any folder, wherever it lies, with its own files", function(prefix)
    local source = "local nn = require 'nnlua' print(nn.ones { 2 }:sum():item(), package.searchpath('nnlua', package.path))"
    local out, err, code = program.run({ "-e", source }, { exe = prefix .. "/bin/nnlua", cwd = folder .. "/elsewhere" })
    assert.same({ "2.0\t" .. prefix .. "/share/lua/5.4/nnlua/init.lua\n", "", 0 }, { out, err, code })
    out, err, code = program.run({ "train_mnist.lua", "--help" }, { exe = prefix .. "/bin/nnlua", cwd = folder .. "/elsewhere" })
    assert.same({ "", 0 }, { err, code })
    assert.matches("^usage: nnlua train_mnist%.lua", out)
  end)

  spec("has the interactive mode with its editor, HDF5, images and downloads beside it", function(prefix)
    for _, file in ipairs { "lib/lua/5.4/nnlua/edit.so", "lib/libnn_hdf5.so", "lib/libnn_curl.so", "lib/libnn_image.so",
      "include/nn.h", "lib/libnn.so" } do
      assert.is_true(core.sys.file_exists(prefix .. "/" .. file), file)
    end
    assert.matches("\n> 4\n", (program.run({ "-i" }, { exe = prefix .. "/bin/nnlua", stdin = "2 + 2\n" })))
  end)

  spec("holds at most 10 MB", function(prefix)
    if sanitized then return end
    local pipe = io.popen("du -sk " .. prefix)
    local kilobytes = tonumber(pipe:read "a":match "^%d+")
    pipe:close()
    assert.is_true(kilobytes <= 10 * 1024, kilobytes)
  end)

  spec("is a library for a stock lua5.4, which keeps its own ways", function(prefix)
    if sanitized then return end -- a stock program has no sanitizer
    local pipe = io.popen "command -v lua5.4"
    local stock = pipe:read "l"
    pipe:close()
    if not stock then return pending "there is no lua5.4" end
    local code = [[
      local before = { load, dofile, loadfile, require, package.searchers[2], coroutine.resume, coroutine.wrap, debug.gethook() }
      local nn = require "nnlua"
      print(nn.ones { 2, 3 }:sum():item(), nn.sys.interrupted())
      local after = { load, dofile, loadfile, require, package.searchers[2], coroutine.resume, coroutine.wrap, debug.gethook() }
      for i = 1, 8 do assert(before[i] == after[i], i) end
      assert(load(string.dump(load "return 1")))
      print(nn.sys.load_text(string.dump(load "return 1"), "=x"))
      print(#arg, package.path:match "^[^;]*")]]
    local env = ("LUA_PATH='%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua' LUA_CPATH='%s/lib/lua/5.4/?.so'"):format(prefix, prefix, prefix)
    local out, err, rc = program.run({ "-e", code }, { exe = stock, env = env })
    assert.same({ "", 0 }, { err, rc })
    assert.matches("^6%.0\tfalse\nnil\tattempt to load a binary chunk.*\n2\t" .. prefix:gsub("%p", "%%%0"), out)
  end)
end)
