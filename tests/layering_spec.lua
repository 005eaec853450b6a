-- What the house promises about its sources: which room may include which, who loads Lua code, that no machine's paths are in the files, that files
-- stay readable. Sizes are warnings (they are listed, nothing fails) unless a file is twice the soft size.
local root = (debug.getinfo(1, "S").source:match "^@(.*/)tests/" or "./")

local function read(path)
  local f = assert(io.open(root .. path, "rb"))
  local text = f:read "a"
  f:close()
  return text
end

-- files in git or on disk, without the build folders
local function files(pattern)
  local list = {}
  local skip = "! -path './build*' ! -path './.git*' ! -path './shared*' ! -path './.cache*'"
  local p = assert(io.popen("cd '" .. root:gsub("'", "'\\''") .. "' && find . -type f " .. skip))
  for line in p:lines() do
    local path = line:sub(3)
    if path:find(pattern) then list[#list + 1] = path end
  end
  p:close()
  table.sort(list)
  return list
end

-- "#include "x"" of a file, as paths from the root
local function includes(path)
  local list = {}
  for name in read(path):gmatch '\n%s*#%s*include%s*"([^"]+)"' do
    local full = (path:match "^(.*)/" or "") .. "/" .. name
    local f = io.open(root .. full)
    if f then f:close() else full = "runtime/" .. name end
    local parts = {}
    for part in full:gmatch "[^/]+" do
      if part == ".." then parts[#parts] = nil elseif part ~= "." then parts[#parts + 1] = part end
    end
    list[#list + 1] = table.concat(parts, "/")
  end
  return list
end

local function room(path)
  return path:match "^runtime/(%w+)/" or path:match "^(bindings)/" or (path:find "^runtime/nn[%w_]*%.h$" and "nn.h") or path
end

-- room -> rooms and single files it may include, besides itself and nn.h
local ALLOWED = {
  base = {},
  tensor = { base = true },
  ops = { tensor = true, base = true },
  graph = { ops = true, tensor = true, base = true },
  cpu = { ["runtime/graph/device.h"] = true, ["runtime/ops/ids.h"] = true, ["runtime/ops/pointwise.def"] = true, ["runtime/ops/reduce.def"] = true,
    ["runtime/ops/kernels.def"] = true, tensor = true, base = true },
  vulkan = { -- the first four are made by the build
    ["runtime/shaders.h"] = true, ["runtime/shaders_list.h"] = true, ["runtime/shaders_words.h"] = true, ["runtime/math_library.inc"] = true,
    ["runtime/graph/device.h"] = true, ["runtime/ops/ids.h"] = true, ["runtime/ops/pointwise.def"] = true, ["runtime/ops/reduce.def"] = true,
    ["runtime/ops/kernels.def"] = true, tensor = true, base = true },
  data = { io = true, graph = true, tensor = true, base = true },
  io = { tensor = true, base = true },
  bindings = { ["runtime/ops/signature.h"] = true },
}

describe("the house", function()
  local sources = files "%.[ch]$"
  it("has the rooms it should", function()
    local seen = {}
    for _, path in ipairs(sources) do
      local r = path:match "^runtime/(%w+)/"
      if r then seen[r] = true end
    end
    for r in pairs(seen) do assert.truthy(ALLOWED[r], "runtime/" .. r .. " has no rule in tests/layering_spec.lua") end
    assert.truthy(seen.base and seen.graph and seen.cpu)
  end)

  it("keeps the direction of its includes", function()
    local wrong = {}
    for _, path in ipairs(sources) do
      local from = room(path)
      local may = ALLOWED[from]
      for _, to in ipairs(may and includes(path) or {}) do
        local r = room(to)
        if r ~= from and r ~= "nn.h" and not may[r] and not may[to] then wrong[#wrong + 1] = path .. " includes " .. to end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("keeps Lua out of the runtime, and the runtime's insides out of the bindings", function()
    local wrong = {}
    for _, path in ipairs(sources) do
      local text = read(path)
      if path:find "^runtime/" and text:find "#%s*include%s*[<\"]l[ua][ua]" then wrong[#wrong + 1] = path .. " includes Lua" end
      if path:find "^bindings/" and text:find "nni_[%w_]+%s*%(" and not text:find "ops/signature%.h" then
        wrong[#wrong + 1] = path .. " calls nni_ functions"
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("loads Lua source in one place, in text mode", function()
    local wrong, loads, copies = {}, 0, 0
    for _, path in ipairs(sources) do
      if path:find "^bindings/" or path:find "^runtime/" then
        local text = read(path):gsub("/%*.-%*/", "")
        for call in text:gmatch "lua[L]?_load[%w_]*%s*%b()" do
          if path == "bindings/lua_load.c" and call:find '^lua_load%s*%(' and call:find '"t"%s*%)$' then loads = loads + 1
          elseif path == "bindings/lua_load.c" and call:find "^lua_load%(to, .*{d%.p, d%.n}, .*\"b\"%)$" then copies = copies + 1 -- nnL_copyfunction
          else wrong[#wrong + 1] = path .. ": " .. call
          end
        end
        for call in text:gmatch "luaL_do%w+%s*%b()" do wrong[#wrong + 1] = path .. ": " .. call end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
    assert.equal(1, loads)
    assert.equal(1, copies) -- of a live function, from one state of the process to another
    for _, path in ipairs(files "^lua/.*%.lua$") do
      local text = read(path):gsub('"[^"\n]*"', '""'):gsub("%-%-[^\n]*", "")
      for _, word in ipairs { "loadstring", "dofile", "loadfile", "load" } do
        for call in text:gmatch("%f[%w_.]" .. word .. "%s*[%(\"']") do wrong[#wrong + 1] = path .. ": " .. call end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("ends no process, jumps over no frame and formats no message as a format", function()
    local wrong = {}
    for _, path in ipairs(sources) do
      if path:find "^runtime/" then
        local text = read(path):gsub("/%*.-%*/", "")
        for _, word in ipairs { "abort", "exit", "longjmp", "setjmp", "system" } do
          local allowed = path == "runtime/io/image_module.c" and word:find "jmp" -- how libjpeg and libpng report errors
          if not allowed and text:find("%f[%w_]" .. word .. "%s*%(") then wrong[#wrong + 1] = path .. ": " .. word end
        end
        for call in text:gmatch "%f[%w_]printf%s*%(%s*[%a_][^\n]*" do wrong[#wrong + 1] = path .. ": " .. call end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("names no machine's paths", function()
    local wrong = {}
    local marks = { "/wo" .. "rk/", "/tmp/" .. "wt", "/ho" .. "me/%w", "/us" .. "rs/%w" }
    for _, path in ipairs(files "%.[%w]+$") do
      if not path:find "%.png$" and not path:find "%.gz$" and not path:find "%.h5$" then
        local n = 0
        for line in (read(path) .. "\n"):gmatch "(.-)\n" do
          n = n + 1
          for _, mark in ipairs(marks) do
            if line:find("%f[%w/]" .. mark) or line:find("^" .. mark) or line:find("[\"'%s=(]" .. mark) then
              wrong[#wrong + 1] = ("%s:%d: %s"):format(path, n, line:sub(1, 100))
            end
          end
        end
      end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  it("has files that open with what they own", function()
    local wrong = {}
    for _, path in ipairs(sources) do
      if (path:find "^runtime/" or path:find "^bindings/") and not read(path):find "^%s*/%*" then wrong[#wrong + 1] = path end
    end
    for _, path in ipairs(files "^lua/.*%.lua$") do
      if not read(path):find "^%-%-" then wrong[#wrong + 1] = path end
    end
    assert.equal("", table.concat(wrong, "\n"))
  end)

  local soft, long = { [".c"] = 600, [".h"] = 600, scripts = 80 }, {}
  local huge = {}
  for _, path in ipairs(files "%.%w+$") do
    local limit = path:find "^scripts/train_[%w_]+%.lua$" and soft.scripts
    if path:find "^runtime/" or path:find "^bindings/" then limit = soft[path:match "%.%w+$"] end
    if limit then
      local _, n = read(path):gsub("\n", "")
      if n > limit then long[#long + 1] = ("%s (%d of %d lines)"):format(path, n, limit) end
      if n > 2 * limit then huge[#huge + 1] = path end
    end
  end
  it("is over its soft sizes in: " .. (#long > 0 and table.concat(long, ", ") or "nothing"), function() assert.equal("", table.concat(huge, " ")) end)
end)
