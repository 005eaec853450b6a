-- Conformance that this project did not write: the cases that python3-onnx generates for ONNX's operators (onnx_cases.py), run through ours
-- (onnx_cases.lua says how). Every case that is collected passes, or is of an operator outside the catalogue, or is left out by name with a reason;
-- the counts must add up. A case is a small graph: one operator, or a function of ONNX written out in several.
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
  local collected, data
  if ok then
    local function read(name)
      local f = assert(io.open(folder .. "/" .. name, "rb"))
      local text = f:read "a"
      f:close()
      return text
    end
    collected, data = core.json_decode(read "cases.json"), read "data.bin"
  end
  os.execute("rm -r " .. quoted(folder))
  if ok then return collected, data end
  if code == 3 or code == 127 then return nil, (said:gsub("%s+$", "")) end
  error("onnx_cases.py failed: " .. said)
end

local collected, data = export()
if not collected then
  describe("cases of ONNX's operators", function()
    pending(("need python3-onnx: %s"):format(data))
  end)
  return
end

local map = dofile(here .. "onnx_cases.lua")

local function bytes_of(t) return data:sub(t.at + 1, t.at + t.bytes) end

local function tensor(t)
  assert(not t.odd, "an input is no tensor")
  if t.sequence then
    local out = {}
    for i, v in ipairs(t.sequence) do out[i] = tensor(v) end
    return { sequence = out }
  end
  local x = nn.from_string(bytes_of(t), t.dtype, t.shape)
  return t.was == "bf16" and x:to "bf16" or x
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

local function parts(got) -- shape, dtype, and a function for the values
  if type(got) == "table" then return got.shape, got.dtype, function() return got.values end end
  return got:shape(), got:dtype(), function() return numbers(got) end
end

-- nil when shape and dtype of `got` are what `want` says
local function unlike(got, want)
  local shape, dtype = parts(got)
  if table.concat(shape, "x") ~= table.concat(want.shape, "x") then
    return ("shape %s, expected %s"):format(table.concat(shape, "x"), table.concat(want.shape, "x"))
  end
  local kind = want.was == "bf16" and "bf16" or want.dtype
  if dtype ~= kind then return ("dtype %s, expected %s"):format(dtype, kind) end
end

-- nil when the values are. Integers are equal, doubles within a tolerance that f32 can't reach, other floats within one that is tighter than ONNX's
-- (1e-3) unless the case is in map.rounded.
local function differs(got, want, case)
  local _, dtype, values = parts(got)
  values = values()
  local exact, rtol, atol = not dtype:match "^b?f%d", math.min(case.rtol, 2e-5), 1e-6
  if map.rounded[case.name] then rtol = case.rtol end
  if dtype == "f64" then rtol, atol = 1e-9, 1e-12 end
  local expected = numbers(nn.from_string(bytes_of(want), want.dtype, want.shape))
  if #values ~= #expected then return ("%d values, expected %d"):format(#values, #expected) end
  for i, e in ipairs(expected) do
    local v = values[i]
    local same = v == e or (e ~= e and v ~= v) or (not exact and math.abs(v - e) <= atol + rtol * math.abs(e))
    if not same then return ("element %d is %s, expected %s"):format(i, v, e) end
  end
end

local function attributes_of(node)
  local a = {}
  for name, v in pairs(node.attributes) do
    a[name] = v
    if type(v) == "table" and v.at then a[name] = { tensor = tensor(v) } end
  end
  return a
end

