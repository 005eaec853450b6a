-- data/verbs.lua - verbs of data sets, beside those in data/dataset.lua: what calls functions, cuts up, puts together, keeps. Adds methods to
-- Dataset. Functions run in the script's own Lua state while a pass is read; `map` with workers runs them in states of their own.

local Dataset = require "nnlua.data.dataset"
local class = require "nnlua.class"
local core = require "nnlua.core"
local options = require "nnlua.options"

local pipeline = core.pipeline
local given = Dataset.given

local function check_function(verb, fn)
  if type(fn) ~= "function" then options.raise(verb .. ": needs a function, got " .. options.shown(fn)) end
  return fn
end

-- ds, whose function `fn` is: debug says where that is written.
local function written(ds, fn)
  local info = debug.getinfo(fn, "S")
  if info.linedefined > 0 then ds.written = ("%s:%d"):format(info.short_src:match "[^/]+$" or info.short_src, info.linedefined) end
  return ds
end

-- ---- functions -------------------------------------------------------------------------------------------------------

local map_spec = { workers = { "integer", min = 0, max = 256 }, seed = { "integer" } }

--- `fn(x, y, ...)` of each element; it returns the tensors (or numbers, booleans, strings) of the new one.
---
--- With `workers = n` it runs on n threads, each with a Lua state of its own (0: on none, with the same results). The order stays. What `fn`
--- captures travels as it is when `map` is called: plain values, tables, tensors, modules, other functions. It must be pure: what it changes outside
--- of itself stays in its worker. Its random draws depend on `seed` (by default from nn.seed's stream), the pass and the element, nothing else.
--- Transforms of nn.vision can stand in the place of a function; they run without Lua, on threads where `workers` says so.
---@param fn function
---@param opts? table
---@return nnlua.Dataset
function Dataset:map(fn, opts)
  local o = options.check("map", opts or {}, map_spec)
  if type(fn) == "table" and fn.native_map then return Dataset(fn:native_map(self.handle, o.workers or 0, o.seed), self) end
  check_function("map", fn)
  if not o.workers then
    if o.seed then options.raise "map: option \"seed\" needs \"workers\" (0 will do); without them random draws are nn.seed's" end
    return written(Dataset(pipeline.map(self.handle, fn), self), fn)
  end
  return written(Dataset(pipeline.parallel(self.handle, fn, o.workers, o.seed), self), fn)
end

--- The elements for which `fn(x, y, ...)` is true.
---@param fn function
---@return nnlua.Dataset
function Dataset:filter(fn) return written(Dataset(pipeline.filter(self.handle, check_function("filter", fn)), self), fn) end

--- The elements up to the first for which `fn(x, y, ...)` is false.
---@param fn function
---@return nnlua.Dataset
function Dataset:take_while(fn) return written(Dataset(pipeline.take_while(self.handle, check_function("take_while", fn)), self), fn) end

--- `fn(x, y, ...)` of each element is a data set; the elements of all of them, one after the other.
---@param fn function
---@return nnlua.Dataset
function Dataset:flat_map(fn) return written(Dataset(pipeline.flat_map(self.handle, check_function("flat_map", fn), 1, 1), self), fn) end

local interleave_spec = { cycle = { "integer", default = 4, min = 1, max = 1024 }, block = { "integer", default = 1, min = 1 } }

--- As flat_map, but `cycle` (4) data sets are read at a time, `block` (1) elements of each in turn.
---@param fn function
---@param opts? table
---@return nnlua.Dataset
function Dataset:interleave(fn, opts)
  local o = options.check("interleave", opts or {}, interleave_spec)
  return written(Dataset(pipeline.flat_map(self.handle, check_function("interleave", fn), o.cycle, o.block), self), fn)
end

--- `fn(carry, x, y, ...)` returns the next carry and the values of the new element; the first carry is `initial`, a tensor or a number.
---@param initial any
---@param fn function
---@return nnlua.Dataset
function Dataset:scan(initial, fn)
  if type(initial) ~= "userdata" then initial = core.tensor(initial) end
  return written(Dataset(pipeline.scan(self.handle, check_function("scan", fn), initial), self), fn)
end

--- `fn(carry, x, y, ...)` of all elements in turn, now: each call returns the next carry, and the last one is the result.
---@param initial any
---@param fn function
---@return any
function Dataset:reduce(initial, fn)
  check_function("reduce", fn)
  local carry = initial
  local pass <close> = pipeline.open(self.handle)
  local function step(x, ...)
    if x == nil then return false end
    carry = fn(carry, x, ...)
    return true
  end
  while step(pass()) do end -- luacheck: ignore 542
  return carry
end

--- What `fn(ds)` returns: a step that is made of several verbs and used in several places.
---@param fn function
---@return nnlua.Dataset
function Dataset:apply(fn)
  local ds = check_function("apply", fn)(self)
  if not class.isa(ds, Dataset) then options.raise("apply: the function must return a data set, got " .. options.shown(ds)) end
  return ds
end

-- ---- cut up and put together -----------------------------------------------------------------------------------------------

--- The rows of each element as elements: the opposite of batch.
---@return nnlua.Dataset
function Dataset:unbatch()
  local ds = Dataset(pipeline.unbatch(self.handle), self)
  ds.batched = nil
  return ds
end

local rebatch_spec = { size = { "integer", position = 1, required = true, min = 1 }, drop_last = { "boolean", default = false } }

--- Batches of another size. Option drop_last.
---@param size integer|table
---@param opts? table
---@return nnlua.Dataset
function Dataset:rebatch(size, opts)
  local o = options.check("rebatch", given(size, opts), rebatch_spec)
  return self:unbatch():batch(o.size, { drop_last = o.drop_last })
end

-- What nnlua.core wants to know of filling up: {value, sizes} for each tensor of an element, the last for all further ones.
local function padding(verb, o)
  local values, shapes, list = type(o.value) == "table" and o.value or { o.value }, o.shapes or {}, {}
  local n = math.max(#values, 1)
  for i in pairs(shapes) do n = math.max(n, math.tointeger(i) or 0) end
  for i = 1, n do
    local value, shape = values[i] or values[#values], shapes[i]
    if math.type(shape) == "integer" then shape = { shape } end
    local good = type(value) == "number" and (not shape or type(shape) == "table")
    for _, size in ipairs(good and shape or {}) do good = good and math.type(size) == "integer" and size >= -1 end
    if not good then
      options.raise(("%s: tensor %d: its value must be a number, its shape a list of sizes (-1: as large as needed) or false; got %s, %s")
        :format(verb, i, options.shown(value), options.shown(shape)))
    end
    list[i] = { value, shape or nil }
  end
  return list
end

local padded_spec = {
  size = { "integer", position = 1, required = true, min = 1 },
  value = { "number|table", default = 0 },
  shapes = { "table" },
  drop_last = { "boolean", default = false },
}

--- Batches of elements whose shapes differ: each is filled up with `value` (0) to the largest of its batch. Options: value, a number or a list of one
--- for each tensor; shapes, a list with a shape for each tensor, as { {20}, {-1, 8}, false }: filled up to that one in every batch, where -1 (and
--- false: all of it) means the largest of the batch, and a larger element is an error; drop_last.
---@param size integer|table
---@param opts? table
---@return nnlua.Dataset
function Dataset:padded_batch(size, opts)
  local o = options.check("padded_batch", given(size, opts), padded_spec)
  local ds = Dataset(pipeline.padded_batch(self.handle, o.size, padding("padded_batch", o), o.drop_last), self)
  ds.batched = true
  return ds
end

local bucket_spec = {
  bounds = { "table", position = 1, required = true },
  sizes = { "table|integer", position = 2, required = true },
  by = { "integer|function", default = 1 },
  value = { "number|table", default = 0 },
  shapes = { "table" },
  drop_last = { "boolean", default = false },
}

--- Padded batches of elements of similar length: `bucket({20, 50}, {64, 32, 16})` gathers those below 20 in batches of 64, those below 50
--- in batches of 32, the others in batches of 16 (tf.data's bucket_by_sequence_length). One number is the size of all. Options: by: the number of the
--- tensor whose first size is the length (1), or a function of the element that returns one; value and shapes as in padded_batch; drop_last.
---@param bounds integer[]|table
---@param sizes? integer[]|integer
---@param opts? table
---@return nnlua.Dataset
function Dataset:bucket(bounds, sizes, opts)
  local all = bounds
  if sizes ~= nil then
    all = { bounds, sizes }
    for key, value in pairs(opts or {}) do all[key] = value end
  end
  local o = options.check("bucket", all, bucket_spec)
  local list = o.sizes
  if type(list) ~= "table" then
    list = {}
    for i = 1, #o.bounds + 1 do list[i] = o.sizes end
  end
  if #list ~= #o.bounds + 1 then
    options.raise(("bucket: %d bounds make %d buckets; there are %d sizes"):format(#o.bounds, #o.bounds + 1, #list))
  end
  if type(o.by) == "number" and o.by < 1 then options.raise(('bucket: option "by" must be at least 1, got %d'):format(o.by)) end
  local ds = Dataset(pipeline.bucket(self.handle, o.by, o.bounds, list, padding("bucket", o), o.drop_last), self)
  ds.batched = true
  return ds
end

local group_spec = {
  key = { "function", position = 1, required = true },
  fn = { "function", position = 2, required = true },
  size = { "integer|function", required = true },
}

--- Elements by their keys (tf.data's group_by_window): `key(x, y, ...)` is a whole number; `size` elements of one key at a time are a data set, and
--- the elements of `fn(key, window)`, a data set, come out. Windows that are not full come last, by their keys. Option size: a number, or a function
--- of the key. `ds:group_by(function(x, y) return y end, function(_, w) return w:batch(8) end, { size = 8 })` makes batches of one class each.
---@param key function
---@param fn function
---@param opts table
---@return nnlua.Dataset
function Dataset:group_by(key, fn, opts)
  local all = { key, fn }
  for name, value in pairs(opts or {}) do all[name] = value end
  local o = options.check("group_by", all, group_spec)
  local by, size, reduce = o.key, o.size, o.fn
  if type(size) == "function" then
    by = function(...)
      local k = o.key(...)
      return k, size(core.is_tensor(k) and k:item() or k)
    end
  end
  local labels, name, batched = self.labels, self.name, self.batched
  return Dataset(pipeline.group_by(self.handle, by, function(k, handle)
    local window = Dataset(handle)
    window.labels, window.name, window.batched = labels, name, batched
    return reduce(k, window)
  end, type(size) == "function" and 1 or size), self)
end

local window_spec = {
  size = { "integer", position = 1, required = true, min = 1 },
  shift = { "integer", min = 1 },
  stride = { "integer", default = 1, min = 1 },
  drop_last = { "boolean", default = false },
}

--- Windows of `size` elements, each as one batch (tf.data's window and batch in one): every `stride`-th (1) element from the first on, then
--- again from `shift` (by default size) elements further on. Option drop_last: leave out windows that are not full.
---@param size integer|table
---@param opts? table
---@return nnlua.Dataset
function Dataset:window(size, opts)
  local o = options.check("window", given(size, opts), window_spec)
  return Dataset(pipeline.window(self.handle, o.size, o.shift or o.size, o.stride, o.drop_last), self)
end

--- Part `index` (from 1) of `n`: every n-th element, so that n machines share the work.
---@param n integer
---@param index integer
---@return nnlua.Dataset
function Dataset:shard(n, index)
  for i, v in ipairs { n, index or false } do
    if math.type(v) ~= "integer" then options.raise(("shard: value %d must be an integer, got %s"):format(i, options.shown(v))) end
  end
  return self:picked(pipeline.shard, n, index)
end

--- Two data sets: the first `part` elements (a number of them, or a share below 1) and the rest. Needs a known number of elements. Shuffle before
--- with `reshuffle = false`, or the two will mix from pass to pass.
---@param part number
---@return nnlua.Dataset, nnlua.Dataset
function Dataset:split(part)
  local n = self:cardinality()
  if not n or n == math.huge then options.raise "split: the number of elements must be known" end
  if type(part) ~= "number" or part < 0 or part > n then
    options.raise("split: the part must be a share or a number of elements, got " .. options.shown(part))
  end
  local first = part < 1 and math.floor(n * part + 0.5) or math.tointeger(part)
  if not first then options.raise("split: a number of elements must be whole, got " .. options.shown(part)) end
  return self:take(first), self:skip(first)
end

-- ---- number, keep, leave out -------------------------------------------------------------------------------------------

--- A number in front of the tensors of each element: `first` (1), `first` + 1, ...
---@param first? integer
---@return nnlua.Dataset
function Dataset:enumerate(first)
  first = first or 1
  if math.type(first) ~= "integer" then options.raise("enumerate: the first number must be an integer, got " .. options.shown(first)) end
  return Dataset(pipeline.enumerate(self.handle, first), self)
end

--- Each element once: those that equal an earlier one of the pass (in all values, shapes and dtypes) are left out.
---@return nnlua.Dataset
function Dataset:unique() return Dataset(pipeline.unique(self.handle), self) end

local cache_spec = { file = { "string", position = 1 } }

--- Keep the elements of the first pass and give them in every pass: in memory, or with `file` in a file that later programs read, too. What comes
--- before is run once, so its random draws and its order are those of the first pass: shuffle and augment after it. A file of another pipeline
--- is an error; that a function has changed is not seen: remove the file then. A damaged file (each element has a checksum) is made anew. The
--- first pass holds all elements in memory.
---@param file? string
---@return nnlua.Dataset
function Dataset:cache(file) return Dataset(pipeline.cache(self.handle, options.check("cache", file, cache_spec).file), self) end

--- `cache(file)` under tf.data's other name: what comes before is kept on disk for later programs.
---@param file string
---@return nnlua.Dataset
function Dataset:snapshot(file)
  if type(file) ~= "string" then options.raise("snapshot: needs the name of a file, got " .. options.shown(file)) end
  return self:cache(file)
end

--- Leave out elements that fail, with the error of a map's function or of a file. After 10,000 failures in a row the last one is raised.
---@return nnlua.Dataset
function Dataset:ignore_errors() return Dataset(pipeline.ignore_errors(self.handle), self) end

-- ---- looking -----------------------------------------------------------------------------------------------------------------

local function describe(x)
  local shape = table.concat(x:shape(), "x")
  local text = ("%s %s"):format(x:dtype(), shape == "" and "scalar" or shape)
  if x:numel() == 1 then return text .. " = " .. tostring(x:item()) end
  if x:numel() == 0 then return text end
  local f = x:float()
  return ("%s, %.4g to %.4g, mean %.4g"):format(text, f:min():item(), f:max():item(), f:mean():item())
end

-- The part of a description that a step adds to that of the one before it, and where its function is written.
local function own_words(step, name, before)
  local own = name:sub(1, #before) == before and name:sub(#before + 1):match "^%s*(.*)$" or name
  if own == "" then own = "prefetch" end -- which changes neither elements nor order, so no description has it
  return step.written and ("%s %s"):format(own, step.written) or own
end

--- One sample step by step: what each verb of the chain makes of the first element, as lines of text that it also prints (`print = false`: only
--- returned); up to the first that fails, with its error. Changes nothing: the next pass is what it would have been.
---@param opts? {print?: boolean}
---@return string
function Dataset:debug(opts)
  local chain, lines = {}, {}
  local ds = self
  while ds do
    table.insert(chain, 1, ds)
    ds = ds.from
  end
  local before, failed = "", false
  local state = pipeline.state(self.handle)
  for i, step in ipairs(chain) do
    if failed then break end
    local name = pipeline.describe(step.handle)
    local own = own_words(step, name, before)
    before = name
    pipeline.restore(self.handle, state) -- the same sample at every step
    local pass <close> = pipeline.open(step.handle)
    local element = table.pack(pcall(pass))
    local words = {}
    failed = not element[1]
    if failed then words[1] = "fails: " .. tostring(element[2])
    elseif element.n == 1 then words[1] = "nothing"
    else
      for k = 2, element.n do words[#words + 1] = describe(element[k]) end
    end
    lines[i] = ("%d %-28s %s"):format(i, own, table.concat(words, "; "))
  end
  pipeline.restore(self.handle, state)
  local text = table.concat(lines, "\n")
  if not opts or opts.print ~= false then print(text) end
  return text
end

return {}
