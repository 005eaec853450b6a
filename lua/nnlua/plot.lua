--- Charts of lines: as text for terminals, in braille dots, and as SVG.
--
-- Owns: how numbers become a picture. A chart is a table { series = list of { name =, values = list, nil or NaN where there is none }, x = list of
-- numbers (1, 2, ...), title =, log = true for a logarithmic scale }. History and the Health callback draw with it.
--
--     local plot = require "nnlua.plot"
--     local text = plot.text({ series = { { name = "loss", values = { 4, 2, 1 } } } }, 24, 2)
--     for line in text:gmatch "%s*([^\n]+)" do print(line) end
--     --> 4 ⠉⠑⠒⠢⠤⢄⣀⣀
--     --> 1         ⠉⠉⠒⠒⠒⠒⠤⠤⠤⠤⠤⣀⣀⣀
--     -->   1                    3
--     -->   ── loss

local core = require "nnlua.core"
local options = require "nnlua.options"

local plot = {}

local styles = { -- of lines, in turn: what a legend shows; how many dots of how many are drawn; the SVG's colour and dashes
  { mark = "──", draw = 1, of = 1, colour = "#1f6fb4", dash = "" },
  { mark = "··", draw = 1, of = 3, colour = "#d9601a", dash = "5 3" },
  { mark = "╌╌", draw = 4, of = 8, colour = "#2c8a3d", dash = "9 4" },
  { mark = "-·", draw = 2, of = 5, colour = "#8a4fb0", dash = "2 2" },
}
local function style_of(i) return styles[(i - 1) % #styles + 1] end

local function finite(v) return type(v) == "number" and v == v and math.abs(v) < math.huge end

-- A value's place on its scale; nil where it has none.
local function scaled(chart, v)
  if not finite(v) then return nil end
  if not chart.log then return v end
  return v > 0 and math.log(v, 10) or nil
end

-- Ranges of both axes: x from and to, y from and to, in scaled numbers; nil when there is nothing to draw.
local function ranges(chart)
  local longest, low, high = 0, math.huge, -math.huge
  for _, s in ipairs(chart.series) do
    for i = 1, chart.x and #chart.x or #s.values do
      local v = scaled(chart, s.values[i])
      if v then low, high, longest = math.min(low, v), math.max(high, v), math.max(longest, i) end
    end
  end
  if longest == 0 then return nil end
  local x = chart.x or {}
  return { first = x[1] or 1, last = x[longest] or longest, count = longest, low = low, high = high }
end

local function number_text(v) return (("%.4g"):format(v):gsub("e([+-])0*(%d)", "e%1%2")) end
local function value_text(chart, v) return number_text(chart.log and 10 ^ v or v) end

-- ---- dots ------------------------------------------------------------------------------------------------------------

local BITS = { { 0x01, 0x02, 0x04, 0x40 }, { 0x08, 0x10, 0x20, 0x80 } } -- of a braille sign: 2 columns of 4 dots

-- Draws a line of dots between two points of a canvas { [cell row] = { [cell column] = bits } }.
local function line(canvas, x1, y1, x2, y2, style)
  local steps = math.max(math.abs(x2 - x1), math.abs(y2 - y1), 1)
  for k = 0, steps do
    local x, y = math.floor(x1 + (x2 - x1) * k / steps + 0.5), math.floor(y1 + (y2 - y1) * k / steps + 0.5)
    local row, column = canvas[y // 4 + 1], x // 2 + 1
    if (style.of == 1 or (x + y) % style.of < style.draw) and row then row[column] = (row[column] or 0) | BITS[x % 2 + 1][y % 4 + 1] end
  end
end

local function draw(canvas, chart, r, dots_x, dots_y)
  local function at(i, v)
    local x = chart.x and chart.x[i] or i
    local right = r.last > r.first and (x - r.first) / (r.last - r.first) or 0
    local down = r.high > r.low and (r.high - v) / (r.high - r.low) or 1
    return math.floor(right * (dots_x - 1) + 0.5), math.floor(down * (dots_y - 1) + 0.5)
  end
  for k, s in ipairs(chart.series) do
    local last_x, last_y
    for i = 1, r.count do
      local v = scaled(chart, s.values[i])
      if v then
        local x, y = at(i, v)
        local alone = not last_x
        line(canvas, last_x or x, last_y or y, x, y, alone and styles[1] or style_of(k))
        last_x, last_y = x, y
      end
    end
  end
end

--- The chart as lines of text of at most `width` columns; the drawing itself has `height` lines.
---@param chart table
---@param width integer
---@param height integer
---@return string
function plot.text(chart, width, height)
  local r = ranges(chart)
  local out = { chart.title }
  if not r then
    out[#out + 1] = "nothing to draw"
    return table.concat(out, "\n")
  end
  local top, bottom = value_text(chart, r.high), value_text(chart, r.low)
  local margin = math.max(#top, #bottom)
  local columns, canvas = math.max(4, width - margin - 1), {}
  for row = 1, height do canvas[row] = {} end
  draw(canvas, chart, r, columns * 2, height * 4)
  for row = 1, height do
    local signs = {}
    for column = 1, columns do
      local bits = canvas[row][column]
      signs[column] = bits and utf8.char(0x2800 + bits) or " "
    end
    local label = row == height and bottom or row == 1 and top or ""
    out[#out + 1] = (("%" .. margin .. "s %s"):format(label, table.concat(signs)):gsub(" +$", ""))
  end
  local first, last = number_text(r.first), number_text(r.last)
  out[#out + 1] = (" "):rep(margin + 1) .. first .. (r.last > r.first and (" "):rep(columns - #first - #last) .. last or "")
  local row, used = {}, 0
  for k, s in ipairs(chart.series) do
    local size = #s.name + 6
    if used > 0 and used + size - 3 > columns then
      out[#out + 1] = (" "):rep(margin + 1) .. table.concat(row, "   ")
      row, used = {}, 0
    end
    row[#row + 1], used = style_of(k).mark .. " " .. s.name, used + size
  end
  out[#out + 1] = (" "):rep(margin + 1) .. table.concat(row, "   ")
  return table.concat(out, "\n")
end

-- ---- SVG -------------------------------------------------------------------------------------------------------------

local function escaped(s) return (s:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })) end

local LEFT, TOP, RIGHT, BOTTOM, TICKS = 62, 30, 16, 34, 4

-- One chart at height `y` of the page.
local function svg_chart(out, chart, width, height, y)
  local function put(form, ...) out[#out + 1] = form:format(...) end
  local r = ranges(chart)
  put('<text x="%d" y="%d" font-weight="bold">%s</text>', LEFT, y + 16, escaped(chart.title or ""))
  if not r then return end
  local w, h = width - LEFT - RIGHT, height - TOP - BOTTOM
  local function px(x) return LEFT + (r.last > r.first and (x - r.first) / (r.last - r.first) or 0) * w end
  local function py(v) return y + TOP + (r.high > r.low and (r.high - v) / (r.high - r.low) or 1) * h end
  for t = 0, r.high > r.low and TICKS or 0 do
    local v = r.low + (r.high - r.low) * t / math.max(1, TICKS)
    put('<path d="M%d %.1fH%d" stroke="#dde2e8"/>', LEFT, py(v), width - RIGHT)
    put('<text x="%d" y="%.1f" text-anchor="end">%s</text>', LEFT - 6, py(v) + 4, value_text(chart, v))
  end
  put('<path d="M%d %dV%dH%d" fill="none" stroke="#5b6675"/>', LEFT, y + TOP, y + TOP + h, width - RIGHT)
  put('<text x="%d" y="%d">%s</text>', LEFT, y + TOP + h + 16, number_text(r.first))
  put('<text x="%d" y="%d" text-anchor="end">%s</text>', width - RIGHT, y + TOP + h + 16, number_text(r.last))
  local legend = LEFT + 60
  for k, s in ipairs(chart.series) do
    local style, points = style_of(k), {}
    for i = 1, r.count do
      local v = scaled(chart, s.values[i])
      if v then points[#points + 1] = ("%.1f,%.1f"):format(px(chart.x and chart.x[i] or i), py(v)) end
    end
    put('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="%s"/>', table.concat(points, " "), style.colour,
      style.dash)
    put('<path d="M%d %dh18" stroke="%s" stroke-width="2" stroke-dasharray="%s"/>', legend, y + TOP + h + 12, style.colour, style.dash)
    put('<text x="%d" y="%d">%s</text>', legend + 22, y + TOP + h + 16, escaped(s.name))
    legend = legend + 34 + 7 * #s.name
  end
end

--- Charts, one below the other, as an SVG picture.
---@param charts table[]
---@param width? integer 640
---@param height? integer of each; 240
---@return string
function plot.svg(charts, width, height)
  width, height = width or 640, height or 240
  local out = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">'):format(width,
    height * math.max(1, #charts)), '<rect width="100%" height="100%" fill="white"/>' }
  for i, chart in ipairs(charts) do svg_chart(out, chart, width, height, (i - 1) * height) end
  out[#out + 1] = "</svg>\n"
  return table.concat(out, "\n")
end

--- Write text to a file: true, or nil and a message.
---@param file string
---@param text string
function plot.write(file, text)
  local f, message = io.open(file, "w")
  if not f then return nil, message end
  local ok, why = f:write(text)
  local closed, late = f:close()
  if not (ok and closed) then return nil, why or late end
  return true
end

-- ---- methods ---------------------------------------------------------------------------------------------------------

local chart_spec = {
  names = { "string", position = 1, rest = true }, width = { "integer", min = 20 }, height = { "integer", min = 1 },
  log = { "boolean", default = false },
}

--- Gives a class the methods plot, plot_text, svg and draw. `charts_of(self, what, o)` makes the charts of a call: of o.names, what the caller
--- named (an empty list: all); o.log: a logarithmic scale. `what` is the method, for messages.
---@param class table
---@param charts_of fun(self: table, what: string, o: table): table[]
function plot.give_methods(class, charts_of)
  local function charts(self, what, given)
    local o = options.check(what, type(given) == "string" and { given } or given or {}, chart_spec)
    o.names = o.names or {}
    return charts_of(self, what, o), o
  end

  --- Charts as text. Options: names by place, width (80 columns), height (10 lines), log (a logarithmic scale).
  function class:plot_text(given)
    local list, o = charts(self, "plot_text", given)
    local texts = {}
    for i, chart in ipairs(list) do texts[i] = plot.text(chart, o.width or 80, o.height or 10) end
    return table.concat(texts, "\n\n")
  end

  --- Print them, as wide as the terminal unless `width =` says otherwise.
  function class:plot(given)
    local o = { width = math.min(120, core.sys.terminal_width(1)) }
    for key, value in pairs(type(given) == "table" and given or { given }) do o[key] = value end
    io.stdout:write(self:plot_text(o), "\n")
  end

  --- Charts as an SVG picture; width and height (of one chart) are in pixels.
  function class:svg(given)
    local list, o = charts(self, "svg", given)
    return plot.svg(list, o.width, o.height)
  end

  --- Draw them into a file that ends in .svg. True, or nil and a message.
  function class:draw(file, given)
    if type(file) ~= "string" or not file:find "%.svg$" then
      options.raise("draw: needs the name of a file that ends in .svg, got " .. options.shown(file))
    end
    return plot.write(file, self:svg(given))
  end
end

return plot
