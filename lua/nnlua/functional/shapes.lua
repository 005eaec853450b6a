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

--- The slices of x along dim 1, each without it, appended to `into`. The pieces of one cut share one gradient, so many steps cost no quadratic work.
function shapes.steps_of(x, into)
  into = into or {}
  local s = x:shape()
  if s[1] == 1 then
    into[#into + 1] = x:reshape(table.move(s, 2, #s, 1, {}))
    return into
  end
  local sizes, rest = {}, s[1]
  for k = 4, 1, -1 do
    sizes[5 - k] = (rest + k - 1) // k
    rest = rest - sizes[5 - k]
  end
  local pieces = { core.split4(x, 1, sizes) }
  for k = 1, 4 do
    if sizes[k] > 0 then shapes.steps_of(pieces[k], into) end
  end
  return into
end

--- Any number of tensors of one shape along a new dim 1.
function shapes.stack_all(list)
  local parts = {}
  for i = 1, #list, 100 do parts[#parts + 1] = core.stack(table.move(list, i, math.min(i + 99, #list), 1, {}), 1) end
  while #parts > 1 do
    local joined = {}
    for i = 1, #parts, 200 do joined[#joined + 1] = core.cat(table.move(parts, i, math.min(i + 199, #parts), 1, {}), 1) end
    parts = joined
  end
  return parts[1]
end

return shapes
