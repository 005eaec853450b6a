-- lua/nnlua/layers/augmentation.lua: each layer with its draw pinned, against plain Lua; what a draw may be; modes, pipelines, files.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local close, message = support.close, support.message

-- Images of odd size: (2, 5, 7, 3) in 0..1.
local function images(channels)
  local noise = support.noise(4)
  local flat = {}
  for i = 1, 2 * 5 * 7 * channels do flat[i] = (noise() + 1) / 2 end
  return nn.tensor(flat):reshape(2, 5, 7, channels)
end

-- y[n][i][j] = f(x, n, i, j) as a nested table; x is one too.
local function made(x, f)
  local t, out = x:totable(), {}
  for n = 1, #t do
    out[n] = {}
    for i = 1, #t[n] do
      out[n][i] = {}
      for j = 1, #t[n][i] do out[n][i][j] = f(t[n], i, j) end
    end
  end
  return out
end

local function luma(p) return 0.299 * p[1] + 0.587 * p[2] + 0.114 * p[3] end

describe("augmentation", function()
  before_each(function() nn.seed(7) end)

  it("RandomFlip mirrors about half of the images, each by itself", function()
    local x = images(3)[1]:expand(200, 5, 7, 3)
    local straight, mirrored = x[1]:tostring_bytes(), made(x[{ { 1, 1 } }], function(t, i, j) return t[i][8 - j] end)[1]
    local y, count = nn.RandomFlip { "horizontal" }(x), 0
    for n = 1, 200 do
      if y[n]:tostring_bytes() ~= straight then
        close(mirrored, y[n], 0)
        count = count + 1
      end
    end
    assert.is_true(count > 70 and count < 130, count)
    local down = made(x[{ { 1, 1 } }], function(t, i, j) return t[6 - i][j] end)[1]
    y = nn.RandomFlip { "vertical" }(x)
    count = 0
    for n = 1, 50 do
      if y[n]:tostring_bytes() ~= straight then
        close(down, y[n], 0)
        count = count + 1
      end
    end
    assert.is_true(count > 10 and count < 40, count)
    local seen = {}
    y = nn.RandomFlip {}(x)
    for n = 1, 50 do seen[y[n]:tostring_bytes()] = true end
    count = 0
    for _ in pairs(seen) do count = count + 1 end
    assert.equal(4, count)
  end)

  it("RandomRotation by a quarter is the transposed image, counter-clockwise", function()
    local x = images(3)[{ {}, {}, { 1, 5 } }] -- square
    close(made(x, function(t, i, j) return t[j][6 - i] end), nn.RandomRotation { { 0.25, 0.25 } }(x), 1e-5)
    close(made(x, function(t, i, j) return t[6 - i][6 - j] end), nn.RandomRotation { { 0.5, 0.5 } }(x), 1e-5)
  end)

  it("RandomRotation by any angle is bilinear between the turned places", function()
    local x, angle = images(1), 2 * math.pi * 0.07
    local want = made(x, function(t, i, j)
      local u, v = j - 4, i - 3
      local at, down = u * math.cos(angle) - v * math.sin(angle) + 4, u * math.sin(angle) + v * math.cos(angle) + 3
      local total = 0
      for a = math.floor(down), math.floor(down) + 1 do
        for b = math.floor(at), math.floor(at) + 1 do
          local pixel = t[a] and t[a][b] and t[a][b][1] or 0.5
          total = total + pixel * (1 - math.abs(a - down)) * (1 - math.abs(b - at))
        end
      end
      return { total }
    end)
    close(want, nn.RandomRotation { { 0.07, 0.07 }, fill_mode = "constant", fill_value = 0.5 }(x), 1e-5)
  end)

  it("RandomTranslation moves down and right; what comes in is constant, the nearest or the mirrored image", function()
    local x = images(3)
    local by = { { 2 / 5, 2 / 5 }, { -3 / 7, -3 / 7 } } -- two rows down, three columns to the left
    local nothing = { 0, 0, 0 }
    local function layer(mode) return nn.RandomTranslation { by[1], by[2], fill_mode = mode } end
    close(made(x, function(t, i, j) return t[i - 2] and t[i - 2][j + 3] or nothing end), layer "constant"(x), 1e-5)
    close(made(x, function(t, i, j) return t[math.max(1, i - 2)][math.min(7, j + 3)] end), layer "nearest"(x), 1e-5)
    local function mirrored(i, n) return i < 1 and 1 - i or i > n and 2 * n + 1 - i or i end
    close(made(x, function(t, i, j) return t[mirrored(i - 2, 5)][mirrored(j + 3, 7)] end), layer "reflect"(x), 1e-5)
  end)

  it("RandomZoom by a factor of two looks twice as far, or half", function()
    local x = images(3)
    local want = made(x, function(t, i, j)
      local a, b = (i - 3) * 2 + 3, (j - 4) * 2 + 4
      return t[a] and t[a][b] or { 0, 0, 0 }
    end)
    close(want, nn.RandomZoom { { 1, 1 }, fill_mode = "constant" }(x), 1e-5)
    local nearer = nn.RandomZoom { { -0.5, -0.5 }, { 0, 0 } }(x):totable() -- rows only
    local t = x:totable()
    for j = 1, 7 do
      close(t[1][3][j], nearer[1][3][j], 1e-5)
      for c = 1, 3 do close({ (t[1][2][j][c] + t[1][3][j][c]) / 2 }, { nearer[1][2][j][c] }, 1e-5) end
    end
  end)

  it("RandomGrayscale leaves the luma in every channel", function()
    local x = images(3)
    close(made(x, function(t, i, j)
      local g = luma(t[i][j])
      return { g, g, g }
    end), nn.RandomGrayscale { 1 }(x), 1e-5)
    assert.equal(x:tostring_bytes(), nn.RandomGrayscale { 0 }(x):tostring_bytes())
    local many = nn.RandomGrayscale { 0.25 }(x[1]:expand(400, 5, 7, 3))
    local colour = (many:amax(4) - many:amin(4)):amax { 2, 3 }:gt(0):float():mean():item()
    assert.is_true(math.abs(colour - 0.75) < 0.08, colour)
  end)

  it("ColorJitter: brightness, contrast, saturation", function()
    local x = images(3)
    local function cut(v) return math.min(1, math.max(0, v)) end
    local function per_pixel(f)
      return made(x, function(t, i, j)
        local p = t[i][j]
        local q = {}
        for c = 1, 3 do q[c] = cut(f(p[c], p, t)) end
        return q
      end)
    end
    local function jitter(o)
      o.value_range = { 0, 1 }
      return nn.ColorJitter(o)(x)
    end
    close(per_pixel(function(v) return 1.5 * v end), jitter { brightness = { 1.5, 1.5 } }, 1e-5)
    close(per_pixel(function(v, p) return luma(p) + 0.4 * (v - luma(p)) end), jitter { saturation = { 0.4, 0.4 } }, 1e-5)
    close(per_pixel(function(v, _, t)
      local sum = 0
      for i = 1, 5 do for j = 1, 7 do sum = sum + luma(t[i][j]) end end
      return sum / 35 + 1.8 * (v - sum / 35)
    end), jitter { contrast = { 1.8, 1.8 } }, 1e-5)
    assert.equal(x:tostring_bytes(), jitter {}:tostring_bytes())
    local y = nn.ColorJitter { brightness = 0.5 }(x * 255) -- bytes by default
    assert.is_true(y:amax():item() <= 255 and y:amax():item() > 50)
  end)

  it("ColorJitter: hue", function()
    local colours = nn.tensor { { 1, 0, 0 }, { 0, 1, 0 }, { 0.2, 0.2, 0.8 }, { 0.5, 0.5, 0.5 }, { 1, 1, 0 }, { 0.9, 0.3, 0.5 } }
    local x = colours:reshape(1, 1, 6, 3)
    local function turned(part) return nn.ColorJitter { hue = { part, part }, value_range = { 0, 1 } }(x):reshape(6, 3) end
    -- a third of the circle makes red green, green blue, blue red
    close(made(x, function(t, i, j) return { t[i][j][3], t[i][j][1], t[i][j][2] } end)[1][1], turned(1 / 3), 1e-5)
    close(colours, turned(1), 1e-5)
    close({ { 1, 0.5, 0 } }, turned(1 / 12)[{ { 1, 1 } }], 1e-5) -- red and a twelfth: orange
  end)

  it("SaltPepper changes whole pixels, half of them to each end", function()
    local x = nn.full({ 4, 40, 40, 3 }, 100)
    local y = nn.SaltPepper { 0.2 }(x)
    local black, white = y:eq(0):float():mean():item(), y:eq(255):float():mean():item()
    assert.is_true(math.abs(black - 0.1) < 0.02 and math.abs(white - 0.1) < 0.02, black)
    assert.equal(0, (y:amax(4) - y:amin(4)):amax():item())
  end)

  it("draws anew at each call and for each image, the same for the same seed", function()
    local x = images(3)[1]:expand(6, 5, 7, 3)
    local all = { nn.RandomRotation { 0.1 }, nn.RandomTranslation { 0.3, 0.3 }, nn.RandomZoom { 0.3 },
      nn.ColorJitter { brightness = 0.2, contrast = 0.2, saturation = 0.2, hue = 0.1, value_range = { 0, 1 } } }
    for _, layer in ipairs(all) do
      nn.seed(3)
      local a, b = layer(x), layer(x)
      nn.seed(3)
      local again = layer(x)
      assert.equal(a:tostring_bytes(), again:tostring_bytes())
      assert.are_not.equal(a:tostring_bytes(), b:tostring_bytes())
      assert.are_not.equal(a[1]:tostring_bytes(), a[2]:tostring_bytes())
    end
  end)

  it("does nothing in inference, takes bytes and single images, and goes through files", function()
    local model = nn.Sequential { nn.Input { 5, 7, 3 }, nn.RandomFlip {}, nn.RandomRotation { 0.1, fill_mode = "nearest" },
      nn.RandomTranslation { 0.1, 0.1 }, nn.RandomZoom { { -0.2, 0.1 } }, nn.RandomGrayscale { 0.3 },
      nn.ColorJitter { brightness = 0.2, hue = { 0, 0.1 } }, nn.SaltPepper { 0.1 },
      nn.Flatten {}, nn.Dense { 2 } }
    local bytes = (images(3) * 255):to "u8"
    local file = os.tmpname() .. ".h5"
    assert(model:save(file))
    local again = assert(nn.load(file))
    os.remove(file)
    for i, layer in ipairs(model) do assert.same(layer:config(), again[i]:config()) end
    assert.equal(model:eval()(bytes):tostring_bytes(), again:eval()(bytes):tostring_bytes())
    for i = 2, 8 do assert.equal(bytes:float():tostring_bytes(), model[i](bytes):tostring_bytes()) end
    assert.same({ 5, 7, 3 }, nn.RandomRotation { 0.1 }(bytes[1]):shape())
    assert.equal("f32", nn.RandomFlip {}(bytes):dtype())
  end)

  it("prints itself", function()
    assert.equal("RandomRotation(0.1)", tostring(nn.RandomRotation { 0.1, fill_mode = "nearest" }))
    assert.equal("RandomTranslation({-0.1, 0.2}, 0.3)", tostring(nn.RandomTranslation { { -0.1, 0.2 }, 0.3 }))
    assert.equal("RandomFlip(horizontal)", tostring(nn.RandomFlip { "horizontal" }))
    assert.equal("ColorJitter(brightness 0.2, hue {0, 0.1})", tostring(nn.ColorJitter { hue = { 0, 0.1 }, brightness = 0.2 }))
  end)

  it("says what is wrong", function()
    assert.truthy(message(nn.RandomRotation, { { 0.3, 0.1 } }):find('option "factor" must be a number or a range {low, high}', 1, true))
    assert.truthy(message(nn.RandomZoom, { -0.3 }):find('option "height_factor" must not be negative', 1, true))
    assert.truthy(message(nn.RandomFlip { "horizontal" }, nn.ones(3, 4)):find "RandomFlip: takes images %(N, H, W, C%)")
    assert.truthy(message(nn.ColorJitter { hue = 0.1 }, nn.ones(1, 2, 2, 1)):find "hue needs images of 3 channels")
    assert.truthy(message(nn.RandomGrayscale { 1 }, nn.ones(1, 2, 2, 2)):find "takes images of 1 or 3 channels, got 2")
    assert.truthy(message(nn.RandomFlip, { "sideways" }):find "horizontal")
  end)
end)
