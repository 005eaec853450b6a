--- `nn.jit(fn)`: call `fn` once or twice, then replay what it recorded without calling it.
--
-- Owns: which calls are recorded, what is said about them, and results that are tables. What a replay is, and when a call fits, is in
-- bindings/lua_jit.c and the runtime (graph/jit.c).
--
--     local nn = require "nnlua"
--     local f = nn.jit(function(x, y) return (x * y + 1):tanh():sum() end)
--     local x, y = nn.ones(4), nn.full({4}, 2)
--     print(f(x, y):item() == f(x, y):item(), f(x, y):item() == f(x + 0, y + 0):item())  --> true  true
--     print(f:replays(), #f:why())                                                     --> 2  1
--
-- Tensors in the arguments (also in tables) are inputs. Everything else there is a constant: another value, another recording. Tensors that fn
-- uses besides (weights) are read as they are at each call; those that it assigns (x:assign, x[...] =, gradients) are assigned by each replay,
-- and none of them when its run fails. Draws continue the stream, and optimizers step by themselves, so a replay gives the bits of a call. A call is
-- recorded anew when the shape or dtype of a tensor, a constant, a variable of fn, an option or the mode of a module that it calls, or the
-- gradient mode differs; the 8 recordings used last are kept.
--
-- A recording is replayed after a second one said the same. What fn does besides (print, counting in a table) is done by the recorded calls only.
-- Where a replay would not be right (fn reads a value, its numbers change from call to call, it keeps a tensor that it made, ...) every call
-- calls fn, and why() says so. Results have no history: take gradients inside, or give a tensor that requires a gradient, which calls fn.

local core = require "nnlua.core"
local options = require "nnlua.options"
local lists = require "nnlua.lists"

local jit = {}

local TRIES = 4   -- recordings of one kind that may differ before fn is left alone: layers are built and state starts in the first ones
local CHURN = 16  -- recordings in a row without a replay between them

---@class nnlua.Jit
---@overload fun(...): ...
local Jit = {}
local metatable = core.jit_metatable
metatable.__index = Jit
metatable.__name = "nnlua.jit"

local states = setmetatable({}, { __mode = "k" })

-- ---- results ----------------------------------------------------------------------------------------------------------

-- Adds the tensors in v to list, detached; gives what rebuild() makes v of.
local function take_apart(v, list, depth)
  if core.is_tensor(v) then
    list[#list + 1] = v:detach()
    return #list
  elseif type(v) == "table" and getmetatable(v) == nil then
    if depth > 16 then options.raise "jit: a table in the results is nested deeper than 16" end
    local parts = {}
    for key, x in pairs(v) do parts[key] = take_apart(x, list, depth + 1) end
    return { parts = parts }
  end
  return { value = v }
end

local function put_together(part, list)
  if type(part) == "number" then return list[part] end
  if not part.parts then return part.value end
  local t = {}
  for key, x in pairs(part.parts) do t[key] = put_together(x, list) end
  return t
end

local function rebuild(shape, ...)
  local list, out = { ... }, {}
  for i = 1, shape.n do out[i] = put_together(shape[i], list) end
  return table.unpack(out, 1, shape.n)
end

-- The function as it is recorded: results flattened, without history; `state.shape` tells how they were, nil when all are tensors.
local function flattened(state, fn)
  local function flatten(...)
    local n, list, shape, plain = select("#", ...), {}, {}, true
    for i = 1, n do
      local v = select(i, ...)
      plain = plain and core.is_tensor(v)
      shape[i] = take_apart(v, list, 0)
    end
    shape.n = n
    state.shape = not plain and shape or nil
    return table.unpack(list)
  end
  return function(...) return flatten(fn(...)) end
end

-- ---- recording --------------------------------------------------------------------------------------------------------

local function say(state, text)
  state.log[#state.log + 1] = text
  if state.verbose then io.stderr:write("jit: ", text, "\n") end
end

local function give_up(self, state, reason)
  state.reason = reason
  core.jit_give_up(self)
  say(state, "every call calls the function: " .. reason)
end

local function settle(self, state, again, why)
  if why then return give_up(self, state, why) end
  core.jit_shape(self, state.shape)
  if not again then
    state.tries = 1
  else
    local differs = core.jit_verify(self)
    if not differs and not lists.same(state.shape, state.last_shape) then differs = "it returned other results than in the call before" end
    state.tries = differs and state.tries + 1 or 0
    if differs and state.tries >= TRIES then return give_up(self, state, differs) end
    if differs then say(state, "recorded again: " .. differs) end
  end
  state.last_shape = state.shape
end

-- A call that no recording fits. again: one does that was not checked by a second one; changed: what did not fit.
local function miss(self, again, changed, ...)
  local state = states[self]
  local replays = core.jit_stats(self)
  state.churn = state.at == replays and state.churn + 1 or 1
  state.at = replays
  if state.churn > CHURN then
    give_up(self, state, ("recorded %d times without a replay; the last time because %s"):format(CHURN, changed or state.log[#state.log]))
    return state.fn(...)
  end
  state.recordings = state.recordings + 1
  if not again then say(state, changed and "recorded: " .. changed or "recorded: the first call") end
  core.trace_start()
  local r = table.pack(pcall(core.jit_trace, self, ...))
  state.runs = core.trace_stop()
  if not r[1] then error(r[2], 0) end
  settle(self, state, again, r[2])
  if state.shape then return rebuild(state.shape, table.unpack(r, 3, r.n)) end
  return table.unpack(r, 3, r.n)
end

-- ---- what users see ---------------------------------------------------------------------------------------------------

--- A function that computes what `fn` does, to the bit, and faster where recording counts: many small operators. See the top of this page for
--- what it may do.
---@param fn function
---@param o? { verbose?: boolean } verbose: each reason on the standard error output
---@return nnlua.Jit
function jit.jit(fn, o)
  if type(fn) ~= "function" then options.raise("jit: the first argument must be a function, got " .. options.shown(fn)) end
  o = options.check("jit", o or {}, { verbose = { "boolean", default = false } })
  local state = { fn = fn, verbose = o.verbose, log = {}, recordings = 0, churn = 0, tries = 0 }
  local self = core.jit_new(fn, flattened(state, fn), miss, rebuild)
  states[self] = state
  return self
end

--- Why calls were recorded, one line each, in order; the last one says so if the function is called each time.
---@return string[]
function Jit:why() return table.move(states[self].log, 1, #states[self].log, 1, {}) end

--- How many calls were replayed.
function Jit:replays() return (core.jit_stats(self)) end

--- How many calls were recorded.
function Jit:recordings() return states[self].recordings end

--- What the last recording computes, as nn.graph gives it: prints, dot(), svg(), nodes, kernels, ...
function Jit:graph()
  local runs = states[self].runs
  if not runs then options.raise "jit: graph: nothing was recorded yet; call the function first" end
  return require("nnlua.graph").of(runs)
end

function metatable:__tostring()
  local state = states[self]
  local replays, held = core.jit_stats(self)
  local out = { ("jit: %d recordings (%d kept), %d replays"):format(state.recordings, held, replays) }
  for i = math.max(1, #state.log - 9), #state.log do out[#out + 1] = "  " .. state.log[i] end
  return table.concat(out, "\n")
end

return jit
