-- The examples in doc comments of lua/nnlua: each block that requires nnlua is run, and `--> text` must be what its line prints.
local function library_files()
  local root = package.searchpath("nnlua.class", package.path):match "^(.*)class%.lua$"
  local list = assert(io.popen(("find '%s' -name '*.lua' | sort"):format(root)))
  local files = {}
  for file in list:lines() do files[#files + 1] = file end
  list:close()
  return files
end

-- Blocks of code: runs of comment lines that are indented by four or more.
local function blocks(file)
  local found, block, n = {}, nil, 0
  for line in io.lines(file) do
    n = n + 1
    local code = line:match "^%-%-%-?     (.*)$" or (block and line:match "^%-%-%-?%s*$" and "")
    if code then
      block = block or { line = n }
      block[#block + 1] = code
    elseif block then
      found[#found + 1], block = block, nil
    end
  end
  return found
end

-- How many spaces there are does not matter.
local function plain(text) return (text:gsub("%s+", " "):gsub(" $", "")) end

local function run(code, name)
  local printed, expected = {}, {}
  for text in code:gmatch "%-%->%s*([^\n]*)" do expected[#expected + 1] = plain(text) end
  local env = setmetatable({
    print = function(...)
      local words = table.pack(...)
      for i = 1, words.n do words[i] = tostring(words[i]) end
      printed[#printed + 1] = plain(table.concat(words, " "))
    end,
  }, { __index = _G })
  local stdout = io.stdout
  io.stdout = { write = function() end, flush = function() end } -- luacheck: ignore
  local ok, err = pcall(assert(load(code, "=" .. name, "t", env)))
  io.stdout = stdout -- luacheck: ignore
  assert(ok, err)
  if #expected > 0 then assert.same(expected, printed) end
  return printed
end

-- Examples of guide pages: ```lua blocks that require nnlua. What they print, over several lines too, is what the comments say.
describe("examples of", function()
  local root = (debug.getinfo(1, "S").source:match "^@(.*/)tests/" or "./")
  local list = assert(io.popen(("find '%sdocs' -name '*.md' | sort"):format(root)))
  for path in list:lines() do
    local f = assert(io.open(path))
    local text, n = f:read "a", 0
    f:close()
    for code in text:gmatch "\n```lua\n(.-)\n```" do
      if code:find 'require "nnlua"' then
        n = n + 1
        it(("%s, block %d"):format(path:match "[^/]+$", n), function()
          local whole = {}
          for line in code:gmatch "%-%->([^\n]*)" do whole[#whole + 1] = line end
          local printed = run((code:gsub("%-%->[^\n]*", "")), path:match "[^/]+$")
          if #whole > 0 then assert.equal((plain(table.concat(whole, " ")):gsub("^ ", "")), plain(table.concat(printed, " "))) end
        end)
      end
    end
  end
  list:close()
end)

describe("examples in", function()
  local count = 0
  for _, file in ipairs(library_files()) do
    for _, block in ipairs(blocks(file)) do
      local code = table.concat(block, "\n")
      if code:find 'require "nnlua' then
        count = count + 1
        local name = ("%s:%d"):format(file:match "nnlua/(.*)$", block.line)
        it(name, function() run(("\n"):rep(block.line - 1) .. code, name) end)
      end
    end
  end
  it("were found", function() assert.is_true(count >= 8) end)
end)
