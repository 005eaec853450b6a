-- Calls with junk: every operator of the table, every function written in Lua and x[...] with arguments drawn at random. Whatever comes, the process
-- goes on; what is refused is refused in the name of what was called; and no memory stays behind.
--
--     NNLUA_JUNK=20000 NNLUA_JUNK_SEED=7 sh scripts/test.sh junk      more calls, other ones
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")

local CALLS, SEED = tonumber(os.getenv "NNLUA_JUNK") or 2500, tonumber(os.getenv "NNLUA_JUNK_SEED") or 1
local STEPS = 20000000 -- Lua instructions after which a call counts as hanging

local DTYPES = { "f32", "f64", "f16", "bf16", "i64", "i32", "u8", "bool" }
local SIZES = { 0, 1, 1, 2, 3, 4, 5, 7 }
local ODD = { 0 / 0, 1 / 0, -1 / 0, 2.0 ^ 40, 1 << 40, -(1 << 40), math.maxinteger, math.mininteger, 1 << 62, 2.0 ^ 63, 1e300, 1e-300,
  -0.0, 1.5, 100 }
local WORDS = { "same", "valid", "reflect", "circular", "replicate", "constant", "mean", "sum", "none", "nearest", "bilinear", "bicubic",
  "linear", "area",
  "f32", "f64", "i64", "bool", "f16", "", "x", "%s%n", "max", "min", "prod", "border", "ij,jk->ik", "ij->", "...i->i", "ii->i", "lower", "batchmean" }
local KEYS = { "stride", "padding", "dilation", "groups", "dim", "keepdim", "dtype", "output_padding", "ceil_mode", "mode", "size", "scale",
  "align_corners", "reduction", "weight", "bias", "eps", "training", "bidirectional", "causal", "mask", "p", "ignore_id", "label_smoothing", "margin",
  "alpha", "beta", "value", "correction", "create_graph", "cotangents", "requires_grad", "indexing", "return_indices", "dropout", "factor",
  "offsets" }

local function makers(rng)
  local junk = {}
  local function tensor()
    local shape, n, values = {}, 1, {}
    for i = 1, rng.int(0, 4) do
      shape[i] = rng.pick(SIZES)
      n = n * shape[i]
    end
    local dtype = rng.chance(0.5) and "f32" or rng.pick(DTYPES)
    local float = not (dtype == "bool" or dtype == "u8" or dtype:sub(1, 1) == "i")
    for i = 1, n do
      local r = rng.int(1, 20)
      if dtype == "bool" then values[i] = rng.chance(0.5)
      elseif dtype == "u8" then values[i] = rng.int(0, 9)
      elseif float then values[i] = r == 1 and 0 / 0 or r == 2 and 1 / 0 or r == 3 and -1 / 0 or rng.real(-3, 3)
      else values[i] = dtype == "i64" and r == 1 and math.maxinteger or dtype == "i64" and r == 2 and math.mininteger or rng.int(-3, 6)
      end
    end
    local x = nn.tensor(values, { dtype = dtype }):reshape(shape)
    if #shape > 1 and rng.chance(0.15) then x = x:transpose(1, 2) end
    if float and rng.chance(0.2) then x = x:requires_grad(true) end
    return x
  end
  local function number()
    local r = rng.int(1, 26)
    return r <= 12 and rng.int(-3, 6) or r <= 15 and rng.real(-3, 6) or rng.pick(ODD)
  end
  local function list(depth)
    local l, kind = {}, rng.int(1, 4)
    for i = 1, rng.int(0, 5) do
      l[i] = kind == 1 and number() or kind == 2 and rng.int(-2, 5) or kind == 3 and tensor() or junk.any(depth + 1)
    end
    return l
  end
  local function named(depth)
    local o = { rng.chance(0.3) and junk.any(depth + 1) or nil }
    for _ = 1, rng.int(1, 3) do o[rng.pick(KEYS)] = junk.any(depth + 1) end
    return o
  end
  local strange = { function() end, coroutine.create(print), io.stdout, true, false }
  function junk.any(depth)
    local r = rng.int(1, depth < 3 and 100 or 78)
    if r <= 34 then return tensor() end
    if r <= 56 then return number() end
    if r <= 66 then return rng.pick(WORDS) end
    if r <= 72 then return rng.chance(0.5) end
    if r <= 75 then return rng.pick(strange) end
    if r <= 78 then return nil end
    return r <= 92 and list(depth) or named(depth)
  end
  junk.tensor = tensor
  return junk
