-- lua/nnlua/vision*: every transform of the runtime's table against plain Lua loops in double precision, on odd sizes, one channel and three, u8 and
-- f32; images, masks and boxes together; draws; files; grids; mixing. A transform without a check fails. (Damaged files: tests/c/test_image.c.)
local nn = require "nnlua"
local V = nn.vision
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local message = dofile(here .. "support.lua").message

-- ---- pictures as tables ----------------------------------------------------------------------------------------------

-- what a picture of dtype holds: p[y][x][c], from 1; range low..high; numbers are rounded as the dtype does
local function random_picture(h, w, c, dtype, seed)
  nn.seed(seed)
  local x = nn.rand(h, w, c)
  if dtype == "u8" then x = (x * 255):round():to "u8" end
  return x, { p = x:totable(), h = h, w = w, c = c, u8 = dtype == "u8", low = 0, high = dtype == "u8" and 255 or 1 }
end

local function stored(q, v)
  v = math.max(q.low, math.min(q.high, v))
  return q.u8 and math.floor(v + 0.5) or v
end

local function new(q, h, w, f)
  local r = { p = {}, h = h, w = w, c = q.c, u8 = q.u8, low = q.low, high = q.high }
  for y = 1, h do
    r.p[y] = {}
    for x = 1, w do
      r.p[y][x] = {}
      for c = 1, q.c do r.p[y][x][c] = f(y, x, c) end
    end
  end
  return r
end

local function map(q, f) return new(q, q.h, q.w, function(y, x, c) return stored(q, f(q.p[y][x][c], q.p[y][x], c)) end) end

-- the picture as a flat list of its values, and the largest difference to a tensor's
local function difference(q, x)
  local flat, worst, i = x:reshape(-1):totable(), 0, 0
  for y = 1, q.h do
    for xx = 1, q.w do
      for c = 1, q.c do
        i = i + 1
        local d = math.abs(q.p[y][xx][c] - flat[i])
        if d > worst or d ~= d then worst = d == d and d or math.huge end
      end
    end
  end
  return i == #flat and worst or math.huge
end

-- source (u, v), a continuous place, read bilinearly; beyond: constant (fill), nearest, reflect
local function fold(i, n, beyond)
  if i >= 1 and i <= n then return i end
  if beyond == "constant" then return nil end
  if beyond == "nearest" then return i < 1 and 1 or n end
  while i < 1 or i > n do i = i < 1 and 1 - i or 2 * n + 1 - i end
  return i
end

local function read(q, u, v, c, beyond, fill)
  local x, y = math.floor(u + 0.5), math.floor(v + 0.5) -- 1-based pixel whose centre is at or left of u
  local fx, fy, sum = u + 0.5 - x, v + 0.5 - y, 0
  for dy = 0, 1 do
    for dx = 0, 1 do
      local a, b = fold(y + dy, q.h, beyond), fold(x + dx, q.w, beyond)
      sum = sum + (dy == 1 and fy or 1 - fy) * (dx == 1 and fx or 1 - fx) * (a and b and q.p[a][b][c] or fill)
    end
  end
  return sum
end

local function warp(q, source, beyond, fill)
  return new(q, q.h, q.w, function(y, x, c)
    local u, v = source(x - 0.5, y - 0.5)
    return stored(q, read(q, u, v, c, beyond or "constant", fill or 0))
  end)
end

local function about_centre(q, f)
  return function(x, y)
    local u, v = f(x - q.w / 2, y - q.h / 2)
    return u + q.w / 2, v + q.h / 2
  end
end

local function luma(px) return #px == 3 and 0.299 * px[1] + 0.587 * px[2] + 0.114 * px[3] or px[1] end

