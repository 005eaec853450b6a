--- Help in the terminal: `nn.help "Dense"` prints what a name is, its options with their defaults, and an example. In the REPL: `? Dense`.
--
-- Owns: where the text of a name stands. It is the doc comment in the library's own files, so help and source cannot differ; operators have theirs in
-- the tables that docs/ops.md is made of, the core's other functions and methods in core.d.lua.
--
--     local nn = require "nnlua"
--     print((nn.help.text "LeakyReLU":match "\n  (negative_slope [^\n]*)"))   --> negative_slope  number, 0.3, at least 0, 1st by place

local core = require "nnlua.core"
local options = require "nnlua.options"

local help = {}

-- Families: what `nn.<family>` is called, the files of its members, and the sort of thing they are.
local families = {
  { "optim", { "optim.momentum", "optim.adaptive", "optim.adam", "optim.matrix", "optim.lbfgs", "optim.cg", "optim.base", "optim" }, "optimizer" },
  { "losses", { "losses" }, "loss" },
  { "metrics", { "metrics.base", "metrics.classes", "metrics.numbers", "metrics" }, "metric" },
  { "schedules", { "schedules" }, "schedule" },
  { "callbacks", { "callbacks.base", "callbacks.control", "callbacks.files", "callbacks.health", "callbacks" }, "callback" },
  { "initializers", { "initializers" }, "initializer" },
  { "regularizers", { "regularizers" }, "regularizer" },
  { "constraints", { "constraints" }, "constraint" },
  { "activations", { "activations" }, "activation" },
  { "data", { "data.sources", "data.arrays", "data.files", "data.folders", "data.verbs", "data.combine",
      "data.labels", "data.dataset", "data" }, "data set" },
  { "datasets", { "datasets" }, "data set" },
  { "vision", { "vision.transforms", "vision" }, "transform" },
  { "safetensors", { "safetensors" }, "file format" },
  { "numpy", { "numpy" }, "file format" },
  { "torch7", { "torch7" }, "file format" },
  { "onnx", { "onnx" }, "file format" },
  { "h5", { "h5" }, "file format" },
}

-- ---- comments --------------------------------------------------------------------------------------------------------

