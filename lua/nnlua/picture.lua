--- Images as text: `print(nn.picture(images))` draws them in the terminal.
--
-- Owns: how pixels become characters. A character cell is twice as high as wide, so one stands for two pixels, one above the other.
--
--     local nn = require "nnlua"
--     print(nn.picture(nn.eye(2), { colour = false }))      --> ▀▄

local core = require "nnlua.core"
local options = require "nnlua.options"

local M = {}

local spec = { columns = { "integer", default = 10, min = 1 }, colour = { "boolean" } }

-- Pixels 0..255 (H, W, 1 or 3) of what picture takes, all images beside and below each other.
local function sheet(x, columns)
  if x:dim() == 2 then x = x:reshape { 1, x:size(1), x:size(2), 1 } end
  if x:dim() == 3 then x = x:unsqueeze(x:size(-1) ~= 1 and x:size(-1) ~= 3 and -1 or 1) end
  local n, h, w, c = table.unpack(x:shape())
  if x:dim() ~= 4 or c ~= 1 and c ~= 3 then
    options.raise(("picture: needs images (H, W), (N, H, W), (H, W, C) or (N, H, W, C) of one colour or three, got (%s)")
      :format(table.concat(x:shape(), ", ")))
  end
  local bytes = x:dtype() == "u8"
  x = x:to("cpu"):detach():float()
  if not bytes then x = x:clamp(0, 1) * 255 end
  columns = math.min(columns, n)
  local rows = -(-n // columns)
  if h % 2 == 1 then x, h = x:pad { 0, 0, 0, 0, 0, 1 }, h + 1 end
  if rows * columns > n then x = core.cat({ x, core.zeros { rows * columns - n, h, w, c } }, 1) end
  return x:reshape { rows, columns, h, w, c }:permute({ 1, 3, 2, 4, 5 }):reshape { rows * h, columns * w, c }:round():long():totable()
end

-- With escapes: an upper half block in the colour of the upper pixel, on that of the lower one.
local function coloured(upper, lower)
  local function rgb(p) return ("%d;%d;%d"):format(p[1], p[2] or p[1], p[3] or p[1]) end
  return ("\27[38;2;%s;48;2;%sm▀"):format(rgb(upper), rgb(lower))
end

local blocks = { [0] = " ", "▀", "▄", "█" }

-- Without: bright or dark.
local function plain(upper, lower)
  local function bright(p) return (p[1] + (p[2] or p[1]) + (p[3] or p[1])) > 382 and 1 or 0 end
  return blocks[bright(upper) + 2 * bright(lower)]
end

--- Images as text of half blocks: (H, W), (N, H, W), (H, W, C) or (N, H, W, C), bytes or numbers from 0 to 1, `columns` (10) beside each other. With
--- colour (where standard output is a terminal, unless told) in 24-bit colours, else bright against dark.
---@param x nnlua.Tensor
---@param given? { columns?: integer, colour?: boolean }
---@return string
function M.picture(x, given)
  local o = options.check("picture", given or {}, spec)
  if not core.is_tensor(x) then options.raise("picture: needs a tensor, got " .. options.shown(x)) end
  local colour = o.colour
  if colour == nil then colour = core.sys.isatty(1) end
  local pixels, cell, lines = sheet(x, o.columns), colour and coloured or plain, {}
  for i = 1, #pixels, 2 do
    local words = {}
    for j = 1, #pixels[i] do words[j] = cell(pixels[i][j], pixels[i + 1][j]) end
    local line = table.concat(words)
    lines[#lines + 1] = colour and line .. "\27[0m" or (line:gsub(" +$", ""))
  end
  return table.concat(lines, "\n")
end

return M