end

local function shown(v, depth)
  if nn.is_tensor(v) then return ("%s(%s)"):format(v:dtype(), table.concat(v:shape(), "x")) end
  if type(v) ~= "table" or depth > 3 then return type(v) == "string" and ("%q"):format(v) or tostring(v) end
  local parts = {}
  for k, w in pairs(v) do parts[#parts + 1] = (type(k) == "number" and "" or k .. "=") .. shown(w, depth + 1) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- name -> function, what its messages may begin with (the name itself when absent)
local function callables()
  local found, began = {}, {}
  for _, op in ipairs(nn.ops()) do found[op.name] = nn[op.name] end
  for _, row in ipairs(require("nnlua.functional").rows) do found[row.name] = nn[row.name] end
  for _, name in ipairs { "split", "chunk", "unbind", "meshgrid", "index_put", "full_like", "empty", "empty_like", "from_table", "einsum",
    "zeros", "ones",
    "zeros_like", "ones_like", "rand", "randn", "tensor", "from_string", "grad", "adam_step", "sgd_step", "clip_grad_norm" } do
    found[name] = nn[name]
  end
  for _, name in ipairs { "detach", "item", "size", "totable", "backward", "to", "long", "set_grad", "assign", "elements" } do
    found[name] = nn.zeros(1)[name]
  end
  found["x[...]"] = function(x, k, ...) return x[select("#", ...) == 0 and k or { k, ... }] end
  found["x[...] ="] = function(x, v, k, ...)
    x[select("#", ...) == 0 and k or { k, ... }] = v
    return x
  end
  began["x[...]"], began["x[...] ="] = { "index", "index_select" }, { "index", "slice_set", "index_set", "where" }
  return found, began
end

local function each_tensor(value, depth, f)
  if nn.is_tensor(value) then f(value) end
  if type(value) ~= "table" or depth > 2 then return end
  for _, v in pairs(value) do each_tensor(v, depth + 1, f) end
end

-- ok, results or the error, and whether the call itself refused (else it was a run: what is wrong with positions shows when they are read)
local function attempt(f, args, backward)
  local refused = true
  debug.sethook(function() error("it hangs", 0) end, "", STEPS)
  local ok, err = pcall(function()
    local results = table.pack(f(table.unpack(args, 1, args.n)))
    refused = false
    each_tensor(results, 0, function(y) y:eval() end)
    return results
  end)
  if ok and backward then -- may fail (in the name of any operator on the way), but not crash
    pcall(each_tensor, err, 0, function(y)
      if y:requires_grad() then y:sum():backward() end
    end)
  end
  debug.sethook()
  return ok, err, refused
end

local function begins_well(text, name, began, refused)
  for _, word in ipairs(began[name] or { name }) do
    if text:sub(1, #word + 1) == word .. ":" then return true end
  end
  local word = text:match "^([%w_]+): "
  return text:find("^out of memory") ~= nil or (not refused and word and rawget(require "nnlua.core", word) ~= nil)
end

describe("junk", function()
  it("is refused in the name of what was called, or does something", function()
    local rng = support.random(SEED)
    local junk, names, complaints = makers(rng), {}, {}
    local found, began = callables()
    for name in pairs(found) do names[#names + 1] = name end
    table.sort(names)
    collectgarbage()
    collectgarbage()
    local before, good = nn.memory().live, 0
    for _ = 1, CALLS do
      local name = rng.pick(names)
      local args = { n = rng.int(0, 5) }
      for i = 1, args.n do args[i] = junk.any(0) end
      if name:find "^x" or (args.n > 0 and rng.chance(0.6)) then args[1], args.n = junk.tensor(), math.max(args.n, 1) end
      local ok, err, refused = attempt(found[name], args, rng.chance(0.3))
      if ok then good = good + 1 else
        local text = tostring(err):gsub("^[^\n]-:%d+: ", "")
        if not begins_well(text, name, began, refused) or text:find "attempt to" or text:find "\n" or text:find "internal error" then
          local given = {}
          for i = 1, args.n do given[i] = shown(args[i], 1) end
          complaints[#complaints + 1] = ("%s(%s): %s"):format(name, table.concat(given, ", "), tostring(err))
        end
      end
    end
    assert.same({}, complaints)
    assert.is_true(good > CALLS / 50, good)
    for _ = 1, 3 do collectgarbage() end
    nn.eval()
    assert.is_true(nn.memory().live <= before, ("%d bytes live, %d before"):format(nn.memory().live, before))
  end)
end)
