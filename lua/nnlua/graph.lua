--- What a function computes: recorded nodes, the kernels they become, work, memory and time.
--
-- Owns: nn.graph (capture, print, draw), nn.profile (time per kernel and line, Chrome trace), nn.debug (stop at the first NaN).
--
--     local nn = require "nnlua"
--     local x = nn.ones(4, 3)
--     local g = nn.graph(function(t) return (t * 2 + 1):relu():sum() end, x)
--     print(g.nodes, g.kernels)  --> 4  1

local core = require "nnlua.core"
local options = require "nnlua.options"

local graph = {}

local Graph = {}
Graph.__index = Graph

-- ---- capture ---------------------------------------------------------------------------------------------------------

local function need_function(what, fn)
  local mt = type(fn) == "userdata" and getmetatable(fn)
  if type(fn) == "function" or (mt and mt.__call) then return end
  options.raise(what .. ": the first argument must be a function, got " .. options.shown(fn))
end

local function capture(fn, ...)
  core.eval()
  core.trace_start()
  local results = table.pack(pcall(fn, ...))
  local ok, message = true, nil
  if results[1] then ok, message = pcall(core.eval) end
  local runs = core.trace_stop()
  if not results[1] then error(results[2], 0) end
  if not ok then error(message, 0) end
  return runs, results
end

local function total(runs, what, list)
  local sum = 0
  for _, run in ipairs(runs) do
    if list then
      for _, item in ipairs(run[list]) do sum = sum + (item[what] or 0) end
    else
      sum = sum + run[what]
    end
  end
  return sum
end

--- What the runs of core.trace_stop() computed.
function graph.of(runs)
  local self = setmetatable({ runs = runs, nodes = 0, kernels = 0 }, Graph)
  local hits = 0
  for _, run in ipairs(runs) do
    self.nodes, self.kernels = self.nodes + #run.nodes, self.kernels + #run.units
    if run.hit then hits = hits + 1 end
  end
  self.flops, self.bytes = total(runs, "flops", "units"), total(runs, "bytes", "units")
  self.memory_planned = total(runs, "arena") + total(runs, "outputs")
  self.memory_unplanned = total(runs, "unplanned")
  self.hit_rate = #runs > 0 and hits / #runs or 1
  return self
end

--- Run `fn(...)` and keep what it recorded. The result prints as a listing and has
--- `nodes`, `kernels`, `flops`, `bytes` (memory traffic), `memory_planned` and `memory_unplanned` (bytes of results, with and without
--- fusion and re-use), `hit_rate` (share of runs whose plan was known), and the methods dot() and svg().
---@param fn function
---@return table graph
function graph.graph(fn, ...)
  need_function("graph", fn)
  local eager = core.eager(false) -- a graph is what becomes one plan, whatever the mode
  local captured, runs = pcall(capture, fn, ...)
  core.eager(eager)
  if not captured then error(runs, 0) end
  return graph.of(runs)
end

-- ---- listing ---------------------------------------------------------------------------------------------------------

local function shape_text(shape)
  return #shape > 0 and table.concat(shape, "x") or "scalar"
end

local function amount(n, unit)
  for _, p in ipairs { "", "k", "M", "G", "T" } do
    if n < 1000 then return ("%.4g %s%s"):format(n, p, unit) end
    n = n / 1000
  end
  return ("%.4g P%s"):format(n, unit)
end

graph.amount = amount

local function input_text(i)
  if not i then return "number" end
  return i > 0 and "%" .. i or "in" .. -i
end

local function node_text(k, node)
  local inputs = {}
  for i, v in ipairs(node.inputs) do inputs[i] = input_text(v) end
  local where = node.line > 0 and ("  line %d"):format(node.line) or ""
  return ("%%%-4d %-22s %-4s %-16s%s%s"):format(k, node.op .. "(" .. table.concat(inputs, ", ") .. ")", node.dtype, shape_text(node.shape),
    node.visible and " kept" or "", where)
end

