--- Operators that are compositions of others (door A): those that give lists, and what is a line or two of Lua.
--
-- Owns: split, chunk, unbind, meshgrid, index_put, full_like, empty, empty_like, from_table. nnlua.init loads this file when one of them is first
-- used, as a function or as a method of tensors. Everything here is differentiable because its parts are.

local core = require "nnlua.core"
local options = require "nnlua.options"

local tensor = {}

local function need_tensor(what, x, n)
  if not core.is_tensor(x) then options.raise(("%s: argument %d must be a tensor, got %s"):format(what, n or 1, options.shown(x))) end
end

local function is_whole(v) return math.type(v) == "integer" end

-- The dim as 1..x:dim(), from what the user gave (negative from the end).
local function dim_of(what, x, dim)
  local n = x:dim()
  if not is_whole(dim) then options.raise(("%s: dim must be an integer, got %s"):format(what, options.shown(dim))) end
  if n == 0 then options.raise(what .. ": a scalar has no dims") end
  if dim == 0 or dim > n or dim < -n then
    options.raise(("%s: dim %d is out of range: the tensor has %d dims (1..%d or -1..-%d)"):format(what, dim, n, n, n))
  end
  return dim < 0 and dim + n + 1 or dim
end

--- Pieces of `size` elements along dim (the last may be smaller), or of the sizes in a list, which must add up.
--
--     local nn = require "nnlua"
--     local a, b = table.unpack(nn.arange(0, 5):split(3))
--     print(#a, #b)  --> 3  2
---@param x table tensor
---@param size integer|integer[]
---@param dim? integer
---@return table[] views
function tensor.split(x, size, dim)
  need_tensor("split", x)
  dim = dim_of("split", x, dim or 1)
  local total, sizes = x:size(dim), size
  if is_whole(size) then
    if size < 1 then options.raise(("split: size %d, at least 1 is needed"):format(size)) end
    sizes = {}
    for first = 1, math.max(total, 1), size do sizes[#sizes + 1] = math.min(size, total - first + 1) end
  elseif type(size) ~= "table" then
    options.raise("split: size must be an integer or a list of integers, got " .. options.shown(size))
  end
  local sum, list = 0, {}
  for i, n in ipairs(sizes) do
    if not is_whole(n) or n < 0 then options.raise(("split: size %s is no size"):format(options.shown(n))) end
    if n > total - sum then options.raise(("split: the sizes add up to more than %d, the size of dim %d"):format(total, dim)) end
    list[i] = x:narrow(dim, sum + 1, n)
    sum = sum + n
  end
  if sum ~= total then options.raise(("split: the sizes add up to %d, dim %d has size %d"):format(sum, dim, total)) end
  return list
end

--- `count` pieces along dim, as even as pieces of one size get (there may be fewer).
---@param x table tensor
---@param count integer
---@param dim? integer
---@return table[] views
function tensor.chunk(x, count, dim)
  need_tensor("chunk", x)
  dim = dim_of("chunk", x, dim or 1)
  if not is_whole(count) or count < 1 then options.raise(("chunk: count = %s, an integer of at least 1 is needed"):format(options.shown(count))) end
  return tensor.split(x, math.max(1, (x:size(dim) + count - 1) // count), dim)
end

--- The slices along dim, each without it.
---@param x table tensor
---@param dim? integer
---@return table[] views
function tensor.unbind(x, dim)
  need_tensor("unbind", x)
  dim = dim_of("unbind", x, dim or 1)
  local list = {}
  for i = 1, x:size(dim) do list[i] = x:narrow(dim, i, 1):squeeze(dim) end
  return list
end

--- Coordinate grids of vectors. indexing: "ij" (the default, first vector along dim 1) or "xy" (along dim 2).
--
--     local nn = require "nnlua"
--     local r, c = table.unpack(nn.meshgrid{ nn.arange(0, 2), nn.arange(0, 3) })
--     print(r:size(), c:size())  --> 2  2  3
---@param list table[] vectors
---@param o? table { indexing = }
---@return table[] tensors, one for each vector
function tensor.meshgrid(list, o)
  if type(list) ~= "table" or #list == 0 then options.raise("meshgrid: a list of vectors is needed, got " .. options.shown(list)) end
  o = options.check("meshgrid", o or {}, { indexing = { "string", default = "ij", choices = { "ij", "xy" } } })
  local shape, grids = {}, {}
  for i, v in ipairs(list) do
    need_tensor("meshgrid", v, i)
    if v:dim() > 1 then options.raise(("meshgrid: vector %d has %d dims"):format(i, v:dim())) end
    shape[i] = v:numel()
  end
  for i, v in ipairs(list) do
    local one = {}
    for k = 1, #list do one[k] = k == i and shape[i] or 1 end
    grids[i] = v:reshape(one):expand(shape)
    if o.indexing == "xy" and #list > 1 then grids[i] = grids[i]:transpose(1, 2) end
  end
  return grids
end

--- `x` with `v` stored (or added, with accumulate) where a list of tensors of positions, broadcast together, names elements of its first
--- dims. Of several values for one element the last counts.
---@param x table tensor
---@param positions table[] integer tensors
---@param v any tensor or number
---@param accumulate? boolean
---@return table tensor
function tensor.index_put(x, positions, v, accumulate)
  need_tensor("index_put", x)
  if type(positions) ~= "table" or #positions == 0 then
    options.raise("index_put: a list of tensors of positions is needed, got " .. options.shown(positions))
  end
  if #positions > x:dim() then options.raise(("index_put: %d tensors of positions for %d dims"):format(#positions, x:dim())) end
  local together
  for i, ids in ipairs(positions) do
    need_tensor("index_put", ids, i)
    if ids:dtype() == "f32" or ids:dtype() == "bool" then
      options.raise(("index_put: positions must be integers, tensor %d has dtype %s"):format(i, ids:dtype()))
    end
    local zero = ids:long() * 0
    together = together and together + zero or zero
  end
  local list = {}
  for i, ids in ipairs(positions) do list[i] = ids:long() + together end
  return x:scatter_nd(core.stack(list, -1), v, accumulate or false)
end

local function dtype_of(what, o, x)
  o = options.check(what, o or {}, { dtype = { "string" } })
  return o.dtype or x:dtype()
end

--- A tensor of x's shape (and dtype, unless another is given) filled with `value`.
function tensor.full_like(x, value, o)
  need_tensor("full_like", x)
  if type(value) == "boolean" then value = value and 1 or 0 end
  return core.full(x:shape(), value, dtype_of("full_like", o, x))
end

--- A tensor of x's shape and dtype; its elements are zero, but do not count on it.
function tensor.empty_like(x, o)
  need_tensor("empty_like", x)
  return core.full(x:shape(), 0, dtype_of("empty_like", o, x))
end

--- A tensor whose elements are zero, but do not count on it: nn.empty(2, 3), nn.empty({2, 3}, {dtype = "i64"}).
function tensor.empty(...) return core.zeros(...) end

--- A tensor from nested tables: nn.tensor under another name.
function tensor.from_table(...) return core.tensor(...) end

return tensor