-- Runs the nodes; gives the results by name, and how the last of them is to be judged (nil: number by number).
local function run_nodes(case)
  local env, judge = {}, nil
  for _, input in ipairs(case.inputs) do env[input[1]] = tensor(input[2]) end
  for _, node in ipairs(case.nodes) do
    if node.op == "Gradient" then
      for _, name in ipairs(node.attributes.xs) do env[name] = env[name]:detach():requires_grad(true) end
    end
  end
  for _, node in ipairs(case.nodes) do
    local how, x, a = map.operators[node.op], { n = #node.inputs }, attributes_of(node)
    for i = 1, x.n do x[i] = env[node.inputs[i]] end
    local results = table.pack(how.run(x, a, node, env))
    for k, name in ipairs(node.outputs) do env[name] = results[k] end
    judge = how.judge and function(wanted) return how.judge(x, a, results, wanted) end
  end
  return env, judge
end

local by_name = {}
for _, case in ipairs(collected.cases) do by_name[case.name] = case end

-- Bernoulli written out in other operators: uniform draws, compared. ONNX 1.12 compares them the wrong way round (1 where the draw is above the
-- chance), so with the same seed the result is the complement of what the operator itself gives.
local function run_draws(case)
  local plain = by_name[case.name:gsub("_expanded$", "")]
  nn.seed(7)
  local ours = run_nodes(plain)
  nn.seed(7)
  local env = run_nodes(case)
  for k, output in ipairs(case.outputs) do
    local name, want = table.unpack(output)
    local text = unlike(env[name], want)
    if text then return ("result %s: %s"):format(name, text) end
    local a, b = numbers(env[name]), numbers(ours[plain.outputs[k][1]])
    for i, v in ipairs(b) do
      if a[i] ~= 1 - v then return ("element %d is %s, the operator gives %s"):format(i, a[i], v) end
    end
  end
end

-- A result and what is wanted as lists of tensors: a sequence is one already.
local function as_lists(name, got, want)
  if not want.sequence then return { got }, { want } end
  assert(type(got) == "table" and got.sequence and #got.sequence == #want.sequence, name .. " is no sequence, or of another length")
  return got.sequence, want.sequence
end

-- nil when the case passes; raises, or says what differs
local function run(case)
  for _, node in ipairs(case.nodes) do
    if node.op == "RandomUniformLike" then return run_draws(case) end
  end
  local env, judge = run_nodes(case)
  local got, wanted = {}, {}
  for _, output in ipairs(case.outputs) do
    local name, want = table.unpack(output)
    if not env[name] then return ("result %s is missing"):format(name) end
    local mine, theirs = as_lists(name, env[name], want)
    for i, t in ipairs(theirs) do
      local text = unlike(mine[i], t)
      if text then return ("result %s: %s"):format(name, text) end
      got[#got + 1], wanted[#wanted + 1] = mine[i], t
    end
  end
  if judge then
    local plain = {}
    for k, t in ipairs(wanted) do plain[k] = nn.from_string(bytes_of(t), t.dtype, t.shape) end
    local judged = judge(plain)
    if judged then return judged ~= "" and judged or nil end
  end
  for k, t in ipairs(wanted) do
    local text = differs(got[k], t, case)
    if text then return ("tensor %d of the results: %s"):format(k, text) end
  end
end

-- The group of a case: its operator, or the words below.
local WRITTEN_OUT = "several operators"
local groups, names = {}, {}
for _, case in ipairs(collected.cases) do
  local name = #case.nodes == 1 and case.nodes[1].op or WRITTEN_OUT
  if not groups[name] then
    groups[name] = {}
    names[#names + 1] = name
  end
  table.insert(groups[name], case)
end
table.sort(names)

-- What keeps a case from being run: a reason and what it is about, or nil.
local function kept_out(case)
  for _, node in ipairs(case.nodes) do
    if map.outside[node.op] then return "outside", node.op end
  end
  if map.excluded[case.name] then return "excluded", case.name .. ": " .. map.excluded[case.name] end
end

describe("cases of ONNX's operators", function()
  local passed, failed, unknown, doubles, halves = 0, 0, 0, 0, 0
  local outside, excluded, lines, seen = {}, {}, {}, {}

  local function uses(case, dtype)
    for _, list in ipairs { case.inputs, case.outputs } do
      for _, entry in ipairs(list) do
        if entry[2].dtype == dtype or entry[2].was == dtype then return true end
      end
    end
  end

  for _, name in ipairs(names) do
    local mine = {}
    for _, case in ipairs(groups[name]) do
      local why, what = kept_out(case)
      if why == "outside" then
        outside[what] = (outside[what] or 0) + 1
      elseif why == "excluded" then
        excluded[#excluded + 1], seen[case.name] = what, true
      else
        mine[#mine + 1] = case
      end
    end
    if #mine > 0 then
      it(name, function()
        local good, bad = 0, {}
        nn.seed(1)
        for _, case in ipairs(mine) do
          for _, node in ipairs(case.nodes) do
            if not map.operators[node.op] then
              unknown = unknown + 1
              error(("%s: %s is neither mapped nor named as outside of the catalogue"):format(case.name, node.op), 0)
            end
          end
          local ok, err = pcall(run, case)
          if ok and not err then
            good = good + 1
            doubles, halves = doubles + (uses(case, "f64") and 1 or 0), halves + ((uses(case, "f16") or uses(case, "bf16")) and 1 or 0)
          else
            bad[#bad + 1] = case.name .. ": " .. tostring(err)
          end
        end
        passed, failed = passed + good, failed + #bad
        lines[#lines + 1] = ("%s %d"):format(name, good)
        assert(#bad == 0, ("%d of %d cases fail:\n  %s"):format(#bad, #mine, table.concat(bad, "\n  ")))
      end)
    end
  end

  it("are all accounted for", function()
    local others, apart, missing = 0, {}, {}
    for name, count in pairs(outside) do
      others = others + count
      apart[#apart + 1] = ("%s %d"):format(name, count)
    end
    table.sort(apart)
    for _, case in ipairs(collected.left) do missing[#missing + 1] = ("%s: %s"):format(case.name, case.why) end
    print(("\n%d ONNX cases, %d pass (%d of them with f64, %d with f16 or bf16), %d fail; by operator: %s"):format(collected.collected, passed,
      doubles, halves, failed, table.concat(lines, ", ")))
    print(("left out (%d): %s"):format(#excluded + #missing, table.concat(excluded, "; ") .. "; " .. table.concat(missing, "; ")))
    print(("of operators outside the catalogue (%d): %s"):format(others, table.concat(apart, ", ")))
    assert.equal(0, failed)
    assert.equal(0, unknown)
    assert.is_true(passed >= 800)
    assert.equal(collected.collected, passed + others + #excluded + #missing)
    for name in pairs(map.excluded) do assert(seen[name], name .. " is left out but is no case") end
    local used = {}
    for _, case in ipairs(collected.cases) do
      seen[case.name] = true
      for _, node in ipairs(case.nodes) do used[node.op] = true end
    end
    for name in pairs(map.rounded) do assert(seen[name], name .. " is compared loosely but is no case") end
    for name in pairs(map.operators) do
      assert(used[name], name .. " is mapped but has no case")
      assert(not map.outside[name], name .. " is mapped and outside")
    end
  end)
end)
