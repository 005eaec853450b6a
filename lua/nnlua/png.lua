--- PNG files: pictures as bytes that every viewer and TensorBoard read.
--
-- Owns: the format, as far as writing goes: 8 bits a channel, gray (with alpha or without) or colours (with alpha or without), data stored without
-- compression. For figures and samples, not for data sets.
--
--     local nn = require "nnlua"
--     local png = require "nnlua.png"
--     local bytes = png.encode(nn.arange(0, 4):reshape{2, 2, 1} / 3)
--     print(bytes:sub(2, 4), (">I4I4"):unpack(bytes, 17))   --> PNG  2  2  25

local core = require "nnlua.core"
local options = require "nnlua.options"
local shape_text = require("nnlua.module").shape_text

local png = {}

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and c >> 1 ~ 0xedb88320 or c >> 1 end
  crc_table[i] = c
end

local function crc32(bytes)
  local c = 0xffffffff
  for i = 1, #bytes do c = crc_table[(c ~ bytes:byte(i)) & 0xff] ~ c >> 8 end
  return c ~ 0xffffffff
end

local function adler32(bytes)
  local a, b = 1, 0
  for i = 1, #bytes do
    a = (a + bytes:byte(i)) % 65521
    b = (b + a) % 65521
  end
  return b << 16 | a
end

-- A zlib stream of stored blocks.
local function stored(bytes)
  local parts, at = { "\x78\x01" }, 1
  repeat
    local piece = bytes:sub(at, at + 65534)
    at = at + #piece
    parts[#parts + 1] = ("<BI2I2"):pack(at > #bytes and 1 or 0, #piece, ~#piece & 0xffff) .. piece
  until at > #bytes
  parts[#parts + 1] = (">I4"):pack(adler32(bytes))
  return table.concat(parts)
end

local function chunk(name, data) return (">I4"):pack(#data) .. name .. data .. (">I4"):pack(crc32(name .. data)) end

local colour_types = { 0, 4, 2, 6 } -- by number of channels

--- The picture x, (H, W) or (H, W, C) with 1 to 4 channels, as a PNG file's bytes. Bytes (u8) are 0 to 255, other dtypes 0 to 1; what lies beyond is
--- cut off.
---@param x nnlua.Tensor
---@return string bytes
---@return integer height
---@return integer width
---@return integer channels
function png.encode(x)
  local _ <close> = core.no_grad()
  local shape = x:shape()
  local channels = shape[3] or 1
  if #shape < 2 or #shape > 3 or not colour_types[channels] or x:numel() == 0 then
    options.raise(("png: needs a picture (H, W) or (H, W, C) with 1 to 4 channels, got (%s)"):format(shape_text(shape)))
  end
  local height, width = shape[1], shape[2]
  x = x:detach()
  if x:dtype() ~= "u8" then x = (x:float() * 255):clamp(0, 255):round():to "u8" end
  local bytes, rows, stride = x:tostring_bytes(), {}, width * channels
  for r = 1, height do rows[r] = "\0" .. bytes:sub((r - 1) * stride + 1, r * stride) end -- "\0": a row that is stored as it is
  local head = (">I4I4BBBBB"):pack(width, height, 8, colour_types[channels], 0, 0, 0)
  return "\x89PNG\r\n\x1a\n" .. chunk("IHDR", head) .. chunk("IDAT", stored(table.concat(rows))) .. chunk("IEND", ""), height, width, channels
end

return png
