--- Operators that are compositions of others (door A): those that give lists, and what is a line or two of Lua.
--
-- Owns: split, chunk, unbind, meshgrid, index_put, full_like, empty, empty_like, rand_like, randn_like, from_table. nnlua.init loads this file when
-- one of them is first used, as a function or as a method of tensors. Everything here is differentiable because its parts are.

local core = require "nnlua.core"
local define = require "nnlua.functional.define"

local tensor = {}
define.plain(tensor)

-- The dim as 1..x:dim(), from what the user gave (negative from the end).
local function dim_of(what, x, dim)
  local n = x:dim()
  if n == 0 then define.fail(what, "a scalar has no dims") end
  if dim > n or dim < -n then define.fail(what, "dim %d is out of range: the tensor has %d dims (1..%d or -1..-%d)", dim, n, n, n) end
  return dim < 0 and dim + n + 1 or dim
end

--- Pieces of `size` elements along dim (the last may be smaller), or of the sizes in a list, which must add up.
--
--     local nn = require "nnlua"
--     local a, b = table.unpack(nn.arange(0, 5):split(3))
--     print(#a, #b)  --> 3  2
define.op(tensor, "split(T x, I|IL size, D dim = 1) -> TL",
  "a list of pieces of `size` elements along dim (the last may be smaller), or of the sizes in a list", function(x, size, dim)
    dim = dim_of("split", x, dim)
    local total, sizes = x:size(dim), size
    if type(size) == "number" then
      if size < 1 then define.fail("split", "size %d, at least 1 is needed", size) end
      sizes = {}
      for first = 1, math.max(total, 1), size do sizes[#sizes + 1] = math.min(size, total - first + 1) end
    end
    local sum, list = 0, {}
    for i, n in ipairs(sizes) do
      if n < 0 then define.fail("split", "size %d is no size", n) end
      if n > total - sum then define.fail("split", "the sizes add up to more than %d, the size of dim %d", total, dim) end
      list[i] = x:narrow(dim, sum + 1, n)
      sum = sum + n
    end
    if sum ~= total then define.fail("split", "the sizes add up to %d, dim %d has size %d", sum, dim, total) end
    return list
  end)

define.op(tensor, "chunk(T x, I count, D dim = 1) -> TL",
  "a list of `count` pieces along dim, as even as pieces of one size get (there may be fewer)", function(x, count, dim)
    dim = dim_of("chunk", x, dim)
    if count < 1 then define.fail("chunk", "count = %d, at least 1 is needed", count) end
    return tensor.split(x, math.max(1, (x:size(dim) + count - 1) // count), dim)
  end)

define.op(tensor, "unbind(T x, D dim = 1) -> TL", "a list of the slices along dim, each without it", function(x, dim)
  dim = dim_of("unbind", x, dim)
  local list = {}
  for i = 1, x:size(dim) do list[i] = x:narrow(dim, i, 1):squeeze(dim) end
  return list
end)

--- Coordinate grids of vectors. indexing: "ij" (the default, first vector along dim 1) or "xy" (along dim 2).
--
--     local nn = require "nnlua"
--     local r, c = table.unpack(nn.meshgrid{ nn.arange(0, 2), nn.arange(0, 3) })
--     print(r:size(), c:size())  --> 2  2  3
define.op(tensor, "meshgrid(TL vectors, S(ij|xy) indexing = ij) -> TL",
  "a list of coordinate grids; ij: the first vector along dim 1, xy: along dim 2", function(list, indexing)
    if #list == 0 then define.fail("meshgrid", "a list of vectors is needed, it is empty") end
    local shape, grids = {}, {}
    for i, v in ipairs(list) do
      if v:dim() > 1 then define.fail("meshgrid", "vector %d has %d dims", i, v:dim()) end
      shape[i] = v:numel()
    end
    for i, v in ipairs(list) do
      local one = {}
      for k = 1, #list do one[k] = k == i and shape[i] or 1 end
      grids[i] = v:reshape(one):expand(shape)
      if indexing == "xy" and #list > 1 then grids[i] = grids[i]:transpose(1, 2) end
    end
    return grids
  end)

--- `x` with `v` stored (or added, with accumulate) where a list of tensors of positions, broadcast together, names elements of its first
--- dims; -1 is the last, as in `x[...]`. Of several values for one element the last counts.
--
--     local nn = require "nnlua"
--     local x = nn.zeros(2, 3):index_put({ nn.tensor{ 1, 2 }, nn.tensor{ -1 } }, 5)
--     print(x[1][3]:item(), x[2][3]:item())  --> 5.0  5.0
define.op(tensor, "index_put(T x, TL positions, T|F v, B accumulate = false)",
  "x with v stored, or added, at positions (broadcast together) of its first dims, -1 the last; of several values for one element the last counts",
  function(x, positions, v, accumulate)
    if #positions == 0 then define.fail("index_put", "a list of tensors of positions is needed, it is empty") end
    if #positions > x:dim() then define.fail("index_put", "%d tensors of positions for %d dims", #positions, x:dim()) end
    local from_front, together = {}, nil
    for i, ids in ipairs(positions) do
      local dtype = ids:dtype()
      if dtype == "bool" or dtype:find "f" then define.fail("index_put", "positions must be integers, tensor %d has dtype %s", i, dtype) end
      ids = ids:long()
      local size = x:size(i)
      from_front[i] = ids + core.where(core.logical_and(ids:lt(0), ids:ge(-size)), size + 1, 0)
      together = together and together + ids * 0 or ids * 0
    end
    for i, ids in ipairs(from_front) do from_front[i] = ids + together end
    return x:scatter_nd(core.stack(from_front, -1), v, accumulate)
  end)

define.op(tensor, "full_like(T x, T|F value, Y? dtype)", "value in every element of x's shape, and of its dtype unless another is given",
  function(x, value, dtype)
    if define.is_tensor(value) then define.fail("full_like", "value must be a number") end
    return core.full(x:shape(), value, dtype or x:dtype())
  end)

define.op(tensor, "empty_like(T x, Y? dtype)", "a tensor of x's shape and dtype; its elements are zero, but do not count on it",
  function(x, dtype) return core.full(x:shape(), 0, dtype or x:dtype()) end)

-- Draws for x's shape; an integer's dtype is not kept.
local function drawn(draw, x, dtype)
  dtype = dtype or x:dtype()
  local y = draw(x:shape())
  return dtype:find "f" and dtype ~= "f32" and y:cast(dtype) or y
end

define.op(tensor, "rand_like(T x, Y? dtype)", "uniform draws in [0, 1) of x's shape, and its dtype if that is a float's",
  function(x, dtype) return drawn(core.uniform, x, dtype) end)

define.op(tensor, "randn_like(T x, Y? dtype)", "standard normal draws of x's shape, and its dtype if that is a float's",
  function(x, dtype) return drawn(core.normal, x, dtype) end)

--- A tensor whose elements are zero, but do not count on it: nn.empty(2, 3), nn.empty({2, 3}, {dtype = "i64"}).
tensor.empty = define.named("empty", core.zeros)

--- A tensor from nested tables: nn.tensor under another name.
tensor.from_table = define.named("from_table", core.tensor)

return tensor