function Graph:__tostring()
  local out = {}
  for r, run in ipairs(self.runs) do
    out[#out + 1] = ("run %d: %d nodes in %d kernels%s"):format(r, #run.nodes, #run.units, run.hit and " (plan known)" or "")
    for u, unit in ipairs(run.units) do
      out[#out + 1] = ("  kernel %d: %s, %s, %s"):format(u, unit.name, amount(unit.flops, "FLOP"), amount(unit.bytes, "B"))
      for k, node in ipairs(run.nodes) do
        if node.unit == u then out[#out + 1] = "    " .. node_text(k, node) end
      end
    end
  end
  out[#out + 1] = ("%d nodes, %d kernels, %s, memory %s (%s without planning)"):format(self.nodes, self.kernels, amount(self.flops, "FLOP"),
    amount(self.memory_planned, "B"), amount(self.memory_unplanned, "B"))
  return table.concat(out, "\n")
end

--- What draws `run`, a table { nodes = { { op, unit, inputs, shape, label? } }, units = { { name, fill? } } }: for models.
function graph.picture(run) return setmetatable({ runs = { run } }, Graph) end

-- ---- drawing ---------------------------------------------------------------------------------------------------------

--- The graph in the DOT language (Graphviz): a cluster per kernel.
function Graph:dot()
  local out = { "digraph nnlua {", "  rankdir=TB; node [shape=box, style=rounded, fontname=sans, fontsize=10];" }
  for r, run in ipairs(self.runs) do
    for u, unit in ipairs(run.units) do
      out[#out + 1] = ("  subgraph cluster_%d_%d { label=%q; color=gray;"):format(r, u, ("%d %s"):format(u, unit.name))
      for k, node in ipairs(run.nodes) do
        if node.unit == u then out[#out + 1] = ("    n%d_%d [label=%q];"):format(r, k, node.label or node.op .. "\n" .. shape_text(node.shape)) end
      end
      out[#out + 1] = "  }"
    end
    for k, node in ipairs(run.nodes) do
      for _, i in ipairs(node.inputs) do
        if i and node.unit then
          if i < 0 then out[#out + 1] = ("  i%d_%d [label=%q, shape=ellipse];"):format(r, -i, "in" .. -i) end
          out[#out + 1] = ("  %s%d_%d -> n%d_%d;"):format(i > 0 and "n" or "i", r, math.abs(i), r, k)
        end
      end
    end
  end
  out[#out + 1] = "}\n"
  return (table.concat(out, "\n"):gsub("\\\n", "\\n"))
end

local function escape(s)
  return (s:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

-- Kernels of one run, in columns: a kernel stands below all it reads from.
local function place(run)
  local depth, columns, at = {}, {}, {}
  for u = 1, #run.units do depth[u] = 1 end
  for u = 1, #run.units do
    for _, node in ipairs(run.nodes) do
      if node.unit == u then
        for _, i in ipairs(node.inputs) do
          local from = i and i > 0 and run.nodes[i].unit
          if from and from ~= u then depth[u] = math.max(depth[u], depth[from] + 1) end
        end
      end
    end
    local d = depth[u]
    columns[d] = (columns[d] or 0) + 1
    at[u] = { row = d, column = columns[d] }
  end
  return at
end

--- The kernels as an SVG picture: boxes with their operators, arrows for what is handed on.
function Graph:svg()
  local w, line, gap = 190, 13, 34
  local body, top, right = {}, 20, 0
  for _, run in ipairs(self.runs) do
    local at, ops, height = place(run), {}, {}
    for u = 1, #run.units do ops[u] = {} end
    for _, node in ipairs(run.nodes) do
      if node.unit then table.insert(ops[node.unit], node.op) end
    end
    for u, p in ipairs(at) do
      p.lines = { ("%d %s"):format(u, run.units[u].name) }
      for i = 1, #ops[u], 4 do p.lines[#p.lines + 1] = table.concat(ops[u], " ", i, math.min(i + 3, #ops[u])) end
      p.h = #p.lines * line + 8
      height[p.row] = math.max(height[p.row] or 0, p.h)
    end
    local y = { top }
    for row = 1, #height do y[row + 1] = y[row] + height[row] + gap end
    for _, p in ipairs(at) do
      p.x, p.y = 20 + (p.column - 1) * (w + 20), y[p.row]
      right = math.max(right, p.x + w)
    end
    local seen = {}
    for _, node in ipairs(run.nodes) do
      for _, i in ipairs(node.unit and node.inputs or {}) do
        local from = i and i > 0 and run.nodes[i].unit
        if from and from ~= node.unit and not seen[from * 4096 + node.unit] then
          seen[from * 4096 + node.unit] = true
          local a, b = at[from], at[node.unit]
          local ax, ay, bx, by = a.x + w // 2, a.y + a.h, b.x + w // 2, b.y
          body[#body + 1] = ('<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="#8892a0" marker-end="url(#a)"/>'):format(ax, ay,
            ax, ay + gap // 2, bx, by - gap // 2, bx, by - 2)
        end
      end
    end
    for u, p in ipairs(at) do
      body[#body + 1] = ('<rect x="%d" y="%d" width="%d" height="%d" rx="5" fill="%s" stroke="#5b6675"/>'):format(p.x, p.y, w, p.h,
        run.units[u].fill or run.units[u].name == "program" and "#e8f1fb" or "#fdf1dc")
      for i, text in ipairs(p.lines) do
        local weight = i == 1 and ' font-weight="bold"' or ""
        body[#body + 1] = ('<text x="%d" y="%d"%s>%s</text>'):format(p.x + 6, p.y + 2 + i * line, weight, escape(text))
      end
    end
    top = y[#y] + 10
  end
  return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="10">\n' ..
    '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">' ..
    '<path d="M0 0L8 4L0 8z" fill="#8892a0"/></marker></defs>\n' ..
    '<rect width="100%%" height="100%%" fill="white"/>\n%s\n</svg>\n'):format(right + 20, top + 10, table.concat(body, "\n"))
end

-- ---- profile ---------------------------------------------------------------------------------------------------------

local Profile = {}
Profile.__index = Profile

local function label_of(run, u)
  local ops, n, line = {}, 0, 0
  for _, node in ipairs(run.nodes) do
    if node.unit == u then
      n = n + 1
      if n <= 4 then ops[n] = node.op end
      if line == 0 then line = node.line end
    end
  end
  return table.concat(ops, " ") .. (n > 4 and (" +%d"):format(n - 4) or ""), line
end

--- Run `fn(...)` and measure every kernel. The result prints as a table (kernel, line of the script that recorded it, calls, time,
--- share, rate); `profile:chrome(file)` writes a trace for chrome://tracing or Perfetto.
---@param fn function
---@return table profile
function graph.profile(fn, ...)
  need_function("profile", fn)
  local runs = capture(fn, ...)
  local self, by = setmetatable({ rows = {}, events = {}, seconds = 0 }, Profile), {}
  for _, run in ipairs(runs) do
    for u, unit in ipairs(run.units) do
      local name, line = label_of(run, u)
      local key, time = name .. ":" .. line, unit.stop - unit.start
      local row = by[key]
      if not row then
        row = { name = name, line = line, calls = 0, seconds = 0, flops = 0, bytes = 0 }
        by[key], self.rows[#self.rows + 1] = row, row
      end
      row.calls, row.seconds = row.calls + 1, row.seconds + time
      row.flops, row.bytes = row.flops + unit.flops, row.bytes + unit.bytes
      self.seconds = self.seconds + time
      self.events[#self.events + 1] = { name = name, line = line, start = unit.start, time = time }
    end
  end
  table.sort(self.rows, function(a, b) return a.seconds > b.seconds end)
  return self
end

function Profile:__tostring()
  local out = { ("%-44s %5s %6s %10s %6s %9s %8s"):format("kernel", "line", "calls", "us", "share", "GFLOP/s", "GB/s") }
  for _, r in ipairs(self.rows) do
    local s = math.max(r.seconds, 1e-9)
    out[#out + 1] = ("%-44s %5s %6d %10.1f %5.1f%% %9.1f %8.1f"):format(r.name:sub(1, 44), r.line > 0 and r.line or "", r.calls, r.seconds * 1e6,
      100 * r.seconds / math.max(self.seconds, 1e-12), r.flops / s / 1e9, r.bytes / s / 1e9)
  end
  out[#out + 1] = ("%d kernels, %.1f us"):format(#self.events, self.seconds * 1e6)
  return table.concat(out, "\n")
end

--- Write the profile as a Chrome trace (JSON). Returns true, or nil and a message.
function Profile:chrome(file)
  local f, message = io.open(file, "w")
  if not f then return nil, message end
  local t0 = self.events[1] and self.events[1].start or 0
  local rows = {}
  for i, e in ipairs(self.events) do
    local ts, dur = (e.start - t0) * 1e6, e.time * 1e6
    rows[i] = ('{"name":%q,"ph":"X","pid":1,"tid":1,"ts":%.3f,"dur":%.3f,"args":{"line":%d}}'):format(e.name, ts, dur, e.line)
  end
  local ok, why = f:write("[\n", table.concat(rows, ",\n"), "\n]\n")
  local closed, late = f:close()
  if not ok then return nil, why end
  if not closed then return nil, late end
  return true
end

-- ---- debugging -------------------------------------------------------------------------------------------------------

local debug_spec = { nan = { "boolean", default = false } }

--- `nn.debug{ nan = true }`: from now on a call whose result holds NaN or Inf although its arguments are finite raises an error that
--- names the operator, at the script's line. Every call runs at once then, so this is slow; `nn.debug{ nan = false }` ends it.
function graph.debug(given)
  local o = options.check("debug", given, debug_spec)
  core.check_finite(o.nan)
end

return graph
