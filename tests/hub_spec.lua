-- lua/nnlua/hub.lua: handles, pins and the cache, against a server of our own on the loopback that has every fault; archives. Nothing here leaves
-- this machine.
local nn = require "nnlua"
local core = require "nnlua.core"
local zip = require "nnlua.zip"
local sys = core.sys
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local files = dofile(here .. "files.lua")
local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
local tls = dofile(here .. "tls.lua")
local shell = tls.shell
local new_folder, write, read = files.folder, files.write, files.read


teardown(files.clean)

local BODY = ("0123456789abcdef"):rep(4096)
local WRONG = ("0"):rep(64)

describe("SHA-256", function()
  it("is the standard's", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", core.sha256 "abc")
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", core.sha256 "")
    local folder = new_folder()
    write(folder .. "/f", BODY)
    assert.equal(core.sha256(BODY), core.sha256_file(folder .. "/f"))
    assert.truthy(select(2, core.sha256_file(folder)):find "not a file")
    assert.truthy(select(2, core.sha256_file(folder .. "/none")):find "none")
    assert.same({ "f" }, sys.list_folder(folder))
    assert.is_nil((sys.list_folder(folder .. "/f")))
  end)
end)

describe("handles", function()
  local function raises(text, ...)
    local ok, message = pcall(nn.hub.fetch, ...)
    assert.is_false(ok)
    assert.truthy(message:find(text, 1, true), message)
  end

  it("that are none say so, without what is secret in them", function()
    raises("only https addresses are fetched", "http://example.org/x.h5")
    raises("only https addresses are fetched", "file:///etc/passwd")
    local ok, message = pcall(nn.hub.fetch, "ftp://me:secret@example.org/x?token=1")
    assert.is_false(ok)
    assert.truthy(message:find("hub: ftp://example.org/x: only", 1, true), message)
    raises('did you mean "mobilenet_v2"?', "keras:mobilenetv2")
    raises("64 hexadecimal digits", "x.h5#sha256=12")
    raises("name different files", "x.h5#sha256=" .. WRONG, { sha256 = ("1"):rep(64) })
    raises("a handle is", "")
    raises("a handle is", 7)
    raises("unknown option", "x.h5", { sha = WRONG })
  end)

  it("are files and folders of this machine, pinned or not", function()
    local folder = new_folder()
    write(folder .. "/x.bin", BODY)
    assert.equal(folder .. "/x.bin", nn.hub.fetch(folder .. "/x.bin"))
    assert.equal(folder, nn.hub.fetch(folder))
    assert.equal(folder .. "/x.bin", nn.hub.fetch(folder .. "/x.bin#sha256=" .. core.sha256(BODY):upper()))
    local path, message = nn.hub.fetch(folder .. "/x.bin", { sha256 = WRONG })
    assert.is_nil(path)
    assert.truthy(message:find("SHA-256 " .. core.sha256(BODY) .. ", expected " .. WRONG, 1, true), message)
    assert.truthy(select(2, nn.hub.fetch(folder .. "/none")):find "no such file")
    assert.truthy(select(2, nn.hub.rm(folder)):find "is a path")
  end)

  it("load the model of a file, and the only one of a folder", function()
    local folder = new_folder()
    local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 2 } }
    assert.truthy(select(2, nn.hub.load(folder)):find "holds no model")
    assert(model:save(folder .. "/one.keras"))
    local x = nn.ones(1, 3)
    for _, handle in ipairs { folder, folder .. "/one.keras" } do assert.same(model(x):totable(), assert(nn.hub.load(handle))(x):totable()) end
    write(folder .. "/two.h5", "")
    assert.truthy(select(2, nn.hub.load(folder)):find "holds 2 models")
  end)

  it("name what Keras publishes", function()
    local cache = new_folder()
    for _, name in ipairs(nn.hub.names()) do
      for _, top in ipairs { true, false } do
        local path, message = nn.hub.fetch("keras:" .. name, { cache = cache, offline = true, include_top = top })
        assert.is_nil(path)
        assert.equal(("hub: keras:%s is not in the cache, and the hub is offline"):format(name), message)
      end
    end
    assert.truthy(select(2, nn.hub.fetch("keras:mobilenet", { alpha = 0.3 })):find "alpha = 0.3")
  end)
