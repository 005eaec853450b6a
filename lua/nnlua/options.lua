--- Options in tables, checked in one place; and options of command-line scripts.
--
-- Owns: what an option table may hold and how a mistake in one is told. Knows nothing of tensors or layers; every file of lua/nnlua may use it.
-- Invariant: `check` never changes the table it is given, and its result has exactly the options of the specification.
--
--     local o = options.check("Dense", { 128, activation = "relu" }, {
--       units = { "integer", position = 1, required = true, min = 1 },
--       activation = { "string|function" },
--       bias = { "boolean", default = true } })
--     print(o.units, o.activation, o.bias)          --> 128  relu  true
--
-- Lua's own complaint about a misspelt field is silence, so an unknown key is an error that names the valid ones:
--
--     Dense: unknown option "activaton"; did you mean "activation"? (valid: units, activation, bias)

local lists = require "nnlua.lists"

local options = {}

---@class nnlua.OptionRule
---@field [1] string         type, or several joined by "|": integer number string boolean table function userdata tensor any
---@field position? integer  place in the positional part: nn.Dense{128}
---@field rest? boolean      with position: takes that place and all after it, as a list: nn.Input{28, 28, 1}
---@field required? boolean
---@field default? any       used as it is; a table given here is shared, don't change it
---@field choices? string[]  the strings that are allowed (checked when the value is a string)
---@field min? number        value >= min
---@field max? number        value <= max
---@field above? number      value > above
---@field below? number      value < below
---@field layer? boolean     the table is a layer, or a list of them

local this_file = debug.getinfo(1, "S").source
local library = this_file:match "^(@.*[/\\])" or this_file -- "@.../nnlua/": chunk names of the library's files begin so