-- weights of a resize: f(distance of a source pixel's centre) over all source pixels
local function resized(q, h, w, weight)
  local function list(n, m)
    local out = {}
    for i = 1, m do out[i] = weight(n, m, i) end
    return out
  end
  local rows, columns = list(q.h, h), list(q.w, w)
  return new(q, h, w, function(y, x, c)
    local sum = 0
    for a, wa in pairs(rows[y]) do
      for b, wb in pairs(columns[x]) do sum = sum + wa * wb * q.p[a][b][c] end
    end
    return q.u8 and stored(q, sum) or sum -- bicubic may leave the range
  end)
end

local function keys(a) return function(t)
  t = math.abs(t)
  if t <= 1 then return (a + 2) * t ^ 3 - (a + 3) * t ^ 2 + 1 end
  return t < 2 and a * t ^ 3 - 5 * a * t ^ 2 + 8 * a * t - 4 * a or 0
end end
local function hat(t) return math.max(0, 1 - math.abs(t)) end

-- antialias: the filter as wide as the scale, weights made to sum to one; else: border pixels repeated
local function filtered(f, antialias)
  return function(n, m, i)
    local scale, out = n / m, {}
    local centre, wide = (i - 0.5) * scale, antialias and math.max(1, scale) or 1
    local sum = 0
    for k = antialias and 1 or -3, antialias and n or n + 4 do
      local v = f((k - 0.5 - centre) / wide)
      local at = math.max(1, math.min(n, k))
      out[at], sum = (out[at] or 0) + v, sum + v
    end
    for k, v in pairs(out) do out[k] = v / sum end
    return out
  end
end

local function covered(n, m, i)
  local from, to, out = (i - 1) * n / m, i * n / m, {}
  for k = 1, n do
    local part = math.min(k, to) - math.max(k - 1, from)
    if part > 0 then out[k] = part / (to - from) end
  end
  return out
end

local function blurred(q, sigma)
  local radius, weight, sum = math.ceil(3 * sigma), {}, 0
  for r = -radius, radius do weight[r] = math.exp(-r * r / (2 * sigma * sigma)) sum = sum + weight[r] end
  local function mirror(i, n)
    while i < 1 or i > n do i = i < 1 and 2 - i or 2 * n - i end
    return i
  end
  return new(q, q.h, q.w, function(y, x, c)
    local total = 0
    for a = -radius, radius do
      for b = -radius, radius do
        total = total + weight[a] * weight[b] / (sum * sum) * q.p[mirror(y + a, q.h)][mirror(x + b, q.w)][c]
      end
    end
    return stored(q, total)
  end)
end

local function equalized(q)
  local out = map(q, function(v) return v end)
  for c = 1, q.c do
    local count, total, last = {}, 0, 0
    local function bin(v) return math.floor((v - q.low) / (q.high - q.low) * 255 + 0.5) end
    for i = 0, 255 do count[i] = 0 end
    for y = 1, q.h do for x = 1, q.w do local b = bin(q.p[y][x][c]) count[b] = count[b] + 1 end end
    for i = 0, 255 do total = total + count[i] if count[i] > 0 then last = count[i] end end
    local step = (total - last) // 255
    local table_, n = {}, step // 2
    for i = 0, 255 do table_[i] = step > 0 and math.min(255, n // step) or i n = n + count[i] end
    for y = 1, q.h do
      for x = 1, q.w do
        if step > 0 then out.p[y][x][c] = q.low + table_[bin(q.p[y][x][c])] / 255 * (q.high - q.low) end
      end
    end
  end
  return out
end

local function mean(q, f)
  local sum = 0
  for y = 1, q.h do for x = 1, q.w do sum = sum + f(q.p[y][x]) end end
  return sum / (q.h * q.w)
end

local function turned_hue(q, by)
  return map(q, function(_, px, c)
    local high, low = math.max(px[1], px[2], px[3]), math.min(px[1], px[2], px[3])
    if high == low then return px[c] end
    local hue
    if high == px[1] then hue = (px[2] - px[3]) / (high - low) % 6
    elseif high == px[2] then hue = (px[3] - px[1]) / (high - low) + 2
    else hue = (px[1] - px[2]) / (high - low) + 4 end
    hue = (hue + 6 * by) % 6
    local chroma, m = high - low, low -- by sectors, as in textbooks
    local x = chroma * (1 - math.abs(hue % 2 - 1))
    local sectors = { [0] = { chroma, x, 0 }, { x, chroma, 0 }, { 0, chroma, x }, { 0, x, chroma }, { x, 0, chroma }, { chroma, 0, x } }
    local rgb = sectors[math.floor(hue)]
    return rgb[c] + m
  end)
end

-- ---- the checks ------------------------------------------------------------------------------------------------------

-- name of the runtime's row -> list of { transform, reference(q) [, off by for u8, for f32] }, or a function(x, q)
local same = function(q) return q end
local checks = {}

local function resize(method, antialias, weight)
  local list = {}
  for _, size in ipairs { { 4, 11 }, { 17, 3 } } do
    local h, w = table.unpack(size)
    list[#list + 1] = { V.Resize { h, w, method = method, antialias = antialias }, function(q) return resized(q, h, w, weight) end }
  end
  return list
end
checks.Resize = {}
for _, list in ipairs {
  resize("bilinear", true, filtered(hat, true)), resize("bilinear", false, filtered(hat, false)),
  resize("bicubic", true, filtered(keys(-0.5), true)), resize("bicubic", false, filtered(keys(-0.75), false)), resize("area", true, covered),
  resize("nearest", true, function(n, m, i) return { [math.floor((i - 0.5) * n / m) + 1] = 1 } end),
} do table.move(list, 1, #list, #checks.Resize + 1, checks.Resize) end

local function window(top, left, h, w, fill)
  return function(q)
    return new(q, h, w, function(y, x, c)
      local row = q.p[y + top]
      return row and row[x + left] and row[x + left][c] or fill
    end)
  end
end
checks.CenterCrop = {
  { V.CenterCrop { 3, 4 }, function(q) return window((q.h - 3) // 2, (q.w - 4) // 2, 3, 4, 0)(q) end },
  { V.CenterCrop { 21, 3, fill = 1 }, function(q) return window(-((21 - q.h) // 2), (q.w - 3) // 2, 21, 3, 1)(q) end },
}
function checks.RandomCrop(x, q)
  local seen, crop = {}, V.RandomCrop { 4, 3, padding = 1, fill = 1 }
  for sample = 1, 150 do
    local y, found = crop:apply({ sample = sample }, x), nil
    for top = -1, q.h - 3 do
      for left = -1, q.w - 2 do
        if difference(window(top, left, 4, 3, 1)(q), y) < 1e-6 then found = top .. " " .. left end
      end
    end
    assert.truthy(found, "a crop that is no window")
    seen[found] = true
  end
  local n = 0
  for _ in pairs(seen) do n = n + 1 end
  assert.truthy(n > 0.6 * math.min(150, (q.h - 1) * (q.w)), n .. " different windows")
end
checks.RandomFlip = {
  { V.RandomFlip { "horizontal", p = 1 }, function(q) return new(q, q.h, q.w, function(y, x, c) return q.p[y][q.w + 1 - x][c] end) end },
  { V.RandomFlip { "vertical", p = 1 }, function(q) return new(q, q.h, q.w, function(y, x, c) return q.p[q.h + 1 - y][x][c] end) end },
  { V.RandomFlip { "both", p = 0 }, same },
}
local function rotation(degrees)
  local a = math.rad(degrees)
  return function(u, v) return math.cos(a) * u - math.sin(a) * v, math.sin(a) * u + math.cos(a) * v end
end
checks.RandomRotation = {
  { V.RandomRotation { { 30, 30 } }, function(q) return warp(q, about_centre(q, rotation(30))) end },
  { V.RandomRotation { { -70, -70 }, fill_mode = "reflect" }, function(q) return warp(q, about_centre(q, rotation(-70)), "reflect") end },
  { V.RandomRotation { { 180, 180 }, interpolation = "nearest" }, function(q)
    return new(q, q.h, q.w, function(y, x, c) return q.p[q.h + 1 - y][q.w + 1 - x][c] end)
  end },
}
checks.RandomTranslation = {
  { V.RandomTranslation { { 0.1, 0.1 }, { -0.2, -0.2 }, fill = 1 }, function(q)
    return warp(q, function(x, y) return x + 0.2 * q.w, y - 0.1 * q.h end, "constant", 1)
  end },
  { V.RandomTranslation { { 1.3, 1.3 }, { 0, 0 }, fill_mode = "reflect" }, function(q)
    return warp(q, function(x, y) return x, y - 1.3 * q.h end, "reflect")
  end },
}
checks.RandomZoom = {
  { V.RandomZoom { { 0.3, 0.3 }, { -0.2, -0.2 } }, function(q) return warp(q, about_centre(q, function(u, v) return 0.8 * u, 1.3 * v end)) end },
  { V.RandomZoom { { 0.4, 0.4 }, fill_mode = "nearest" }, function(q)
    return warp(q, about_centre(q, function(u, v) return 1.4 * u, 1.4 * v end), "nearest")
  end },
}
checks.RandomShear = {
  { V.RandomShear { { 0.3, 0.3 }, { -0.1, -0.1 } }, function(q)
    return warp(q, about_centre(q, function(u, v) return u + 0.3 * v, v - 0.1 * u end))
  end },
}

-- Where points of the source went, asked through boxes of no size.
local both = { kinds = { "image", "boxes" } }
local function moved(transform, key, x, points)
  local boxes = {}
  for i, p in ipairs(points) do boxes[i] = { p[1], p[2], p[1], p[2] } end
  local y, b = V.Compose { transform, kinds = both.kinds }:apply(key, x, nn.tensor(boxes))
  return y, b:totable()
end
local function solve(a, b) -- by Gauss and Jordan
  local n = #b
  for k = 1, n do
    local best = k
    for i = k + 1, n do if math.abs(a[i][k]) > math.abs(a[best][k]) then best = i end end
    a[k], a[best], b[k], b[best] = a[best], a[k], b[best], b[k]
    for i = 1, n do
      if i ~= k then
        local f = a[i][k] / a[k][k]
        for j = k, n do a[i][j] = a[i][j] - f * a[k][j] end
        b[i] = b[i] - f * b[k]
      end
    end
  end
  for k = 1, n do b[k] = b[k] / a[k][k] end
  return b
end
function checks.RandomPerspective(x, q)
  local corners = { { 0, 0 }, { q.w, 0 }, { q.w, q.h }, { 0, q.h } }
  for sample = 1, 5 do
    local y, to = moved(V.RandomPerspective { 0.4 }, { sample = sample }, x, corners)
    local a, b = {}, {}
    for i, p in ipairs(corners) do
      local u, v = to[i][1], to[i][2]
      assert.truthy(math.abs(u - p[1]) <= 0.2 * q.w + 1e-3 and math.abs(v - p[2]) <= 0.2 * q.h + 1e-3, "a corner went too far")
      a[#a + 1], b[#b + 1] = { u, v, 1, 0, 0, 0, -u * p[1], -v * p[1] }, p[1]
      a[#a + 1], b[#b + 1] = { 0, 0, 0, u, v, 1, -u * p[2], -v * p[2] }, p[2]
    end
    local m = solve(a, b)
    local expected = warp(q, function(u, v)
      local d = m[7] * u + m[8] * v + 1
      return (m[1] * u + m[2] * v + m[3]) / d, (m[4] * u + m[5] * v + m[6]) / d
    end)
    assert.truthy(difference(expected, y) <= (q.u8 and 1 or 2e-4), "perspective")
  end
end
function checks.Elastic(x, q)
  local points = {}
  for y = 1, q.h do for xx = 1, q.w do points[#points + 1] = { xx - 0.5, y - 0.5 } end end
  local y, to = moved(V.Elastic { alpha = 3, sigma = 1.5, fill_mode = "reflect" }, { sample = 3 }, x, points)
  local flat, largest, compared = y:totable(), 0, 0
  for i, p in ipairs(points) do
    local dx, dy = p[1] - to[i][1], p[2] - to[i][2]
    if to[i][1] > 0 and to[i][1] < q.w and to[i][2] > 0 and to[i][2] < q.h then -- else the box was cut
      largest, compared = math.max(largest, math.abs(dx), math.abs(dy)), compared + 1
      for c = 1, q.c do
        local r = stored(q, read(q, p[1] + dx, p[2] + dy, c, "reflect"))
        assert.near(r, flat[(i - 1) // q.w + 1][(i - 1) % q.w + 1][c], q.u8 and 1.01 or 1e-4)
      end
    end
  end
  assert.truthy(compared > q.h * q.w / 2 and largest > 0.2 and largest <= 3)
  assert.equal(0, difference(q, V.Elastic { alpha = 0 } (x)))
end

checks.Grayscale = { { V.Grayscale {}, function(q) return map(q, function(_, px) return luma(px) end) end } }
checks.ColorJitter = {
  { V.ColorJitter { brightness = { 1.3, 1.3 } }, function(q) return map(q, function(v) return 1.3 * v end) end },
  { V.ColorJitter { contrast = { 0.6, 0.6 } }, function(q)
    local m = mean(q, luma)
    return map(q, function(v) return 0.6 * v + 0.4 * m end)
  end },
  { V.ColorJitter { saturation = { 1.7, 1.7 } }, function(q)
    return q.c == 1 and q or map(q, function(v, px) return 1.7 * v - 0.7 * luma(px) end)
  end },
  { V.ColorJitter { hue = { 0.3, 0.3 } }, function(q) return q.c == 1 and q or turned_hue(q, 0.3) end },
  { V.ColorJitter { hue = { -0.5, -0.5 } }, function(q) return q.c == 1 and q or turned_hue(q, -0.5) end },
}
function checks.GaussianNoise(_, q)
  local x = nn.full({ 61, 47, q.c }, q.u8 and 128 or 0.5)
  local y = V.GaussianNoise { 0.1 } (q.u8 and x:to "u8" or x):float() / (q.u8 and 255 or 1)
  assert.near(q.u8 and 128 / 255 or 0.5, y:mean():item(), 0.01)
  assert.near(0.1, (y - y:mean()):square():mean():sqrt():item(), 0.01)
end
function checks.SaltPepper(_, q)
  local n, h, w = 0, 60, 51
  local x = nn.full({ h, w, q.c }, q.u8 and 100 or 0.4)
  local y = V.SaltPepper { 0.2 } (q.u8 and x:to "u8" or x):totable()
  local old = stored(q, q.u8 and 100 or 0.4)
  local white = 0
  for _, row in ipairs(y) do
    for _, px in ipairs(row) do
      for c = 2, q.c do assert.equal(px[1], px[c]) end
      if math.abs(px[1] - old) > 1e-6 then
        assert.truthy(px[1] == q.low or px[1] == q.high)
        n, white = n + 1, white + (px[1] == q.high and 1 or 0)
      end
    end
  end
  assert.near(0.2, n / (h * w), 0.03)
  assert.near(0.5, white / n, 0.1)
end
checks.GaussianBlur = {
  { V.GaussianBlur { 0.8 }, function(q) return blurred(q, 0.8) end }, { V.GaussianBlur { 2.5 }, function(q) return blurred(q, 2.5) end },
}
checks.Sharpen = { { V.Sharpen { { 1.8, 1.8 } }, function(q)
  return new(q, q.h, q.w, function(y, x, c)
    if y == 1 or x == 1 or y == q.h or x == q.w then return q.p[y][x][c] end
    local sum = 4 * q.p[y][x][c]
    for a = -1, 1 do for b = -1, 1 do sum = sum + q.p[y + a][x + b][c] end end
    local smooth = q.u8 and math.floor(sum / 13 + 0.5) or sum / 13
    return stored(q, smooth + 1.8 * (q.p[y][x][c] - smooth))
  end)
end } }
checks.Posterize = { { V.Posterize { 3 }, function(q)
  return map(q, function(v) return q.u8 and v // 32 * 32 or math.floor(v * 255 + 0.001) // 32 * 32 / 255 end)
end } }
checks.Solarize = { { V.Solarize { 0.3 }, function(q)
  return map(q, function(v) return v >= 0.3 * q.high and q.high - v or v end)
end } }
checks.Equalize = { { V.Equalize {}, equalized } }
checks.AutoContrast = { { V.AutoContrast {}, function(q)
  local low, high = {}, {}
  for c = 1, q.c do
    low[c], high[c] = math.huge, -math.huge
    for y = 1, q.h do for x = 1, q.w do low[c], high[c] = math.min(low[c], q.p[y][x][c]), math.max(high[c], q.p[y][x][c]) end end
  end
  return map(q, function(v, _, c) return (v - low[c]) / (high[c] - low[c]) * q.high end)
end } }
checks.Invert = { { V.Invert {}, function(q) return map(q, function(v) return q.high - v end) end } }
function checks.Erase(x, q)
  local area, flat_x = 0, x:totable()
  for sample = 1, 40 do
    local y = V.Erase { area = { 0.2, 0.4 }, ratio = { 0.5, 2 }, value = q.high } :apply({ sample = sample }, x):totable()
    local top, left, bottom, right, n = math.huge, math.huge, 0, 0, 0
    for i = 1, q.h do
      for j = 1, q.w do
        local gone = true
        for c = 1, q.c do gone = gone and y[i][j][c] == q.high end
        if gone then
          top, left, bottom, right, n = math.min(top, i), math.min(left, j), math.max(bottom, i), math.max(right, j), n + 1
        else
          for c = 1, q.c do assert.equal(flat_x[i][j][c], y[i][j][c]) end
        end
      end
    end
    assert.truthy(n > 0 and math.abs((bottom - top + 1) * (right - left + 1) - n) <= 2) -- a pixel that was white already may stretch it
    area = area + n
  end
  assert.near(0.3, area / 40 / (q.h * q.w), 0.08)
end
checks.Standardize = { { V.Standardize {}, function(q)
  local sum, square, n = 0, 0, q.h * q.w * q.c
  for y = 1, q.h do for x = 1, q.w do for c = 1, q.c do sum, square = sum + q.p[y][x][c], square + q.p[y][x][c] ^ 2 end end end
  local m = sum / n
  local by = math.max(math.sqrt(square / n - m * m), 1 / math.sqrt(n))
  return new(q, q.h, q.w, function(y, x, c) return (q.p[y][x][c] - m) / by end)
end, 1e-3, 1e-4 } }
checks.Rescale = { { V.Rescale { 2, -1 }, function(q) return new(q, q.h, q.w, function(y, x, c) return 2 * q.p[y][x][c] - 1 end) end, 1e-4, 1e-5 } }
checks.Normalize = { { V.Normalize { { 0.1, 0.2, 0.3 }, { 0.5, 0.6, 0.7 } }, function(q)
  return new(q, q.h, q.w, function(y, x, c) return (q.p[y][x][c] - c / 10) / (0.4 + c / 10) end)
end, 1e-3, 1e-5 } }
function checks.RandAugment(x, q)
  local candidates = { q }
  local function add(t) candidates[#candidates + 1] = t(x) end
  for _, s in ipairs { -0.5, 0.5 } do -- magnitude 15 of 30
    add(V.RandomShear { { 0.3 * s, 0.3 * s } })
    add(V.RandomShear { { 0, 0 }, { 0.3 * s, 0.3 * s } })
    add(V.RandomTranslation { { 150 / 331 * s, 150 / 331 * s }, { 0, 0 } })
    add(V.RandomTranslation { { 0, 0 }, { 150 / 331 * s, 150 / 331 * s } })
    add(V.RandomRotation { { 30 * s, 30 * s } })
    for _, key in ipairs { "brightness", "contrast", "saturation" } do add(V.ColorJitter { [key] = { 1 + 0.9 * s, 1 + 0.9 * s } }) end
    add(V.Sharpen { { 1 + 0.9 * s, 1 + 0.9 * s } })
  end
  add(V.Posterize { 6 })
  add(V.Solarize { 0.5 })
  add(V.AutoContrast {})
  add(V.Equalize {})
  local seen, n = {}, 0
  for sample = 1, 120 do
    local y, found = V.RandAugment { n = 1, magnitude = 15 } :apply({ sample = sample }, x), nil
    for i, want in ipairs(candidates) do
      local d = i == 1 and difference(q, y) or (want:float() - y:float()):abs():amax():item()
      if d <= (q.u8 and 1 or 1e-5) and not found then found = i end
    end
    assert.truthy(found, "sample " .. sample .. " is none of the transforms")
    if not seen[found] then seen[found], n = true, n + 1 end
  end
  assert.truthy(n >= (q.c == 3 and 17 or 14), n .. " different transforms")
end
-- y = x + sum of w (op(x) - x), w >= 0 that sum to one at most. At severity 1 few of the transforms do something, each one thing, so the weights of
-- chains of one transform come from least squares.
function checks.AugMix(x, q)
  local low_at, high_at = math.huge, -math.huge
  local function flat(t) return t:double():reshape(-1):totable() end
  local base = flat(x)
  local columns = {}
  for _, op in ipairs { V.Solarize { 1 }, V.AutoContrast {}, V.Equalize {}, V.Posterize { 8 }, V.Sharpen { { 1, 1 } } } do
    local values, norm = flat(op(x)), 0
    for i, v in ipairs(values) do
      values[i] = v - base[i]
      norm = norm + values[i] ^ 2
    end
    if norm > 1e-6 * #values * q.high ^ 2 then columns[#columns + 1] = values end -- else it does nothing to this picture
  end
  for sample = 1, 30 do
    local y = flat(V.AugMix { 1, depth = 1, width = 4 } :apply({ sample = sample }, x))
    local a, b = {}, {}
    for i, ci in ipairs(columns) do
      a[i], b[i] = {}, 0
      for j, cj in ipairs(columns) do
        a[i][j] = 0
        for k = 1, #base do a[i][j] = a[i][j] + ci[k] * cj[k] end
      end
      for k = 1, #base do b[i] = b[i] + ci[k] * (y[k] - base[k]) end
    end
    local w, sum = #columns > 0 and solve(a, b) or {}, 0
    for _, v in ipairs(w) do
      assert.truthy(v > -0.02 and v < 1.02, v)
      sum = sum + v
    end
    assert.truthy(sum <= 1.02, sum)
    if #columns > 0 then low_at, high_at = math.min(low_at, sum), math.max(high_at, sum) end
    for k = 1, #base do
      local want = base[k]
      for i, c in ipairs(columns) do want = want + w[i] * c[k] end
      assert.near(want, y[k], q.u8 and 1.01 or 1e-3)
    end
  end
  if #columns > 0 then assert.truthy(high_at - low_at > 0.2, "always the same share") end
  -- one chain of one transform at any strength: y - x is a part of op(x) - x
  local candidates = {}
  for level = 0, 9 do
    for _, sign in ipairs { -1, 1 } do
      local s = sign * level / 9
      local function add(t) candidates[#candidates + 1] = flat(t(x)) end
      add(V.RandomShear { { 0.3 * s, 0.3 * s } })
      add(V.RandomShear { { 0, 0 }, { 0.3 * s, 0.3 * s } })
      add(V.RandomTranslation { { 150 / 331 * s, 150 / 331 * s }, { 0, 0 } })
      add(V.RandomTranslation { { 0, 0 }, { 150 / 331 * s, 150 / 331 * s } })
      add(V.RandomRotation { { 30 * s, 30 * s } })
      for _, key in ipairs { "brightness", "contrast", "saturation" } do add(V.ColorJitter { [key] = { 1 + 0.9 * s, 1 + 0.9 * s } }) end
      add(V.Sharpen { { 1 + 0.9 * s, 1 + 0.9 * s } })
      if sign == 1 then
        add(V.Posterize { 8 - math.floor(level / 9 * 4 + 0.5) })
        add(V.Solarize { 1 - level / 9 })
      end
    end
  end
  candidates[#candidates + 1], candidates[#candidates + 2] = flat(V.AutoContrast {} (x)), flat(V.Equalize {} (x))
  local seen, n = {}, 0
  for sample = 1, 40 do
    local y, found = flat(V.AugMix { 10, depth = 1, width = 1 } :apply({ sample = sample }, x)), nil
    for i, c in ipairs(candidates) do
      local dot, norm = 0, 0
      for k = 1, #base do dot, norm = dot + (c[k] - base[k]) * (y[k] - base[k]), norm + (c[k] - base[k]) ^ 2 end
      local share = norm > 0 and dot / norm or 0
      local good = share > -0.02 and share < 1.02
      for k = 1, #base do
        if not good then break end
        good = math.abs(base[k] + share * (c[k] - base[k]) - y[k]) <= (q.u8 and 1.01 or 1e-4)
      end
      if good then found = i break end
    end
    assert.truthy(found, "sample " .. sample .. " is no mixture with one of the transforms")
    if not seen[found] then seen[found], n = true, n + 1 end
  end
  assert.truthy(n >= 15, n .. " different transforms")
  local mild = V.AugMix { 10, depth = 2, all_ops = false } :apply({ sample = 1 }, x)
  assert.same({ q.h, q.w, q.c }, mild:shape())
end
function checks.Decode(x, q)
  local bytes = V.encode(x, "png")
  local y = V.Compose { V.Decode { false }, V.Invert {} } (bytes)
  local expected = V.Invert {} (V.decode(bytes))
  assert.equal(0, (y:float() - expected:float()):abs():amax():item())
  assert.equal(q.c, y:size(3))
  assert.truthy(message(V.Decode {}, x):find("an image already", 1, true))
  assert.truthy(message(V.Invert {}, bytes):find("Decode comes first", 1, true))
end

-- ---- they run --------------------------------------------------------------------------------------------------------

describe("nn.vision", function()
  for _, row in ipairs(nn.imaging.transforms()) do
    local name = row[1]
    it(name .. " does what a plain loop does", function()
      local check = checks[name] or error("no check of the transform " .. name)
      for i, size in ipairs { { 7, 5 }, { 9, 12 }, { 31, 33 } } do
        if i < 3 or name == "Equalize" then -- which needs more than 255 pixels to do anything
          for _, c in ipairs { 1, 3 } do
            for _, dtype in ipairs { "u8", "f32" } do
              local x, q = random_picture(size[1], size[2], c, dtype, 10 * i + c)
              if type(check) == "function" then check(x, q)
              else
                for k, case in ipairs(check) do
                  local y, expected = case[1](x), case[2](q)
                  assert.same({ expected.h, expected.w, c }, y:shape())
                  local d = difference(expected, y)
                  local off = dtype == "u8" and (case[3] or 1) or case[4] or 1e-4
                  assert.truthy(d <= off, ("%s, case %d, %dx%dx%d %s: off by %g"):format(tostring(case[1]), k, size[1], size[2], c, dtype, d))
                end
              end
            end
          end
        end
      end
    end)
  end

  it("has a transform for every row, and says what it is", function()
    local rows = {}
    for _, row in ipairs(nn.imaging.transforms()) do rows[row[1]] = true end
    for name in pairs(rows) do assert.truthy(V[name], name) end
    for name, t in pairs(V) do
      if type(t) == "table" and t.numbers then assert.truthy(rows[t.row], name .. " has no row") end
    end
    assert.equal("Compose(RandomRotation(15), RandomGrayscale(0.2), Resize(8, 9, antialias = false))",
      tostring(V.Compose { V.RandomRotation { 15 }, V.RandomGrayscale { 0.2 }, V.Resize { 8, 9, antialias = false } }))
  end)

  it("has a check of every name", function()
    local rows, elsewhere = {}, { RandomGrayscale = true, Compose = true, MixUp = true, CutMix = true } -- below
    for _, row in ipairs(nn.imaging.transforms()) do rows[row[1]] = true end
    for name, value in pairs(V) do
      if type(value) == "table" then assert.truthy(rows[name] or elsewhere[name], "no check of nn.vision." .. name) end
    end
  end)

  -- One of each, with the nearest pixel where it can be chosen. true: pixels move, and those of masks alike.
  local moving = { Resize = { 4, 11, method = "nearest" }, CenterCrop = { 3, 4 }, RandomCrop = { 4, 3 }, RandomFlip = { "both" } }
  for name, by in pairs { RandomRotation = 30, RandomTranslation = 0.3, RandomZoom = 0.3, RandomShear = 0.3, RandomPerspective = 0.5, Elastic = 3 } do
    moving[name] = { by, interpolation = "nearest" }
  end
  local function one(name) return V[name](moving[name] or name == "Normalize" and { 0.5, 0.5 } or {}) end

  for _, row in ipairs(nn.imaging.transforms()) do
    local name = row[1]
    it(name .. " says before it runs what it gives, and moves masks as images", function()
      local t = one(name)
      for _, c in ipairs { 1, 3 } do
        for _, dtype in ipairs { "u8", "f32" } do
          local x = random_picture(9, 12, c, dtype, 5)
          if dtype == "f32" then x = x:gt(0.5):float() end
          local bytes = { V.encode(x, "png"):byte(1, -1) }
          local ds = nn.data.from_tensors { name == "Decode" and nn.tensor({ bytes }, { dtype = "u8" }) or x:unsqueeze(1) }:map(t, { workers = 1 })
          local spec, y = ds:element_spec()[1], ds:iter()()
          assert.equal(y:dtype(), spec.dtype)
          assert.same(name == "Decode" and { -1, -1, 3 } or y:shape(), spec.shape)
          if name ~= "Decode" and name ~= "RandAugment" then -- one of several
            local mask = x:to "i64"
            local a, b = V.Compose { t, kinds = { "image", "mask" } } :apply({ sample = 4 }, x, mask)
            assert.equal("i64", b:dtype())
            assert.same(moving[name] and a:float():totable() or mask:float():totable(), b:float():totable())
          end
        end
      end
    end)
  end

  it("moves images, masks and boxes together", function()
    local h, w = 40, 48
    local image, mask = nn.zeros(h, w, 3), nn.zeros({ h, w }, { dtype = "i64" })
    image[{ { 11, 30 }, { 11, 38 } }] = 1
    mask[{ { 11, 30 }, { 11, 38 } }] = 7
    local boxes = nn.tensor { { 10, 10, 38, 30 } }
    local augment = V.Compose { V.RandomFlip { "both" }, V.RandomRotation { 20 }, V.RandomTranslation { 0.1 }, V.RandomZoom { 0.2 },
      V.RandomShear { 0.1 }, V.RandomPerspective { 0.2 }, V.Resize { 80, 72 }, V.RandomCrop { 76, 70 }, V.ColorJitter { brightness = { 0.9, 1 } },
      kinds = { "image", "mask", "boxes", "label" } }
    for sample = 1, 20 do
      local x, m, b, y = augment:apply({ seed = 5, sample = sample }, image, mask, boxes, nn.tensor(3))
      assert.equal(3, y:item())
      assert.equal("i64", m:dtype())
      assert.same({ 76, 70 }, m:shape())
      local p, t, box = x:totable(), m:totable(), b:totable()[1]
      local low, high = { math.huge, math.huge }, { 0, 0 }
      local apart, inside = 0, 0
      for i = 1, 76 do
        for j = 1, 70 do
          if t[i][j] ~= 0 then
            assert.equal(7, t[i][j])
            low[1], low[2], high[1], high[2] = math.min(low[1], j - 1), math.min(low[2], i - 1), math.max(high[1], j), math.max(high[2], i)
            inside = inside + 1
          end
          if (p[i][j][1] > 0.45) ~= (t[i][j] == 7) then apart = apart + 1 end
        end
      end
      assert.truthy(inside > 30, "the object has left the image")
      assert.truthy(apart <= 0.15 * inside, ("sample %d: image and mask differ in %d of %d pixels"):format(sample, apart, inside))
      for a = 1, 2 do -- pixels were rounded seven times, and corners may fall between them
        assert.truthy(box[a] <= low[a] + 3 and box[a] >= low[a] - 5 and box[a + 2] >= high[a] - 3 and box[a + 2] <= high[a] + 5,
          ("sample %d: box %g..%g, object %g..%g"):format(sample, box[a], box[a + 2], low[a], high[a]))
      end
    end
  end)

  it("draws by seed, epoch and sample, and anew at each call", function()
    local x = nn.rand(16, 16, 3)
    local augment = V.Compose { V.RandomRotation { 30 }, V.GaussianNoise { 0.1 }, V.RandomCrop { 12, 12 } }
    local function sum(key) return augment:apply(key, x):totable() end
    local first = sum { seed = 1, epoch = 2, sample = 3 }
    assert.same(first, sum { seed = 1, epoch = 2, sample = 3 })
    for _, key in ipairs { { seed = 2, epoch = 2, sample = 3 }, { seed = 1, epoch = 3, sample = 3 }, { seed = 1, epoch = 2, sample = 4 } } do
      assert.not_same(first, sum(key))
    end
    nn.seed(4)
    local a, b = augment(x):totable(), augment(x):totable()
    assert.not_same(a, b)
    nn.seed(4)
    assert.same(a, augment(x):totable())
    local n = 0
    for sample = 1, 400 do n = n + V.Invert { chance = 0.25 } :apply({ sample = sample }, nn.zeros(1, 1, 1)):item() end
    assert.near(0.25, n / 400, 0.08)
  end)

  it("maps data sets without Lua, the same for any number of workers, anew in each pass", function()
    local n = 23
    local x, y = (nn.rand(n, 10, 9, 3) * 255):to "u8", nn.arange(1, n + 1)
    local augment = V.Compose { V.RandomFlip {}, V.RandomCrop { 7, 6 }, V.GaussianNoise { 0.1 }, V.Rescale { 1 / 255 } }
    local function passes(workers)
      local ds = nn.data.from_tensors { x, y }:map(augment, { workers = workers, seed = 3 }):batch(5)
      local list = {}
      for pass = 1, 2 do
        for a, b in ds:iter() do
          assert.same({ 7, 6, 3 }, { table.unpack(a:shape(), 2) })
          list[#list + 1] = { pass, a:totable(), b:totable() }
        end
      end
      return list
    end
    local alone = passes(0)
    assert.equal(10, #alone)
    assert.same({ 1, 2, 3, 4, 5 }, alone[1][3])
    assert.not_same(alone[1][2], alone[6][2])
    for _, workers in ipairs { 1, 2, 4 } do assert.same(alone, passes(workers)) end
    local ds = nn.data.from_tensors { x }:map(V.Resize { 4, 4 })
    assert.same(V.Resize { 4, 4 } (x[1]):totable(), ds:iter()():totable())
    local bad = nn.data.from_tensors { nn.zeros(3, 5) }:map(V.Invert {}, { workers = 2 })
    assert.truthy(message(function() for _ in bad:iter() do end end):find("expected H x W x C", 1, true))
  end)

  it("mixes batches and their labels", function()
    local n, classes = 6, 3
    local y = nn.rand(n, classes)
    for sample = 1, 20 do
      for _, dtype in ipairs { "f32", "u8" } do
        local c = sample % 2 == 0 and 1 or 3
        local x = nn.arange(1, n + 1):reshape { n, 1, 1, 1 }:expand { n, 7, 9, c } * 10
        local mx, my = V.MixUp { 0.4 } :apply({ sample = sample }, x:to(dtype), y)
        local value, labels, py = mx:float():totable(), my:totable(), y:totable()
        assert.equal(dtype, mx:dtype())
        local lambda
        for i = 1, n do -- lambda and partner, from images; then labels must agree
          local v, found = value[i][1][1][1], nil
          for j = 1, n do
            if j ~= i then
              local l = (v - 10 * j) / (10 * i - 10 * j)
              local good = l >= -1e-3 and l <= 1.001
              for k = 1, classes do good = good and math.abs(l * py[i][k] + (1 - l) * py[j][k] - labels[i][k]) < (dtype == "u8" and 0.06 or 1e-4) end
              if good then found, lambda = j, l end
            end
          end
          local alone = math.abs(v - 10 * i) < 0.51
          assert.truthy(found or alone, "image " .. i)
        end
        assert.truthy(lambda)
        mx, my = V.CutMix { 1 } :apply({ sample = sample }, x:to(dtype), y)
        value, labels = mx:float():totable(), my:totable()
        assert.equal(dtype, mx:dtype())
        for i = 1, n do
          local other, count = nil, 0
          for a = 1, 7 do
            for b = 1, 9 do
              local v = value[i][a][b][1]
              for k = 2, c do assert.equal(v, value[i][a][b][k]) end
              if v ~= 10 * i then
                assert.truthy(not other or other == v)
                other, count = v, count + 1
              end
            end
          end
          local j = other and math.tointeger(other // 10) or i
          for k = 1, classes do
            local l = 1 - count / 63
            if other then assert.near(l * py[i][k] + (1 - l) * py[j][k], labels[i][k], 1e-5) end
          end
        end
      end
    end
    local sum = 0 -- Beta(alpha, alpha): mean 1/2, variance 1 / (4 (2 alpha + 1))
    local square = 0
    for sample = 1, 400 do
      local _, my = V.MixUp { 0.5 } :apply({ sample = sample }, nn.zeros(2, 1, 1, 1), nn.eye(2))
      local l = my[1][1]:item()
      if l < 1 or my[1][2]:item() > 0 then sum, square = sum + (l - 0.5), square + (l - 0.5) ^ 2 end
    end
    assert.near(0, sum / 400, 0.05)
    assert.truthy(square / 400 > 0.03 and square / 400 < 0.13, square / 400) -- half of the pairs are an image with itself
    assert.truthy(message(V.MixUp {}, nn.zeros(2, 3), nn.eye(2)):find("N x H x W x C", 1, true))
  end)

  it("reads and writes files", function()
    local file = os.tmpname()
    local x = (nn.rand(11, 13, 3) * 255):round():to "u8"
    for _, ending in ipairs { ".png", ".bmp", ".ppm" } do
      assert(V.save(file .. ending, x))
      assert.same(x:totable(), assert(V.load(file .. ending)):totable())
      assert.equal(1, V.load(file .. ending, { channels = 1 }):size(3))
      os.remove(file .. ending)
    end
    local ramp = (nn.arange(0, 64):reshape { 64, 1, 1 } * 2 + nn.arange(0, 80):reshape { 1, 80, 1 }):expand { 64, 80, 3 } / 255
    local bytes = V.encode(ramp, "jpeg", { quality = 95 })
    assert.near(0, (V.decode(bytes):float() / 255 - ramp):abs():amax():item(), 0.03)
    assert.same({ 32, 40, 3 }, V.decode(bytes, { at_least = { 20, 20 } }):shape())
    assert.same({ 64, 80, 3 }, V.decode(bytes, { at_least = { 33, 20 } }):shape())
    local wide = nn.tensor({ { { 65535 }, { 258 } } }, { dtype = "i32" })
    assert.same(wide:totable(), V.decode(V.encode(wide, "png"), { depth = 16 }):totable())
    assert.same({ { { 255 }, { 1 } } }, V.decode(V.encode(wide, "png")):totable())
    local none, why = V.load(file .. ".none")
    assert.truthy(none == nil and why:find(".none", 1, true))
    local handle = assert(io.open(file, "wb"))
    handle:write(bytes:sub(1, #bytes // 2))
    handle:close()
    none, why = V.load(file)
    assert.truthy(none == nil and why:find("ends early", 1, true) and not why:find "\n", why)
    os.remove(file)
    assert.truthy(message(V.save, "x.gif", x):find("must end in", 1, true))
    assert.truthy(message(V.encode, nn.zeros(2, 2, 5), "png"):find("channels", 1, true))
    assert.truthy(message(V.encode, x[{ {}, {}, { 1, 2 } }], "jpeg"):find("1 or 3", 1, true))
  end)

  it("puts pictures side by side", function()
    local x = nn.tensor { 1, 0.6, 0.2 }:reshape { 3, 1, 1, 1 }:expand { 3, 2, 2, 1 }
    local g = V.grid(x, { columns = 2, padding = 1 }).tensor:squeeze(3):totable()
    local w, m, l = 255, 153, 51
    local z = 0
    assert.same({ { z, z, z, z, z, z, z }, { z, w, w, z, m, m, z }, { z, w, w, z, m, m, z }, { z, z, z, z, z, z, z }, { z, l, l, z, z, z, z },
      { z, l, l, z, z, z, z }, { z, z, z, z, z, z, z } }, g)
  end)

  it("says what is wrong", function()
    assert.truthy(message(V.Resize, {}):find("Resize", 1, true))
    assert.truthy(message(V.RandomRotation, { -3 }):find("must not be negative", 1, true))
    assert.truthy(message(V.Compose, { V.Invert {}, 3 }):find("must be a table", 1, true))
    assert.truthy(message(V.Compose, { V.Invert {}, kinds = { "picture" } }):find("there are image, mask, boxes, label", 1, true))
    assert.truthy(message(V.Invert {}, nn.zeros(3)):find("expected H x W x C", 1, true))
    assert.truthy(message(V.Invert {}, nn.zeros({ 3, 3, 1 }, { dtype = "i64" })):find("u8 or f32", 1, true))
    local pair = V.Compose { V.Resize { 2 }, kinds = { "image", "mask" } }
    assert.truthy(message(pair, nn.zeros(3, 3, 1), nn.zeros(4, 3)):find("one size", 1, true))
  end)
end)

describe("nn.audio", function()
  it("keeps sound to 16 bits", function()
    local x = nn.rand(1001, 2) * 2 - 1
    local y, rate = nn.audio.decode(nn.audio.encode(x, 44100))
    assert.equal(44100, rate)
    assert.truthy((y - x):abs():amax():item() <= 1 / 32767)
    local none, why = nn.audio.decode "RIFF"
    assert.truthy(none == nil and why:find("WAV", 1, true))
  end)

  it("reads other codings", function()
    local function wav(kind, bits, data)
      local fmt = ("<I2I2I4I4I2I2"):pack(kind, 1, 8000, 8000 * bits // 8, bits // 8, bits)
      return ("<c4I4c4c4I4"):pack("RIFF", 36 + #data, "WAVE", "fmt ", 16) .. fmt .. ("<c4I4"):pack("data", #data) .. data
    end
    for _, case in ipairs { { 1, 8, "BBB", { 0, 128, 192 } }, { 1, 24, "<i3i3i3", { -2 ^ 23, 0, 2 ^ 22 } },
      { 1, 32, "<i4i4i4", { -2 ^ 31, 0, 2 ^ 30 } }, { 3, 32, "<fff", { -1, 0, 0.5 } }, { 3, 64, "<ddd", { -1, 0, 0.5 } } } do
      local values = {}
      for i, v in ipairs(case[4]) do values[i] = case[1] == 1 and math.tointeger(v) or v end
      assert.same({ -1, 0, 0.5 }, nn.audio.decode(wav(case[1], case[2], case[3]:pack(table.unpack(values)))):reshape(-1):totable())
    end
  end)
end)