end)

describe("the hub fetches", function()
  local dir, port, pid

  setup(function()
    dir = new_folder()
    if not tls.certificate(dir) or not os.execute(python .. " -c 'import ssl, http.server' 2>/dev/null") then return end
    local server = here:sub(1, 1) == "/" and here or shell("pwd"):gsub("\n", "") .. "/" .. here
    pid = tls.start(dir, ("%s '%s/hub_server.py' cert key port"):format(python, server))
    for _ = 1, 100 do
      if sys.file_type(dir .. "/port") == "file" then break end
      sys.sleep(0.05)
    end
    port = read(dir .. "/port")
  end)
  teardown(function() tls.stop(pid) end)

  -- Runs Lua in a process that trusts the server; `url(path)` is an address there, `hub` the library's. Gives what it printed.
  local function run(source, variables)
    write(dir .. "/script.lua", ([[
      local nn = require "nnlua"
      local hub = nn.hub
      local function url(path) return "https://localhost:%s/" .. path end
      local function try(...) local path, message = hub.fetch(...) print(path and "ok" or message) return path end
    ]]):format(port) .. source)
    return (shell(("env %s SSL_CERT_FILE='%s/cert' NNLUA_HUB='%s/hub' '%s' '%s/script.lua' 2>&1"):format(variables or "", dir, dir,
      sys.exe_path(), dir)):gsub(port, "PORT"))
  end
  local function skipped()
    if not pid then pending "there is no openssl or python3 to serve files with" end
    return not pid
  end
  local function lines(...) return table.concat({ ... }, "\n") .. "\n" end
  local function parts() return shell(("find '%s/hub' -type f -name '*.part-*'"):format(dir)) end

  it("once, into a private folder, and knows what it has", function()
    if skipped() then return end
    local out = run(([[
      local path = try(url "good/a.bin", { sha256 = "%s" })
      print(io.open(path, "rb"):read "a" == ("0123456789abcdef"):rep(4096))
      print(try(url "good/a.bin", { offline = true }) == path)
      try(url "good/other.bin", { offline = true })
      try(url "redirect/good")
      for _, e in ipairs(hub.list()) do print(e.url, e.bytes) end
      local info = hub.info(url "good/a.bin")
      print(info.path == path, info.sha256, info.intact)
      print(hub.rm(url "good/a.bin"))
      print(hub.rm(url "good/a.bin"))
      print(#hub.list())
      print(hub.rm(url "redirect/good"))]]):format(core.sha256(BODY)))
    assert.equal(lines("ok", "true", "ok", "true", "hub: https://localhost:PORT/good/other.bin is not in the cache, and the hub is offline", "ok",
      "https://localhost:PORT/good/a.bin\t65536", "https://localhost:PORT/redirect/good\t65536", "true\t" .. core.sha256(BODY) .. "\ttrue", "true",
      "nil\thub: https://localhost:PORT/good/a.bin is not in the cache", "1", "true"), out)
    assert.equal("drwx------", shell(("ls -ld '%s/hub'"):format(dir)):sub(1, 10))
  end)

  it("nothing offline", function()
    if skipped() then return end
    assert.equal("hub: https://localhost:PORT/good/z is not in the cache, and the hub is offline\n", run('try(url "good/z")', "NNLUA_OFFLINE=1"))
  end)

  it("nothing that is not what was asked for, and leaves nothing", function()
    if skipped() then return end
    local source = {}
    for tenth = 0, 9 do source[#source + 1] = ('try(url "cut/%d")'):format(tenth) end
    local out = run(table.concat(source, "\n"))
    assert.equal(10, select(2, out:gsub("hub: https://localhost:PORT/cut/%d: [^\n]*remaining[^\n]*\n", "")), out)
    local function says(text, code)
      local got = run(code)
      assert.truthy(got:find(text), got)
      assert.equal(1, select(2, got:gsub("\n", "")))
    end
    says("SHA%-256 " .. core.sha256(BODY) .. ", expected 0000", ('try(url "good/a.bin", { sha256 = "%s" })'):format(WRONG))
    says("SHA%-256 .*expected", ('try(url "cut_unannounced#sha256=%s")'):format(core.sha256(BODY)))
    says("longer than the 1000000 bytes", 'try(url "announced", { limit = 1000000 })')
    says("length/%-5: Invalid Content%-Length", 'try(url "length/-5")')
    says("length/x: Invalid Content%-Length", 'try(url "length/x")')
    says("longer than the 2147483648 bytes", 'try(url "length/99999999999999999999999")')
    says("longer than the 1000000 bytes", 'try(url "endless", { limit = 1000000 })')
    says("redirect/http: .*not supported", 'try(url "redirect/http")')
    says("redirect/file: .*not supported", 'try(url "redirect/file")')
    says("redirect/ftp: .*not supported", 'try(url "redirect/ftp")')
    says("redirect/loop: ", 'try(url "redirect/loop")')
    says("404", 'try(url "none")')
    says("gave up after 1.5 s", 'try(url "slow", { timeout = 1.5 })')
    assert.equal("", parts())
    assert.equal("0\n", run "print(#hub.list())")
  end)

  it("with a password that no message and no file shows", function()
    if skipped() then return end
    local source = [[
      local function at(path) return (url(path):gsub("//", "//me:secret@", 1)) end
      local path = try(at "auth/a.bin?token=sesame")
      try(at "none?token=sesame")
      local f = io.open(path:gsub("[^/]*$", "info.json"))
      print(f:read "a")
      print(hub.list()[1].url)
      print(hub.rm(at "auth/a.bin?token=sesame"))]]
    local out = run(source)
    assert.truthy(out:find("^ok\nhub: https://localhost:PORT/none: [^\n]*404"), out)
    assert.falsy(out:find "secret")
    assert.falsy(out:find "sesame")
    assert.falsy(out:find("me:", 1, true))
  end)

  it("a file for several processes at once", function()
    if skipped() then return end
    run "" -- the script's head
    write(dir .. "/at_once.lua", read(dir .. "/script.lua") .. ('print(try(url "good/many.bin", { sha256 = "%s" }))'):format(core.sha256(BODY)))
    local one = ("SSL_CERT_FILE='%s/cert' NNLUA_HUB='%s/hub' '%s' '%s/at_once.lua' 2>&1"):format(dir, dir, sys.exe_path(), dir)
    local out = shell(("for i in 1 2 3 4; do %s & done; wait"):format(one))
    local paths, oks = {}, 0
    for line in out:gmatch "[^\n]+" do
      if line == "ok" then oks = oks + 1 else paths[line] = true end
    end
    assert.equal(4, oks, out)
    local path = next(paths)
    assert.is_nil(next(paths, path))
    assert.equal(BODY, read(path))
    assert.equal("", parts())
  end)

  it("a copy again when it does not fit its pin any more", function()
    if skipped() then return end
    local out = run(([[
      local pin = { sha256 = "%s" }
      local path = try(url "good/d.bin", pin)
      local f = io.open(path, "r+b")
      f:write "X"
      f:close()
      try(url "good/d.bin", pin)
      print(hub.info(url "good/d.bin").intact)
      try(url "good/d.bin", { sha256 = pin.sha256, refresh = true })
      print(hub.info(url "good/d.bin").intact)]]):format(core.sha256(BODY)))
    local why = "hub: [^\n]*the copy in the cache is not the one expected[^\n]*nn.hub.rm%(handle%) removes it"
    assert.truthy(out:find("^ok\n" .. why .. "\nfalse\nok\ntrue\n$"), out)
  end)

  it("models, also in archives", function()
    if skipped() then return end
    local model = nn.Sequential { nn.Input { 3 }, nn.Dense { 2 } }
    assert(model:save(dir .. "/m.keras"))
    write(dir .. "/m.zip", zip.pack { { "README", "x" }, { "inner/", "" }, { "m.keras", read(dir .. "/m.keras") } })
    write(dir .. "/evil.zip", zip.pack { { "a/../../x.keras", "x" } })
    local sum = model(nn.ones(1, 3)):sum():item()
    local out = run [[
      for _, name in ipairs { "file/m.keras", "file/m.zip", "file/m.zip" } do print(assert(hub.load(url(name)))(nn.ones(1, 3)):sum():item()) end
      print(hub.load(url "file/evil.zip"))
      print(hub.load(url "good/a.h5"))]]
    assert.truthy(out:find(("^%s\n%s\n%s\nnil\thub: [^\n]*evil.zip: refused: [^\n]* has a name that leads elsewhere\nnil\t[^\n]*a.h5: [^\n]*\n$")
      :format(sum, sum, sum):gsub("%-", "%%-")), out)
  end)
end)

describe("archives", function()
  it("are unpacked whole or not at all, and never beside their folder", function()
    local dir = new_folder()
    local function unpack(bytes, limit)
      write(dir .. "/a.zip", bytes)
      local ok, message = nn.hub.unpack(dir .. "/a.zip", dir .. "/out", limit)
      if not ok then
        assert.same({ "a.zip" }, sys.list_folder(dir)) -- nothing else was made, here or above
        assert.falsy(message:find("\n", 1, true))
      end
      return ok, message
    end
    local function member(name, change) -- an archive of one member, its entry in the list changed
      local bytes = zip.pack { { name, "hello" } }
      return change and change(bytes, bytes:find("PK\1\2", 1, true)) or bytes
    end
    local function patched(at, new)
      return function(bytes, list) return bytes:sub(1, list + at - 1) .. new .. bytes:sub(list + at + #new) end
    end
    local evil = {
      ["leads elsewhere"] = { member "../x", member "/x", member "a/../../x", member "a\\..\\x", member "C:x", member "C:\\x", member "a\nb",
        member "..", member "a/..", member "\0x" },
      ["symbolic link"] = { member("x", patched(38, string.pack("<I4", 0xa1ff0000))) },
      ["no plain file"] = { member("x", patched(38, string.pack("<I4", 0x21b60000))), member("x", patched(38, string.pack("<I4", 0x11b60000))),
        member("x", patched(38, string.pack("<I4", 0xc1b60000))) },
      ["encrypted"] = { member("x", patched(8, "\1")) },
      ["cannot hold"] = { member("x", patched(24, string.pack("<I4", 1 << 30))) },
      ["comes twice"] = { zip.pack { { "x", "1" }, { "x", "2" } } },
      ["damaged"] = { member("x"):sub(1, -2), (member("x"):gsub("hello", "hellO")), "PK\3\4", "" },
      ["called"] = { zip.pack { { "x/y", "1" }, { "x", "2" } } },
      ["cannot make folder"] = { zip.pack { { "x", "1" }, { "x/y", "2" } } },
      ["too long"] = { member(("n"):rep(300)) },
    }
    local count = 0
    for what, list in pairs(evil) do
      for _, bytes in ipairs(list) do
        count = count + 1
        local ok, message = unpack(bytes)
        assert.is_nil(ok, what)
        assert.truthy(message:find(what, 1, true), message)
      end
    end
    assert.is_true(count >= 20)
    print(("evil zips: %d, each refused"):format(count))
    assert.truthy(select(2, unpack(member "x", 4)):find "unpack to more than 4 bytes")
    assert.is_true(unpack(zip.pack { { "a/", "" }, { "a/b/c", "deep" }, { "d", "" } }))
    assert.equal("deep", read(dir .. "/out/a/b/c"))
    assert.truthy(select(2, nn.hub.unpack(dir .. "/a.zip", dir .. "/out")):find "is there already")
  end)

  it("that grow a thousandfold are refused before they are unpacked", function()
    local dir = new_folder()
    write(dir .. "/make.py", "import zipfile, sys\nz = zipfile.ZipFile(sys.argv[1], 'w', 8)\nz.writestr('zeros', bytes(50000000))\nz.close()\n")
    if not os.execute(("%s '%s/make.py' '%s/bomb.zip' 2>/dev/null"):format(python, dir, dir)) then
      pending "python3 is not there"
      return
    end
    local ok, message = nn.hub.unpack(dir .. "/bomb.zip", dir .. "/out")
    assert.is_nil(ok)
    assert.truthy(message:find "refused")
    assert.is_nil(sys.file_type(dir .. "/out"))
  end)
end)