--- Raise `message` at the first caller outside the library, which is the line that the user wrote.
function options.raise(message)
  for level = 2, 250 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.currentline > 0 and info.source:sub(1, #library) ~= library then
      error(("%s:%d: "):format(info.short_src, info.currentline) .. message, 0)
    end
  end
  error(message, 3)
end

--- Let a name that the table `family` has not be an error which names the nearest: nn.optim.Adm. Ask with rawget where nil is wanted. Returns it.
---@param family table
---@param name string what messages call it
function options.closed(family, name)
  local mt = getmetatable(family) or {}
  function mt.__index(_, key)
    local names = lists.sorted(family, function(known) return type(known) == "string" end)
    options.raise(("%s has no %s%s"):format(name, options.shown(key), options.advice(key, names)))
  end
  return setmetatable(family, mt)
end

-- Edits (insert, delete, change, swap of neighbours) that turn a into b.
local function distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (same and 0 or 1))
      if before and i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, previous = previous, row
  end
  return previous[#b]
end

--- The entry of `list` that `word` was probably meant to be, or nil when none is close.
---@param word string
---@param list string[]
---@return string?
function options.nearest(word, list)
  local best, best_cost
  local low = word:lower():sub(1, 64)
  for _, candidate in ipairs(list) do
    local other = candidate:lower()
    local cost = distance(low, other)
    local near = cost <= math.max(1, math.min(#low, #other) // 3)
    local part = #low >= 3 and other:find(low, 1, true) or #other >= 3 and low:find(other, 1, true)
    if part then cost = math.min(cost, 2.5) end
    if (near or part) and (not best or cost < best_cost) then best, best_cost = candidate, cost end
  end
  return best
end

local function quoted(s) return '"' .. s .. '"' end

--- What a message adds where `word` is not one of the list `valid`: '; did you mean "relu"?', or "" when none is close.
---@param word any
---@param valid string[]
---@return string
function options.advice(word, valid)
  local guess = type(word) == "string" and options.nearest(word, valid)
  return guess and ("; did you mean " .. quoted(guess) .. "?") or ""
end

local function is_tensor(v)
  local mt = type(v) == "userdata" and getmetatable(v)
  local name = type(mt) == "table" and mt.__name
  return type(name) == "string" and name:lower():find("tensor", 1, true) ~= nil
end

-- A value as a message shows it: short, and on one line.
local function shown(v)
  local kind = type(v)
  if v ~= v then
    return "nan"
  elseif kind == "string" then
    if #v > 40 then v = v:sub(1, 37) .. "..." end
    return quoted((v:gsub("%c", "?")))
  elseif kind == "number" or kind == "boolean" or kind == "nil" then
    return tostring(v)
  elseif kind == "userdata" then
    local mt = getmetatable(v)
    if is_tensor(v) then return ("a tensor of shape (%s)"):format(table.concat(v:shape(), ", ")) end
    return "a " .. (type(mt) == "table" and type(mt.__name) == "string" and mt.__name or kind)
  end
  return "a " .. kind
end
options.shown = shown

--- A list of numbers as text, {1, 2}; anything else as shown() has it.
function options.list_text(v)
  if type(v) ~= "table" or #v == 0 then return shown(v) end
  local words = {}
  for i, n in ipairs(v) do words[i] = type(n) == "table" and options.list_text(n) or shown(n) end
  return "{" .. table.concat(words, ", ") .. "}"
end

--- Is it a table without a metatable: a list or options, and no object?
function options.is_plain(value) return type(value) == "table" and getmetatable(value) == nil end

--- `given` with other spellings of options replaced: { x = "data" } makes data of x.
---@param owner string for messages
function options.renamed(owner, given, aliases)
  local plain = {}
  for key, value in next, given do
    local name = aliases[key] or key
    if plain[name] ~= nil then options.raise(('%s: %q is another name of %q; give one of them'):format(owner, tostring(key), name)) end
    plain[name] = value
  end
  return plain
end

-- Per type name: the value as that type (3.0 is the integer 3), or nil.
local converters = {
  integer = function(v) return math.type(v) and math.tointeger(v) end,
  number = function(v) return type(v) == "number" and v or nil end,
  tensor = function(v) return is_tensor(v) and v or nil end,
  any = function(v) return v end,
}
for _, name in ipairs { "string", "boolean", "table", "function", "userdata" } do
  converters[name] = function(v) if type(v) == name then return v end end
end

local function article(name) return (name:find "^[aeiou]" and "an " or "a ") .. name end

local function types_text(types)
  local words = {}
  for name in types:gmatch "[^|]+" do words[#words + 1] = article(name) end
  return table.concat(words, " or ")
end

-- The value converted to one of `types`; nil (false for the value false is fine, so a second result says ok).
local function converted(v, types)
  for name in types:gmatch "[^|]+" do
    local convert = converters[name] or error("options: unknown type in a specification: " .. name, 0)
    local c = convert(v)
    if c ~= nil then return c, true end
  end
  return nil, false
end

-- What is wrong with the number v under the rule's bounds, or nil. Written so that NaN is wrong.
local function bounds_error(v, rule)
  if type(v) ~= "number" then return nil end
  local low_ok = (not rule.min or v >= rule.min) and (not rule.above or v > rule.above)
  local high_ok = (not rule.max or v <= rule.max) and (not rule.below or v < rule.below)
  if low_ok and high_ok then return nil end
  local words = {}
  if rule.min then words[#words + 1] = "at least " .. rule.min end
  if rule.above then words[#words + 1] = "above " .. rule.above end
  if rule.max then words[#words + 1] = "at most " .. rule.max end
  if rule.below then words[#words + 1] = "below " .. rule.below end
  return "must be " .. table.concat(words, " and ")
end

-- The checked value, or nil and what is wrong with it ("must be an integer, got ...").
local function checked(v, rule)
  local c, ok = converted(v, rule[1])
  if not ok then return nil, ("must be %s, got %s"):format(rule.layer and "a layer, such as nn.Dense{10}" or types_text(rule[1]), shown(v)) end
  if rule.choices and type(c) == "string" then
    for _, choice in ipairs(rule.choices) do
      if c == choice then return c end
    end
    return nil, ("must be one of %s, got %s%s"):format(table.concat(rule.choices, ", "), shown(c), options.advice(c, rule.choices))
  end
  local wrong = bounds_error(c, rule)
  if wrong then return nil, ("%s, got %s"):format(wrong, shown(v)) end
  return c
end

--- The names of the options in `spec` in the order of messages and of help: positional ones first, then by name.
---@param spec table<string, nnlua.OptionRule>
---@return string[]
function options.names(spec)
  local names = {}
  for name in pairs(spec) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    local pa, pb = spec[a].position or math.huge, spec[b].position or math.huge
    if pa ~= pb then return pa < pb end
    return a < b
  end)
  return names
end

-- Positions of a specification: place -> name, and the name that takes the rest, if any, with its place.
local function places_of(spec)
  local places, rest, rest_at = {}, nil, nil
  for name, rule in pairs(spec) do
    if rule.position then
      places[rule.position] = name
      if rule.rest then rest, rest_at = name, rule.position end
    end
  end
  return places, rest, rest_at
end

-- The positional part of `given` under its names. Raises when there are too many.
local function positional(owner, given, spec)
  local places, rest, rest_at = places_of(spec)
  local byname, extra = {}, nil
  for key, v in pairs(given) do
    if math.type(key) == "integer" then
      local name = rest and key >= rest_at and rest or places[key]
      if not name then
        extra = math.max(extra or key, key)
      elseif name == rest then
        byname[rest] = byname[rest] or {}
        byname[rest][key - rest_at + 1] = v
      else
        byname[name] = v
      end
    end
  end
  if extra then
    local words = {}
    for i, name in ipairs(places) do words[i] = name end
    options.raise(("%s: value %d has no meaning; %s"):format(owner, extra, #words == 0 and "it takes named options only"
      or "the positional part is " .. table.concat(words, ", ")))
  end
  return byname
end

local function check_rest(owner, name, list, rule)
  local out, n = {}, 0
  for i in pairs(list) do n = math.max(n, i) end
  for i = 1, n do
    local v, wrong = checked(list[i], rule)
    if wrong then options.raise(("%s: %s[%d] %s"):format(owner, name, i, wrong)) end
    out[i] = v
  end
  return out
end

--- Check `opts` (a table; any other value counts as {value}; nil as {}) for the object `owner` against `spec`.
--- Returns a new table with the defaults filled in; raises a one-line error at the user's line otherwise.
---@param owner string
---@param opts any
---@param spec table<string, nnlua.OptionRule>
---@param aliases? table<string, string> other spellings that the caller has put right; advice knows them
---@return table
function options.check(owner, opts, spec, aliases)
  if opts == nil then opts = {} elseif type(opts) ~= "table" then opts = { opts } end
  local byplace = positional(owner, opts, spec)
  for key in pairs(opts) do
    if math.type(key) ~= "integer" and not spec[key] then
      local names, close = options.names(spec), options.names(spec)
      for alias in pairs(aliases or {}) do close[#close + 1] = alias end
      options.raise(("%s: unknown option %s%s (%s)"):format(owner, shown(key), options.advice(key, close),
        #names == 0 and "it takes none" or "valid: " .. table.concat(names, ", ")))
    end
  end
  local out = {}
  for _, name in ipairs(options.names(spec)) do
    local rule, v = spec[name], opts[name]
    if byplace[name] ~= nil then
      if v ~= nil then options.raise(("%s: option %s is given twice, by place and by name"):format(owner, quoted(name))) end
      v = byplace[name]
    end
    if v == nil then
      if rule.required then
        options.raise(("%s: option %s is missing%s"):format(owner, quoted(name),
          rule[1] == "any" and "" or "; it must be " .. types_text(rule[1])))
      end
      v = rule.default
    elseif rule.rest then
      if type(v) ~= "table" then v = { v } end
      v = check_rest(owner, name, v, rule)
    else
      local wrong
      v, wrong = checked(v, rule)
      if wrong then options.raise(("%s: option %s %s"):format(owner, quoted(name), wrong)) end
    end
    out[name] = v
  end
  return out
end

-- ---- command lines ---------------------------------------------------------------------------------------------------

---@class nnlua.Argument
---@field [1] string          name: "epochs" is --epochs
---@field [2] string          type: integer number string choice flag
---@field help? string
---@field default? any
---@field required? boolean
---@field short? string       one letter: "e" is -e
---@field positional? boolean a word without dashes, in the order of the specification
---@field choices? string[]
---@field min? number
---@field max? number
---@field above? number
---@field below? number

-- The value of the word `text` for the argument `rule`, or nil and what is wrong.
local function parse_word(text, rule)
  local kind = rule[2]
  if kind == "integer" or kind == "number" then
    local v = tonumber(text)
    if kind == "integer" then v = v and math.tointeger(v) end
    if not v then return nil, ("must be %s, got %s"):format(article(kind), shown(text)) end
    local wrong = bounds_error(v, rule)
    if wrong then return nil, ("%s, got %s"):format(wrong, shown(v)) end
    return v
  end
  return checked(text, { "string", choices = rule.choices })
end

-- Lookup tables of a command-line specification: written form -> rule; list of long forms; positional rules.
local function command_of(spec)
  local forms, longs, places = { ["--help"] = "help", ["-h"] = "help" }, { "--help" }, {}
  for _, rule in ipairs(spec) do
    if rule.positional then
      places[#places + 1] = rule
    else
      local long = "--" .. rule[1]
      forms[long], longs[#longs + 1] = rule, long
      if rule.short then forms["-" .. rule.short] = rule end
    end
  end
  return forms, longs, places
end

-- One word that begins with a dash, at args[i]: stores its value, returns the next i, or nil and a message.
local function parse_option(args, i, forms, longs, out)
  local word, value = args[i], nil
  if word:sub(1, 2) == "--" and word:find "=" then word, value = word:match "^(.-)=(.*)$" end
  local rule, negated = forms[word], false
  if not rule and word:sub(1, 5) == "--no-" then
    rule = forms["--" .. word:sub(6)]
    negated = true
    if rule == "help" or rule and rule[2] ~= "flag" then rule = nil end
  end
  if not rule then return nil, ("unknown option %s%s (--help lists them)"):format(shown(word), options.advice(word, longs)) end
  if rule == "help" then
    out.help = true
    return i + 1
  end
  if rule[2] == "flag" then
    if value then return nil, ("option %s takes no value"):format(word) end
    out[rule[1]] = not negated
    return i + 1
  end
  if not value then
    i = i + 1
    value = args[i]
    if value == nil or forms[value] then return nil, ("option %s needs a value"):format(word) end
  end
  local v, wrong = parse_word(value, rule)
  if wrong then return nil, ("option %s %s"):format(word, wrong) end
  out[rule[1]] = v
  return i + 1
end

--- Parse the words of `args`. Returns a table of values, or nil and a one-line message. A request for help sets `help`.
---@param args string[]
---@param spec nnlua.Argument[]
---@return table?, string?
function options.parse(args, spec)
  local forms, longs, places = command_of(spec)
  local out, nplace, i, only_words = {}, 0, 1, false
  while i <= #args do
    local word = args[i]
    if not only_words and word == "--" then
      only_words, i = true, i + 1
    elseif not only_words and #word > 1 and word:sub(1, 1) == "-" then
      local wrong
      i, wrong = parse_option(args, i, forms, longs, out)
      if not i then return nil, wrong end
    else
      nplace = nplace + 1
      local rule = places[nplace]
      if not rule then return nil, ("unexpected word %s (--help shows the usage)"):format(shown(word)) end
      local v, wrong = parse_word(word, rule)
      if wrong then return nil, ("%s %s"):format(rule[1], wrong) end
      out[rule[1]], i = v, i + 1
    end
  end
  for _, rule in ipairs(spec) do
    if out[rule[1]] == nil then
      if rule.required and not out.help then
        return nil, ("%s is missing (--help shows the usage)"):format(rule.positional and rule[1] or "option --" .. rule[1])
      end
      out[rule[1]] = rule.default
      if rule[2] == "flag" and rule.default == nil then out[rule[1]] = false end
    end
  end
  return out
end

local function left_column(rule)
  if rule.positional then return "  " .. rule[1] end
  local short = rule.short and ("-" .. rule.short .. ", ") or ""
  local kinds = { integer = " N", number = " X", string = " TEXT", flag = "" }
  local value = rule.choices and " " .. table.concat(rule.choices, "|") or rule.value and " " .. rule.value or kinds[rule[2]]
  return "  " .. short .. "--" .. rule[1] .. (value or "")
end

--- The text that --help prints.
---@param name string
---@param spec nnlua.Argument[]
---@return string
function options.usage(name, spec)
  local words = { "usage: nnlua ", name, " [options]" }
  local rows, width = {}, 0
  for _, rule in ipairs(spec) do
    if rule.positional then words[#words + 1] = (rule.required and " %s" or " [%s]"):format(rule[1]) end
    local default = rule.default ~= nil and rule[2] ~= "flag" and (" (default %s)"):format(tostring(rule.default)) or ""
    rows[#rows + 1] = { left_column(rule), (rule.help or "") .. default }
  end
  rows[#rows + 1] = { "  --help", "show this text" }
  for _, row in ipairs(rows) do width = math.max(width, #row[1]) end
  local lines = { table.concat(words) }
  if spec.about then lines[#lines + 1] = spec.about end
  for _, row in ipairs(rows) do
    lines[#lines + 1] = (("%-" .. width .. "s  %s"):format(row[1], row[2]):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Options of a script, from its `arg`. --help prints the usage and ends the program; a mistake prints one line and ends it with code 2.
---
---     local o = options.parse_args(arg, { about = "Train a network on MNIST.",
---       { "model", "choice", choices = { "mlp", "cnn" }, default = "mlp", help = "which network" },
---       { "epochs", "integer", default = 3, min = 1, help = "passes over the data" },
---       { "save", "string", value = "FILE", help = "write a checkpoint after each epoch" },
---       { "quiet", "flag", help = "no progress bar" } })
---@param args table  the global `arg`
---@param spec nnlua.Argument[]
---@return table
function options.parse_args(args, spec)
  local name = spec.name or tostring(args[0] or "script"):match "[^/\\]*$"
  local out, wrong = options.parse(args, spec)
  if not out then
    io.stdout:flush()
    io.stderr:write(name, ": ", wrong, "\n")
    os.exit(2, true)
  elseif out.help then
    io.stdout:write(options.usage(name, spec))
    os.exit(0, true)
  end
  return out
end

return options
