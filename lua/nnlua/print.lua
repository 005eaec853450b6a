--- How tensors print: like NumPy, with dtype and shape.
--
--     tensor([[ 1.5  2. ]
--             [-3.   4. ]], dtype=f32, shape=2x2)
--
-- Owns: number formats and layout of `tostring(x)`. Columns are aligned, more than 1000 elements are summarised to 3 at each end of a dim, 4 digits
-- follow the point, powers of ten are used when the range of numbers asks for it. Reads only the elements it shows.

local print_ = {}

local THRESHOLD, EDGE, DIGITS, WIDTH = 1000, 3, 4, 88

local abs, huge = math.abs, math.huge

-- ---- numbers ----
local function is_finite(x) return x == x and x ~= huge and x ~= -huge end

local function special(x)
  if x ~= x then return "nan" end
  return x > 0 and "inf" or "-inf"
end

-- 1.5000 -> 1.5, 2.0000 -> 2.
local function trimmed(s) return (s:gsub("0+$", "")) end

-- One format for all numbers: how many digits behind the point, or powers of ten when the largest and the smallest are too far apart.
local function float_format(list)
  local big, small, behind = 0, huge, 0
  for _, x in ipairs(list) do
    if is_finite(x) and x ~= 0 then
      big, small = math.max(big, abs(x)), math.min(small, abs(x))
    end
  end
  local powers = big > 0 and (big >= 1e8 or small < 1e-4 or big / small > 1000 * 10 ^ DIGITS)
  local pattern = powers and ("%%.%de"):format(DIGITS) or ("%%.%df"):format(DIGITS)
  local function shown(x)
    if not is_finite(x) then return special(x) end
    return pattern:format(x)
  end
  for _, x in ipairs(list) do -- the most digits that any of them needs
    if is_finite(x) then
      local digits = shown(x):match "%.(%d+)"
      behind = math.max(behind, #trimmed(digits))
    end
  end
  pattern = (powers and "%%.%de" or "%%.%df"):format(behind)
  return function(x)
    local s = shown(x)
    if not is_finite(x) then return s end
    if behind == 0 then s = powers and s:gsub("e", ".e") or s .. "." end
    return s
  end
end

-- With columns that end at the same digit a number loses its zeros but not its place: "1.5 " and "2.  "
local function blank_zeros(s)
  if not s:find(".", 1, true) or s:find "e" then return s end
  local kept = trimmed(s)
  return kept .. (" "):rep(#s - #kept)
end

-- ---- what is shown ----
-- positions of a dim that are shown: all, or the first and last EDGE with a gap between them (false)
local function positions(n, summarised)
  local list = {}
  if not summarised or n <= 2 * EDGE then
    for i = 1, n do list[i] = i end
  else
    for i = 1, EDGE do list[i] = i end
    list[EDGE + 1] = false
    for i = n - EDGE + 1, n do list[#list + 1] = i end
  end
  return list
end

-- Nested lists of the elements that are shown; the gap is false.
local function gather(t, shape, summarised)
  local values = {}
  local function walk(d, offset) -- offset: row-major number of the first element, from 0
    if d > #shape then
      local v = t:elements(offset + 1, offset + 1)[1]
      values[#values + 1] = v
      return { value = v }
    end
    local inner = 1
    for k = d + 1, #shape do inner = inner * shape[k] end
    local list = {}
    for _, i in ipairs(positions(shape[d], summarised)) do list[#list + 1] = i and walk(d + 1, offset + (i - 1) * inner) end
    return list
  end
  if not summarised and #shape > 0 then -- all at once
    values = t:elements(1, t:numel())
    local k = 0
    local function nest(d)
      if d > #shape then
        k = k + 1
        return { value = values[k] }
      end
      local list = {}
      for i = 1, shape[d] do list[i] = nest(d + 1) end
      return list
    end
    return nest(1), values
  end
  return walk(1, 0), values
end

local function formatter(values, dtype)
  local width, show = 0, tostring
  if dtype == "f32" then
    local f = float_format(values)
    show = function(x) return blank_zeros(f(x)) end
  end
  for _, v in ipairs(values) do width = math.max(width, #show(v)) end
  return function(v) return ("%" .. width .. "s"):format(show(v)) end, width
end

-- ---- layout ----
local function lay_out(tree, depth, show, indent)
  if tree.value ~= nil then return show(tree.value) end
  local out, line = {}, 0
  local last = true
  for _, sub in ipairs(tree) do last = last and (not sub or sub.value ~= nil) end
  if last then -- a row, broken when it is too long
    for i, sub in ipairs(tree) do
      local s = sub and show(sub.value) or "..."
      if i > 1 then
        if line + #s + 1 > WIDTH - indent then
          s = "\n" .. (" "):rep(indent + 1) .. s
          line = 0
        else
          s = " " .. s
        end
      end
      line = line + #s
      out[i] = s
    end
    return "[" .. table.concat(out) .. "]"
  end
  for i, sub in ipairs(tree) do out[i] = sub and lay_out(sub, depth - 1, show, indent + 1) or "..." end
  return "[" .. table.concat(out, ("\n"):rep(depth - 1) .. (" "):rep(indent + 1)) .. "]"
end

--- The text of a tensor.
---@return string
function print_.tostring(t)
  if not t:is_alive() then return "tensor(gone)" end
  local shape, dtype, n = t:shape(), t:dtype(), t:numel()
  local tail = ("dtype=%s, shape=%s"):format(dtype, #shape > 0 and table.concat(shape, "x") or "scalar")
  if t:requires_grad() then tail = tail .. ", requires_grad=true" end
  if n == 0 then return ("tensor([], %s)"):format(tail) end
  local tree, values = gather(t, shape, n > THRESHOLD)
  local show = formatter(values, dtype)
  if #shape == 0 then return ("tensor(%s, %s)"):format((show(values[1]):gsub("%s+$", "")), tail) end
  return ("tensor(%s, %s)"):format(lay_out(tree, #shape, show, #"tensor("), tail)
end

--- Make tensors print that way: sets __tostring of the core's tensors.
function print_.install(core)
  core.tensor_metatable.__tostring = print_.tostring
end


return print_
