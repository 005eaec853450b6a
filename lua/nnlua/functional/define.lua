--- Declares an operator that is written in Lua: `define(M, "name(signature)", doc, fn)`.
--
-- Owns: the arguments of such operators. They are given as those of the core's: by place, or named in a last table. The signature language is that
-- of the core's table (T tensor, F number, I integer, B boolean, D dim; `?` may be absent; `= default`) and more:
--   I1 I2 I3   an integer for all axes, or a list of that many        F*   a number or a list of numbers       IL   list of integers
--   P1 P2 P3   pads: as I1 I2 I3, or a list of those before the axes and those behind; or "valid" or "same"        S(a|b)   one of these words
--   TL   list of tensors      TT   tensor or table      T|F   tensor or number      FN   function      TBL   table      Y   dtype
--   I|IL   an integer or a list of integers
-- `fn` gets the arguments in the signature's order, complete with defaults. f16 and bf16 are dtypes to store: fn gets them as f32, and its results
-- become halves again, as with the core's operators (but for modules that define.plain names).
-- While an operator runs, tensors are made where the first tensor among its arguments lies.

local core = require "nnlua.core"
local options = require "nnlua.options"

local define = {}

--- The declared operators in order: { name =, signature =, results = (how many), list = (one list of tensors?), method = (of tensors too?), doc =,
--- fn = }.
define.list = {}

local function is_tensor(v)
  local mt = type(v) == "userdata" and getmetatable(v)
  return type(mt) == "table" and mt.__name == "nnlua.tensor"
end
define.is_tensor = is_tensor

local function list_of(v, check)
  if type(v) ~= "table" then return nil end
  local out = {}
  for i = 1, rawlen(v) do
    out[i] = check(rawget(v, i))
    if out[i] == nil then return nil end
  end
  return out
end

local function integer(v) return math.type(v) and math.tointeger(v) end

local dtypes = {}
for word in ("bool u8 i32 i64 f16 bf16 f32 f64 boolean uint8 byte int32 int int64 long float16 half bfloat16 float32 float float64 double")
  :gmatch "%g+" do
  dtypes[word] = true
end

-- Per kind: what the value becomes (nil: it is wrong), and what it should be.
local kinds = {
  T = { function(v) return is_tensor(v) and v or nil end, "a tensor" },
  ["T|F"] = { function(v) -- true is 1
    if type(v) == "boolean" then return v and 1 or 0 end
    return (is_tensor(v) or type(v) == "number") and v or nil
  end, "a tensor or a number" },
  TL = { function(v) return list_of(v, function(t) return is_tensor(t) and t or nil end) end, "a list of tensors" },
  TT = { function(v) return (is_tensor(v) or type(v) == "table") and v or nil end, "a tensor or a list" },
  F = { function(v) return type(v) == "number" and v or nil end, "a number" },
  I = { integer, "an integer" },
  D = { function(v) local i = integer(v) return i ~= 0 and i or nil end, "a dim (from 1, or from -1 at the end)" },
  B = { function(v) if type(v) == "boolean" then return v end end, "true or false" },
  S = { function(v) return type(v) == "string" and v or nil end, "a string" },
  TBL = { function(v) return type(v) == "table" and v or nil end, "a table" },
  Y = { function(v) return dtypes[v] and v or nil end, "a dtype (bool, u8, i32, i64, f16, bf16, f32, f64)" },
  FN = { function(v) return type(v) == "function" and v or nil end, "a function" },
  ["I|IL"] = { function(v) return integer(v) or list_of(v, integer) end, "an integer or a list of integers" },
  IL = { function(v) return integer(v) and { integer(v) } or list_of(v, integer) end, "a list of integers" },
  ["F*"] = { function(v)
    local number = function(x) return type(x) == "number" and x or nil end
    return number(v) or list_of(v, number)
  end, "a number or a list of numbers" },
}
for n = 1, 3 do
  local function each(v)
    local i = integer(v)
    if not i then
      local list = list_of(v, integer)
      return list and #list == n and list or nil
    end
    return n == 1 and { i } or n == 2 and { i, i } or { i, i, i }
  end
  kinds["I" .. n] = { each, n == 1 and "an integer" or ("an integer or a list of %d"):format(n) }
  kinds["P" .. n] = { function(v) -- pads before each axis, then behind each
    if v == "valid" or v == "same" then return v end
    local list = each(v) or list_of(v, integer)
    if not list or #list ~= n and #list ~= 2 * n then return nil end
    return #list == n and table.move(list, 1, n, n + 1, list) or list
  end, ('%s or of %d, "valid" or "same"'):format(kinds["I" .. n][2], 2 * n) }
end

local function kind_of(text)
  local words = text:match "^S%((.*)%)$"
  if not words then return kinds[text] or error("define: unknown kind " .. text) end
  local valid = {}
  for word in words:gmatch "[^|]+" do valid[word] = true end
  return { function(v) return valid[v] and v or nil end, 'one of "' .. words:gsub("|", '", "') .. '"' }
end

local constants = { ["true"] = true, ["false"] = false }

