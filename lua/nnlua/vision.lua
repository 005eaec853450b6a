--- Pictures: `nn.vision`. Files in and out, transforms for augmentation, pictures side by side.
--
-- Owns: files and grids. Transforms: vision/transforms.lua. Images are H x W x C, u8 of 0 to 255 or floats of 0 to 1 (layers as Keras's,
-- Rescaling{1/255} or ColorJitter, expect 0 to 255 unless told otherwise). Bytes that are read are not trusted: damaged ones give nil and a message.
--
--     local nn = require "nnlua"
--     local V = nn.vision
--     local x = nn.tensor({ {{255, 0, 0}, {0, 255, 0}} }, { dtype = "u8" })            -- one row: red, green
--     local y = assert(V.decode(V.encode(x, "png")))
--     print(y:dtype(), table.concat(y:shape(), " "))                                    --> u8 1 2 3
--     local file = os.tmpname() .. ".png"
--     assert(V.grid(nn.rand(4, 8, 8, 3)):save(file))
--     print(V.load(file):size(1))                                                       --> 22
--     os.remove(file)

local core = require "nnlua.core"
local class = require "nnlua.class"
local options = require "nnlua.options"
local sample = require "nnlua.vision.sample"

local vision = {}
for name, value in pairs(require "nnlua.vision.transforms") do vision[name] = value end

-- ---- files -----------------------------------------------------------------------------------------------------------

local decode_spec = { channels = { "integer|boolean", default = false }, depth = { "integer", default = 8 }, at_least = { "table" },
  orientation = { "boolean", default = true } }

--- The image in the bytes of a JPEG, PNG, BMP, PPM or PGM file: u8 H x W x C, or nil and a message. channels: 1, 3 or 4 (gray is repeated, colours
--- become luma, alpha is dropped, not blended, or 255); without, as it is stored. depth = 16: of 16-bit PNG, PPM and PGM, i32 of 0 to 65535.
--- at_least = {height, width}: a JPEG may come at a half, a quarter or an eighth of its size, as long as neither side falls below; much quicker.
--- orientation = false: a JPEG is not turned as its EXIF block says.
---@param bytes string
---@param opts? { channels?: integer, depth?: integer, at_least?: integer[], orientation?: boolean }
---@return nnlua.Tensor?, string?
function vision.decode(bytes, opts)
  if type(bytes) ~= "string" then options.raise("decode: needs the bytes of a file, got " .. options.shown(bytes)) end
  local o = options.check("decode", opts, decode_spec)
  if o.depth ~= 8 and o.depth ~= 16 then options.raise(("decode: depth must be 8 or 16, got %d"):format(o.depth)) end
  local wanted = sample.wanted("decode", o)
  return core.imaging.decode(bytes, wanted[1], o.depth, wanted[2], wanted[3], not o.orientation)
end

--- decode of a file; or nil and a message that names it.
---@param file string
---@return nnlua.Tensor?, string?
function vision.load(file, opts)
  local handle, message = io.open(file, "rb")
  if not handle then return nil, message end
  local bytes, why = handle:read "a"
  handle:close()
  if not bytes then return nil, ("%s: %s"):format(file, why) end
  local x, wrong = vision.decode(bytes, opts)
  if not x then return nil, ("%s: %s"):format(file, wrong) end
  return x
end

local formats = { png = "png", jpg = "jpeg", jpeg = "jpeg", bmp = "bmp", ppm = "ppm", pgm = "ppm" }

-- Floats of 0 to 1 as bytes; what lies beyond is cut off.
local function bytes_of(x)
  local dtype = x:dtype()
  if dtype == "u8" or dtype == "i32" then return x end
  local _ <close> = core.no_grad()
  return (x:detach():float() * 255):clamp(0, 255):round():to "u8"
end

