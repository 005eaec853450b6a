-- Conformance that this project did not write: the numeric cases that python3-onnx generates for ONNX's operators (onnx_cases.py), run through ours
-- (onnx_cases.lua says how). Every case of an operator that we have must pass; one that does not exist yet is pending, by name.
local nn = require "nnlua"
local core = require "nnlua.core"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

-- The cases and their bytes; nil and why there are none.
local function export()
  local folder = os.tmpname()
  os.remove(folder)
  local function quoted(s) return "'" .. s:gsub("'", "'\\''") .. "'" end
  if not os.execute("mkdir -p " .. quoted(folder)) then return nil, "no temporary folder" end
  local python = os.getenv "NNLUA_PYTHON" or "/usr/bin/python3"
  local pipe = io.popen(("%s %s %s 2>&1"):format(python, quoted(here .. "onnx_cases.py"), quoted(folder)))
  local said = pipe:read "a"
  local ok, _, code = pipe:close()
  local cases, data
  if ok then
    local function read(name)
      local f = assert(io.open(folder .. "/" .. name, "rb"))
      local text = f:read "a"
      f:close()
      return text
    end
    cases, data = core.json_decode(read "cases.json"), read "data.bin"
  end
  os.execute("rm -r " .. quoted(folder))
  if ok then return cases, data end
  if code == 3 or code == 127 then return nil, (said:gsub("%s+$", "")) end
  error("onnx_cases.py failed: " .. said)
end

local cases, data = export()
if not cases then
  describe("cases of ONNX's operators", function()
    pending(("need python3-onnx: %s"):format(data))
  end)
  return
end

local map = dofile(here .. "onnx_cases.lua")

local known = {}
local function supported(dtype)
  if known[dtype] == nil then known[dtype] = pcall(nn.zeros, { 1 }, dtype) end
  return known[dtype]
end

local function bytes_of(t) return data:sub(t.at + 1, t.at + t.bytes) end

-- null is nil, what is no tensor of numbers an error; 64- and 16-bit floats have their own dtype where there is one
local function tensor(t)
  if type(t) ~= "table" then return nil end
  assert(not t.odd, "an input is no tensor")
  local x = nn.from_string(bytes_of(t), t.dtype, t.shape)
  return t.was and supported(t.was) and x:to(t.was) or x
end

local function numbers(x)
  local out = {}
  local function walk(t)
    if type(t) == "table" then
      for _, v in ipairs(t) do walk(v) end
    else
      out[#out + 1] = t == true and 1 or t == false and 0 or t
    end
  end
  if x:dim() == 0 then walk(x:item()) else walk(x:totable()) end
  return out
end

-- nil when `got` is what `want` says, else what differs
local function differs(got, want, case)
  local shape, dtype, values
  if type(got) == "table" then
    shape, dtype, values = got.shape, got.dtype, got.values
  else
    shape, dtype, values = got:shape(), got:dtype(), numbers(got)
  end
  local expected = nn.from_string(bytes_of(want), want.dtype, want.shape)
  if table.concat(shape, "x") ~= table.concat(want.shape, "x") then
    return ("shape %s, expected %s"):format(table.concat(shape, "x"), table.concat(want.shape, "x"))
  end
  local kind = want.was and supported(want.was) and want.was or not want.was and want.dtype
  if kind and dtype ~= kind then return ("dtype %s, expected %s"):format(dtype, kind) end
  local exact = not want.dtype:match "^f"
  for i, e in ipairs(numbers(expected)) do
    local v = values[i]
    local same = v == e or (e ~= e and v ~= v) or (not exact and math.abs(v - e) <= math.max(case.atol, 1e-6) + case.rtol * math.abs(e))
    if not same then return ("element %d is %s, expected %s"):format(i, v, e) end
  end
end

-- nil when the case passes; raises, or says what differs
local function run(case)
  local how, x, a = map.operators[case.op], { n = #case.inputs }, {}
  for i = 1, x.n do x[i] = tensor(case.inputs[i]) end
  for name, v in pairs(case.attributes) do
    a[name] = v
    if type(v) == "table" and v.at then a[name] = { tensor = tensor(v) } end
  end
  local results = table.pack(how.run(x, a, case))
  for k = 1, #case.outputs do
    local want = case.outputs[k]
    if type(want) == "table" and not how.skip[k] then
      if not results[k] then return ("result %d is missing"):format(k) end
      local text = differs(results[k], want, case)
      if text then return ("result %d: %s"):format(k, text) end
    end
  end
end

local groups, names = {}, {}
for _, case in ipairs(cases) do
  if not groups[case.op] then
    groups[case.op] = {}
    names[#names + 1] = case.op
  end
  table.insert(groups[case.op], case)
end
table.sort(names)

describe("cases of ONNX's operators", function()
  local passed, total, outside, excluded, later, lines = 0, 0, {}, {}, {}, {}

  for _, name in ipairs(names) do
    local how, group = map.operators[name], groups[name]
    if map.outside[name] then
      outside[#outside + 1] = ("%s (%d)"):format(name, #group)
    elseif not how then
      it(name, function() error(name .. " is neither mapped nor named as outside of the catalogue") end)
    else
      local lacking = {}
      for _, need in ipairs(how.needs) do
        if not pcall(function() return nn[need] end) and need ~= "to" then lacking[#lacking + 1] = need end
      end
      local mine = {}
      for _, case in ipairs(group) do
        if map.excluded[case.name] then
          excluded[#excluded + 1] = ("%s: %s"):format(case.name, map.excluded[case.name])
        else
          mine[#mine + 1] = case
        end
      end
      if #lacking > 0 and #mine > 0 then
        pending(("%s: not yet, needs %s (%d cases)"):format(name, table.concat(lacking, ", "), #mine))
        later[#later + 1] = ("%s: %s (%d cases)"):format(name, table.concat(lacking, ", "), #mine)
      elseif #mine > 0 then
        it(name, function()
          local good, bad = 0, {}
          for _, case in ipairs(mine) do
            local ok, err = pcall(run, case)
            if ok and not err then
              good = good + 1
            elseif type(err) == "table" and err.missing then
              later[#later + 1] = ("%s: %s"):format(case.name, err.missing)
            else
              bad[#bad + 1] = case.name .. ": " .. tostring(err)
            end
          end
          passed, total = passed + good, total + good + #bad
          lines[#lines + 1] = ("%s %d/%d"):format(name, good, good + #bad)
          assert(#bad == 0, ("%d of %d cases fail:\n  %s"):format(#bad, #mine, table.concat(bad, "\n  ")))
        end)
      end
    end
  end

  it("are all accounted for", function()
    print("\nONNX cases that pass, by operator: " .. table.concat(lines, ", "))
    print(("%d of %d cases pass"):format(passed, total))
    print(("not yet (%d): %s"):format(#later, table.concat(later, "; ")))
    print(("left out (%d): %s"):format(#excluded, table.concat(excluded, "; ")))
    print(("operators outside the catalogue (%d): %s"):format(#outside, table.concat(outside, ", ")))
    assert.is_true(total >= 100)
    for name in pairs(map.excluded) do
      local found = false
      for _, case in ipairs(cases) do found = found or case.name == name end
      assert(found, name .. " is left out but is no case")
    end
    for name in pairs(map.operators) do assert(groups[name], name .. " is mapped but has no case") end
  end)
end)