local function lines_of_file(path)
  local list = {}
  for line in path and io.lines(path) or function() end do list[#list + 1] = line end
  return list
end

local function lines_of(module) return lines_of_file(package.searchpath(module, package.path)) end

-- The comment that ends above line `last`, without what is for editors.
local function comment_above(lines, last)
  local first = last
  while first > 1 and lines[first - 1]:find "^%-%-" and not lines[first - 1]:find "^%-%- %-%-%-%-" do first = first - 1 end
  local out = {}
  for i = first, last - 1 do
    local text = lines[i]:match "^%-%-+ ?(.*)$"
    if not text:find "^@" then out[#out + 1] = text end
  end
  return #out > 0 and table.concat(out, "\n") or nil
end

-- The comment above the first line of a file that one of the patterns finds, tried in their order.
local function comment_at(module, ways)
  local lines = lines_of(module)
  for _, way in ipairs(ways) do
    for i, line in ipairs(lines) do
      if line:find(way) then
        while lines[i] and lines[i]:find "^%-%-%-?@" do i = i + 1 end -- a block of classes has one comment
        local text = comment_above(lines, i)
        if text then return text end
      end
    end
  end
end

-- The comment about `name` in a file: that of its class, its function, or the definition that names it.
local function comment_of(module, name)
  return comment_at(module, { "^%-%-%-@class nnlua%." .. name .. "%f[^%w_]", "^[%w_ ]*function [%w_]*[%.:]?" .. name .. "%f[^%w_]",
    "^[%w_%.]+%(\"" .. name .. '"', "^[%w_%.]+%." .. name .. " = ", "^local " .. name .. " = " })
end

-- What a file begins with: the comment of a family or of the one thing that it holds.
local function head_of(module)
  local lines = lines_of(module)
  local i = 1
  while lines[i] and lines[i]:find "^%-%-" do i = i + 1 end
  return comment_above(lines, i)
end

-- ---- options ---------------------------------------------------------------------------------------------------------

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "table" and value.config then return tostring(value) end
  if type(value) ~= "table" then return tostring(value) end
  local words = {}
  for i, item in ipairs(value) do words[i] = shown(item) end
  return "{" .. table.concat(words, ", ") .. "}"
end

local places = { "1st by place", "2nd by place", "3rd by place" }
local bounds = { { "min", "at least" }, { "above", "above" }, { "max", "at most" }, { "below", "below" } }

local function rule_text(rule)
  local words = { (rule[1]:gsub("|", " or ")) }
  if rule.required then words[#words + 1] = "required" elseif rule.default ~= nil then words[#words + 1] = shown(rule.default) end
  if rule.choices then words[#words + 1] = "one of " .. table.concat(rule.choices, " ") end
  for _, bound in ipairs(bounds) do
    if rule[bound[1]] then words[#words + 1] = ("%s %s"):format(bound[2], rule[bound[1]]) end
  end
  if rule.position then words[#words + 1] = rule.rest and "all by place" or places[rule.position] or ("%dth by place"):format(rule.position) end
  return table.concat(words, ", ")
end

-- The options of a class as lines.
local function options_text(c)
  local names, width, out = options.names(c.options), 0, {}
  if #names == 0 then return nil end
  for _, name in ipairs(names) do width = math.max(width, #name) end
  for i, name in ipairs(names) do out[i] = ("  %-" .. width .. "s  %s"):format(name, rule_text(c.options[name])) end
  local short = {}
  for alias, name in pairs(c.aliases or {}) do short[#short + 1] = ("%s is %s"):format(alias, name) end
  table.sort(short)
  if #short > 0 then out[#out + 1] = "  short: " .. table.concat(short, ", ") end
  return "options (type, default):\n" .. table.concat(out, "\n")
end

-- ---- finding ---------------------------------------------------------------------------------------------------------

local function is_class(value) return type(value) == "table" and rawget(value, "__index") == value end

local function told(title, comment, more)
  local parts = { title }
  if comment then parts[#parts + 1] = comment end
  if more then parts[#parts + 1] = more end
  return table.concat(parts, "\n\n")
end

-- What core.d.lua says of nn.<name>, or of a method x:<name>.
local function stub_text(name)
  local lines = lines_of_file((package.searchpath("nnlua.help", package.path):gsub("help%.lua$", "core.d.lua")))
  for _, owner in ipairs { { "nn%.", "nn." }, { "Tensor:", "x:" } } do
    for i, line in ipairs(lines) do
      local arguments = line:match("^function " .. owner[1] .. name .. "(%b()) end")
      if arguments then return told(owner[2] .. name .. arguments, comment_above(lines, i)) end
    end
  end
end

-- Names of the operators: name -> { signature =, doc = }.
local function operators()
  local list = {}
  for _, op in ipairs(core.ops()) do list[op.name] = op end
  for _, row in ipairs(require("nnlua.functional").rows) do list[row.name] = row end
  return list
end

-- The operator that an activation is, under this name or another.
local function operator_of(name, value)
  local all = operators()
  if all[name] then return all[name] end
  for other, op in pairs(all) do
    if core[other] == value then return op end
  end
end

-- What is known of a member: { title =, comment =, value =, options =, aliases =, kind = }, nil when the family has no such name.
local function member_parts(family, name)
  local members = require("nnlua." .. family[1])
  local value = type(members) == "table" and rawget(members, name)
  if value == nil or value == false or name == "get" then return nil end
  local comment
  for _, file in ipairs(family[2]) do
    local asked = type(value) == "table" and rawget(value, "label") and value.__name ~= name and { name, value.__name } or { name }
    for _, word in ipairs(asked) do comment = comment or comment_of("nnlua." .. file, word) end
    for other, same in pairs(comment and {} or members) do -- under another name
      if same == value and other ~= name then comment = comment or comment_of("nnlua." .. file, other) end
    end
  end
  local op = family[1] == "activations" and not comment and operator_of(name, value)
  local rules = type(value) == "function" and family[1] == "losses" and getmetatable(members).rules_of[value]
  return { title = ("nn.%s.%s: %s"):format(family[1], name, family[3]), comment = comment or op and op.doc, value = value, kind = family[3],
    options = is_class(value) and value.options or rules or nil, aliases = is_class(value) and value.aliases or nil }
end

local function parts_text(parts) return told(parts.title, parts.comment, parts.options and options_text(parts)) end

-- Methods of every module, and where their comments stand.
local method_files = { "module", "weights", "training.compile", "training.fit", "training.predict", "summary", "lint" }

local function method_comment(name)
  if type(require("nnlua.module")[name]) ~= "function" then return nil end
  for _, file in ipairs(method_files) do
    local comment = comment_at("nnlua." .. file, { "^function Module:" .. name .. "%(" })
    if comment then return comment end
  end
end

local function method_text(name)
  local comment = method_comment(name)
  return comment and told(("model:%s: method of models and layers"):format(name), comment)
end

-- Name -> comment of the methods of data sets: those that have one.
local function verbs()
  local list, files = {}, {}
  for _, family in ipairs(families) do files = family[1] == "data" and family[2] or files end
  for name, value in pairs(require("nnlua.data").Dataset) do
    for _, file in ipairs(type(value) == "function" and name:find "^%l" and name ~= "init" and files or {}) do
      list[name] = list[name] or comment_at("nnlua." .. file, { "^function Dataset:" .. name .. "%(" })
    end
  end
  return list
end

-- As member_parts, of a class that is nn.<name>; `module` is the file it stands in.
local function class_parts(name)
  local nn = require "nnlua"
  local module = getmetatable(nn).module_of(name)
  local ok, value = pcall(function() return nn[name] end)
  if not (ok and is_class(value) and module) then return nil end
  local kind = value.isa and value.output_shape and "layer" or "class"
  return { title = ("nn.%s: %s"):format(name, kind), comment = comment_of(module, name) or comment_of(module, value.__name), value = value,
    kind = kind, module = module, options = value.options, aliases = value.aliases }
end

--- Everything that help tells of classes and of the members of families, for pages and editors: the classes under their names, and a list
--- { family =, head =, members = } of the families, each with its members by name. A member is { title =, comment =, value =, kind =, options =,
--- aliases =, module = }. Third, comments of methods: { model = , ds = }, each by name.
function help.catalogue()
  local classes, list = {}, {}
  for name in pairs(require "nnlua") do classes[name] = class_parts(name) end
  for i, family in ipairs(families) do
    local members = {}
    for name in pairs(require("nnlua." .. family[1])) do members[name] = member_parts(family, name) end
    list[i] = { family = family[1], head = head_of("nnlua." .. family[1]), members = members }
  end
  local models = {}
  for name in pairs(require "nnlua.module") do models[name] = name:find "^%l" and method_comment(name) or nil end
  return classes, list, { model = models, ds = verbs() }
end

--- What help says of the rule of an option.
help.rule_text = rule_text

local function names_of(nn)
  local list = {}
  for name in pairs(nn) do list[#list + 1] = name end
  for _, family in ipairs(families) do
    for name in pairs(require("nnlua." .. family[1])) do list[#list + 1] = type(name) == "string" and name or nil end
  end
  table.sort(list)
  return list
end

--- What help prints, as text. `what` is a name ("Dense", "optim.Adam", "conv2d"), a class, or an object of one.
---@param what any
---@return string
function help.text(what)
  local nn = require "nnlua"
  if what == nil then
    return 'nn.help "Dense" tells what a name is and which options it has: layers, operators, losses, optimizers, ... pairs(nn) lists the names.'
  end
  if type(what) == "table" then what = rawget(is_class(what) and what or getmetatable(what) or {}, "__name") end
  if type(what) ~= "string" then options.raise("help: needs a name, a class or an object of one, got " .. options.shown(what)) end
  local family_name, name = what:gsub("^nn%.", ""):match "^(%l+)%.([%w_]+)$"
  name = name or what:gsub("^nn%.", "")
  for _, family in ipairs(families) do
    local parts = family[1] == family_name and member_parts(family, name)
    if parts then return parts_text(parts) end
    if family[1] == name then return told("nn." .. name, head_of("nnlua." .. family[1])) end
  end
  if not family_name then
    local parts = class_parts(name)
    if parts then return parts_text(parts) end
    local op = operators()[name]
    if op then return told(("nn.%s(%s)"):format(name, op.signature), op.doc) end
    local module = getmetatable(nn).module_of(name)
    local ok, value = pcall(function() return nn[name] end)
    if ok and module and not nn.is_tensor(value) then
      return told("nn." .. name, comment_of(module, name) or head_of(module))
    end
    local text = stub_text(name)
    if text then return text end
    for _, family in ipairs(families) do
      parts = member_parts(family, name)
      if parts then return parts_text(parts) end
    end
    text = method_text(name)
    if text then return text end
  end
  options.raise(("help: there is no %q%s"):format(what, options.advice(name, names_of(nn))))
end

return setmetatable(help, { __call = function(_, what) io.stdout:write(help.text(what), "\n") end })