--- The image x, H x W or H x W x C, as a file's bytes. format: "png" (1 to 4 channels; i32: 16 bits), "jpeg" (quality, 1 to 100, 90), "bmp", "ppm".
--- u8 is 0 to 255, floats 0 to 1; what lies beyond is cut off.
---@param x nnlua.Tensor
---@param format string
---@param opts? { quality?: integer }
---@return string
function vision.encode(x, format, opts)
  if not core.is_tensor(x) then options.raise("encode: needs a tensor, got " .. options.shown(x)) end
  local kind = formats[format] or options.raise(("encode: no format %s; there are png, jpeg, bmp, ppm"):format(options.shown(format)))
  local o = options.check("encode", opts, { quality = { "integer", default = 90, min = 1, max = 100 } })
  return core.imaging.encode(bytes_of(x), kind, o.quality)
end

--- encode into a file, whose name tells the format; it is replaced as a whole. true, or nil and a message.
---@param file string
---@param x nnlua.Tensor
---@return boolean?, string?
function vision.save(file, x, opts)
  local format = type(file) == "string" and file:match "%.(%w+)$"
  format = format and format:lower()
  if not formats[format] then options.raise(("save: %s must end in .png, .jpg, .bmp, .ppm"):format(options.shown(file))) end
  return core.file_replace(file, vision.encode(x, format, opts))
end

-- ---- pictures side by side -------------------------------------------------------------------------------------------

---@class nnlua.Picture
---@field tensor nnlua.Tensor  u8 H x W x C
local Picture = class "Picture"

function Picture:__tostring() return ("Picture(%s)"):format(table.concat(self.tensor:shape(), "x")) end

--- The picture in a file, whose name tells the format: true, or nil and a message.
function Picture:save(file, opts) return vision.save(file, self.tensor, opts) end

--- The images of a batch, N x H x W x C or N x H x W, in rows and columns, as a picture: `grid(x):save "batch.png"`. columns: as many as make it
--- about square; padding (2): black pixels between and around.
---@param x nnlua.Tensor
---@param opts? { columns?: integer, padding?: integer }
---@return nnlua.Picture
function vision.grid(x, opts)
  local o = options.check("grid", opts, { columns = { "integer", position = 1, min = 1 }, padding = { "integer", default = 2, min = 0 } })
  local dims = core.is_tensor(x) and x:dim()
  if dims ~= 3 and dims ~= 4 or x:size(1) == 0 then options.raise "grid: needs images N x H x W x C, or N x H x W" end
  local _ <close> = core.no_grad()
  x = bytes_of(x:detach()):float()
  if dims == 3 then x = x:unsqueeze(4) end
  local n, h, w, c = table.unpack(x:shape())
  local columns, p = math.min(n, o.columns or math.ceil(math.sqrt(n))), o.padding
  local rows = (n + columns - 1) // columns
  x = x:pad { 0, 0, p, 0, p, 0, 0, rows * columns - n }
  x = x:reshape { rows, columns, h + p, w + p, c }:permute { 1, 3, 2, 4, 5 }:reshape { rows * (h + p), columns * (w + p), c }
  local picture = Picture()
  picture.tensor = x:pad({ 0, 0, 0, p, 0, p }):to "u8"
  return picture
end

-- ---- mixing batches --------------------------------------------------------------------------------------------------

local function mixer(name, cut)
  local Mix = class(name)
  vision[name] = Mix
  function Mix:init(given)
    self.alpha = options.check(name, given, { alpha = { "number", position = 1, default = cut and 1 or 0.2, above = 0, max = 1000 } }).alpha
  end
  function Mix:__call(x, y) return core.imaging.mix(cut, self.alpha, nil, 0, 0, x, y) end
  function Mix:apply(key, x, y)
    local o = options.check("apply", key, sample.key_spec)
    return core.imaging.mix(cut, self.alpha, o.seed, o.epoch, o.sample, x, y)
  end
  function Mix:__tostring() return ("%s(%g)"):format(name, self.alpha) end
end

---@class nnlua.vision.MixUp
--- Batches mixed in pairs: each image with another one of the batch, lambda of Beta(alpha, alpha), labels alike (Zhang and others, 2018).
--- `MixUp{0.2}(x, y)`: x N x H x W x C (u8 or f32), y f32 N x classes (one_hot makes it of ids). Returns both.
mixer("MixUp", false)

---@class nnlua.vision.CutMix
--- As MixUp, but a rectangle of the other image is put into each, and labels are mixed by its area (Yun and others, 2019): `CutMix{1}(x, y)`.
mixer("CutMix", true)

return vision
