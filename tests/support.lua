-- What the specs of the library share: comparing tensors with plain tables, messages of errors, reference arithmetic in doubles.
local support = {}

--- All numbers of nested tables, row-major.
function support.flat(t, into)
  into = into or {}
  if type(t) ~= "table" then
    into[#into + 1] = t
  else
    for _, v in ipairs(t) do support.flat(v, into) end
  end
  return into
end

--- Fails unless `actual` (tensor or nested table) has the numbers of `expected` within `tolerance`, absolute and relative. NaN fails.
function support.close(expected, actual, tolerance, what)
  if type(expected) == "userdata" then expected = expected:totable() end
  if type(actual) == "userdata" then actual = actual:totable() end
  local e, a = support.flat(expected), support.flat(actual)
  assert(#e == #a, ("%s: %d values expected, got %d"):format(what or "close", #e, #a))
  tolerance = tolerance or 1e-5
  for i = 1, #e do
    local within = math.abs(e[i] - a[i]) <= tolerance * math.max(1, math.abs(e[i])) -- false for NaN
    if not within then
      error(("%s: value %d: expected %.9g, got %.9g (tolerance %g)"):format(what or "close", i, e[i], a[i], tolerance), 2)
    end
  end
end

--- The message of an error that must happen, without its position.
function support.message(f, ...)
  local ok, err = pcall(f, ...)
  assert(not ok, "an error was expected")
  return (tostring(err):gsub("^[^\n]-:%d+: ", ""))
end

--- n x m table of f(i, j).
function support.matrix(n, m, f)
  local t = {}
  for i = 1, n do
    t[i] = {}
    for j = 1, m do t[i][j] = f(i, j) end
  end
  return t
end

--- Softmax of a row, in doubles.
function support.softmax(row)
  local big, total, out = math.max(table.unpack(row)), 0, {}
  for i, v in ipairs(row) do
    out[i] = math.exp(v - big)
    total = total + out[i]
  end
  for i = 1, #row do out[i] = out[i] / total end
  return out
end

--- Numbers that look arbitrary and are the same everywhere, in (-1, 1).
function support.noise(seed)
  local state = seed or 1
  return function()
    state = (state * 1103515245 + 12345) % 2147483648
    return state / 1073741824 - 1
  end
end

return support
