--- Pieces that the operators written in Lua share: cutting, padding and placing along one dim, constant tables. Not exported.

local core = require "nnlua.core"

local shapes = {}

--- Most elements along a dim for which tables are built in Lua: more is a mistake.
shapes.MOST = 1 << 24

local floats = { f16 = true, bf16 = true, f32 = true, f64 = true }

--- Does x hold floating-point numbers?
function shapes.is_real(x) return floats[x:dtype()] or false end

--- x as it is when it holds floating-point numbers, else as f32.
function shapes.real(x) return floats[x:dtype()] and x or x:float() end

--- `size` elements of dim `dim` from position `start` (1-based), every `step`.
function shapes.cut(x, dim, start, size, step)
  local s = x:shape()
  local from, every = {}, {}
  for i = 1, #s do from[i], every[i] = 1, 1 end
  from[dim], every[dim], s[dim] = start, step or 1, size
  return core.slice(x, from, s, every)
end

--- A tensor of x's shape but `size` in dim `dim`, every element `value`.
local function filled(x, dim, size, value)
  local s = x:shape()
  s[dim] = size
  return core.full(s, value, x:dtype())
end

--- x with `before` and `after` elements of `value` along `dim`.
function shapes.pad(x, dim, before, after, value)
  if before == 0 and after == 0 then return x end
  local list = {}
  if before > 0 then list[1] = filled(x, dim, before, value) end
  list[#list + 1] = x
  if after > 0 then list[#list + 1] = filled(x, dim, after, value) end
  return core.cat(list, dim)
end

--- x with its elements along `dim` at start, start + step, ... of a dim of `size`, zeros elsewhere.
function shapes.place(x, dim, start, step, size)
  local s, from, every = x:shape(), {}, {}
  for i = 1, #s do from[i], every[i] = 1, 1 end
  from[dim], every[dim] = start, step
  return core.slice_set(filled(x, dim, size, 0), x, from, s, every)
end

--- The numbers of `list` as a tensor of x's dtype (a float) that broadcasts along its dim `dim`.
function shapes.along(list, dim, x)
  local s = {}
  for i = 1, x:dim() do s[i] = 1 end
  s[dim] = #list
  return core.tensor(list, { dtype = x:dtype() }):reshape(s)
end

--- x with dim `dim` multiplied by the matrix (out, in) given as rows of numbers.
function shapes.multiply(matrix, x, dim)
  x = shapes.real(x)
  local s, before, after = x:shape(), 1, 1
  for i = 1, dim - 1 do before = before * s[i] end
  for i = dim + 1, #s do after = after * s[i] end
  local y = core.matmul(core.tensor(matrix, { dtype = x:dtype() }), x:reshape { before, s[dim], after })
  s[dim] = #matrix
  return y:reshape(s)
end

--- The slices of x along `dim` that `ids` (list of positions) name. The dims before `dim` join it, so nothing is moved: rows of what follows are
--- copied.
function shapes.select(x, dim, ids)
  local s, before, after = x:shape(), 1, 1
  for i = 1, dim - 1 do before = before * s[i] end
  for i = dim + 1, #s do after = after * s[i] end
  local at, n = core.tensor(ids, { dtype = "i64" }), s[dim]
  if before ~= 1 then at = (core.arange(0, before, 1, "i64"):reshape(before, 1) * n + at):reshape(-1) end
  s[dim] = #ids
  return core.index_select(x:reshape { before * n, after }, 1, at):reshape(s)
end

return shapes