local function parse(text)
  local params, byname = {}, {}
  for part in text:gmatch "[^,]+" do
    local kind, absent, name, rest = part:match "^%s*([%w|%*%(%)_%-]+)(%??)%s+([%w_]+)%s*(.*)$"
    local default = rest:match "^=%s*(.-)%s*$"
    local p = { name = name, kind = kind_of(kind), required = absent == "" and not default, tensors = kind:sub(1, 1) == "T" and kind ~= "TBL" }
    if default then
      local value = constants[default]
      if value == nil then value = tonumber(default) or default end
      p.default = p.kind[1](value)
      if p.default == nil then error("define: bad default in " .. text) end
    end
    params[#params + 1] = p
    byname[name] = #params
  end
  return params, byname
end

local function wrong(owner, p, v)
  options.raise(("%s: argument '%s' must be %s, got %s"):format(owner, p.name, p.kind[2], options.shown(v)))
end

-- The named arguments of a last table into `args`.
local function take_named(owner, named, params, byname, args, nplace, signature)
  for key, v in pairs(named) do
    local at = byname[key]
    if not at then
      local names = {}
      for i, p in ipairs(params) do names[i] = p.name end
      local near = type(key) == "string" and options.nearest(key, names)
      local advice = near and ("; did you mean '%s'?"):format(near) or ""
      options.raise(("%s: unknown option '%s'%s (%s)"):format(owner, tostring(key), advice, signature))
    end
    if at <= nplace then options.raise(("%s: argument '%s' is given twice"):format(owner, key)) end
    args[at] = v
  end
end

-- What pcall gave for the body of `owner`. A message of an operator that it is made of ("sum: ...") gets the name that the user called in front.
local function finish(owner, ok, ...)
  if ok then return ... end
  local err = ...
  if type(err) == "string" then
    local where, text = err:match "^([^\n]-:%d+: )(.*)$"
    local name = text and text:match "^([%w_]+): "
    if name and name ~= owner and (rawget(core, name) or rawget(core.tensor_metatable.methods, name)) then err = where .. owner .. ": " .. text end
  end
  error(err, 0)
end

--- `fn` as the body of `owner`, for its messages.
function define.named(owner, fn)
  return function(...) return finish(owner, pcall(fn, ...)) end
end

local halves = { f16 = true, bf16 = true }
local other_floats = { f32 = true, f64 = true }

-- The tensors of args (places `at`) that are halves become f32. Gives the dtype of the results: that half, or nil where there is another float too.
local function widen(args, at)
  local half, mixed
  local function one(t)
    local d = is_tensor(t) and t:dtype()
    if halves[d] then
      mixed, half = mixed or half and half ~= d, d
      return t:float()
    end
    mixed = mixed or other_floats[d]
    return t
  end
  for _, i in ipairs(at) do
    local v = args[i]
    if type(v) ~= "table" then args[i] = one(v) else
      local list = {}
      for k = 1, #v do list[k] = one(v[k]) end
      args[i] = #v > 0 and list or v
    end
  end
  return not mixed and half
end

local function narrowed(half, ...)
  local out = table.pack(...)
  for i = 1, out.n do
    if is_tensor(out[i]) and out[i]:dtype() == "f32" then out[i] = out[i]:to(half) end
  end
  return table.unpack(out, 1, out.n)
end

local plain = {}

--- The operators of M that are declared from now on take halves as they are: they move elements, or choose a dtype themselves.
function define.plain(M) plain[M] = true end

--- Declares M[name]; `-> T, T` behind the signature when it gives more than one tensor, `-> TL` when it gives a list. Returns the function.
function define.op(M, text, doc, fn)
  local owner, signature, results = text:match "^([%w_]+)%((.*)%)%s*(.-)$"
  local params, byname = parse(signature)
  local n, tensors = #params, {}
  for i, p in ipairs(params) do
    if p.tensors and not plain[M] then tensors[#tensors + 1] = i end
  end
  local function call(...)
    local count = select("#", ...)
    local args = { ... }
    local last = args[count]
    if type(last) == "table" and rawlen(last) == 0 and next(last) ~= nil and not is_tensor(rawget(last, "w_ih")) then
      args[count] = nil
      count = count - 1
      take_named(owner, last, params, byname, args, count, signature)
    end
    if count > n then options.raise(("%s: %d arguments, at most %d are possible (%s)"):format(owner, count, n, signature)) end
    for i = 1, n do
      local p, v = params[i], args[i]
      if v == nil then
        if p.required then options.raise(("%s: argument '%s' is missing (%s)"):format(owner, p.name, signature)) end
        args[i] = p.default
      else
        args[i] = p.kind[1](v)
        if args[i] == nil then wrong(owner, p, v) end
      end
    end
    local first -- of the tensors
    for i = 1, n do
      local v = args[i]
      if type(v) == "table" then v = v[1] end
      if is_tensor(v) then first = v break end
    end
    local _ <close> = first and core.here(first)
    local half = widen(args, tensors)
    if half then return narrowed(half, finish(owner, pcall(fn, table.unpack(args, 1, n)))) end
    return finish(owner, pcall(fn, table.unpack(args, 1, n)))
  end
  M[owner] = call
  define.list[#define.list + 1] = { name = owner, signature = signature, results = results == "" and 1 or select(2, results:gsub("T", "")),
    list = results == "-> TL", method = signature:find "^T " ~= nil, doc = doc, fn = call }
  return call
end

--- Raises an error of the operator `owner` at the user's line.
function define.fail(owner, text, ...) options.raise(owner .. ": " .. text:format(...)) end

--- "2x3", for messages.
function define.shape_text(x)
  local s = x:shape()
  return #s == 0 and "scalar" or table.concat(s, "x")
end

return define
