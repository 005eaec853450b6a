-- The pages about the library, docs/library.md and docs/reference/*.md, and what an editor is told of its classes: for gen_docs.lua, which writes.
--
-- Owns: which page a class stands on, and how a page shows it. All text is help's (nnlua.help), which reads the sources; shapes are of the rows that
-- library_spec.lua runs (tests/golden/); Keras's names are those of its source (tests/golden/keras_defaults.lua).
local nn = ...
local help = nn.help
local sorted = require("nnlua.lists").sorted

local classes, families, methods = help.catalogue()
local reference = {}

-- Pages: file, title, the files of lua/nnlua whose classes stand on it, the families.
local pages = {
  { "layers", "Models and layers", { "models", "model", "module", "layer", "layers.operation", "layers.core", "layers.products", "layers.activation",
    "layers.merge", "layers.shapes" }, {}, methods = "model" },
  { "images", "Layers of windows: convolution, pooling", { "layers.conv", "layers.pooling" }, {} },
  { "sequences", "Layers of sequences: recurrent, attention, embedding", { "layers.recurrent", "layers.cells", "layers.sequence", "layers.embedding",
    "layers.attention", "layers.transformer" }, {} },
  { "norms", "Layers that normalize, wrap, and add noise", { "layers.norm", "layers.wrappers", "layers.noise" }, {} },
  { "preparing", "Layers that prepare and augment data", { "layers.preprocessing", "layers.lookup", "layers.text", "layers.augmentation" }, {} },
  { "weights", "Initializers, regularizers, constraints, activations", {}, { "initializers", "regularizers", "constraints", "activations" } },
  { "losses", "Losses and metrics", {}, { "losses", "metrics" } },
  { "optimizers", "Optimizers and schedules", {}, { "optim", "schedules" } },
  { "training", "Callbacks", {}, { "callbacks" } },
  { "data", "Data sets", {}, { "data", "datasets" }, methods = "ds" },
  { "vision", "Pictures: transforms and files", {}, { "vision" } },
  { "files", "Files of other programs", {}, { "safetensors", "numpy", "torch7", "onnx", "h5" } },
}

-- Does `name` suit `value` better than `other`? A class goes by its own name, a function by its longest (that in full).
local function better(value, name, other)
  if type(value) == "table" then return value.__name == name end
  return #name > #other
end

-- A set of members as a list of { names =, parts = }: a thing that has several names stands once, with the best of them first.
local function entries_of(members)
  local list, by_value = {}, {}
  for _, name in ipairs(sorted(members)) do
    local parts = members[name]
    local entry = by_value[parts.value]
    if entry then
      table.insert(entry.names, name)
      if better(parts.value, name, entry.names[1]) then table.insert(entry.names, 1, table.remove(entry.names)) end
    else
      entry = { names = { name }, parts = parts }
      by_value[parts.value], list[#list + 1] = entry, entry
    end
  end
  table.sort(list, function(a, b) return a.names[1] < b.names[1] end)
  return list
end

-- ---- what the rows of the specs know ---------------------------------------------------------------------------------

local function shape_text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- Class -> { layer's code, shapes in, shapes out, how it is called } of its first row.
local function examples_of(root)
  local found = {}
  local function add(code, inputs, outputs, call)
    local name = code:match "^nn%.(%w+)"
    if not found[name] then found[name] = { code, inputs, outputs, call } end
  end
  for _, c in ipairs(dofile(root .. "tests/golden/layers.lua")) do
    local inputs = {}
    for i, x in ipairs(c.inputs) do inputs[i] = shape_text(x[1]) end
    add(c.layer, inputs, { shape_text(c.output[1]) })
  end
  for _, c in ipairs(dofile(root .. "tests/golden/sequence.lua")) do
    local inputs, outputs = {}, {}
    for _, name in ipairs(sorted(c.inputs)) do inputs[#inputs + 1] = ("%s %s"):format(name, shape_text(c.inputs[name][1])) end
    for i, y in ipairs(c.outputs) do outputs[i] = shape_text(y[1]) end
    if #inputs == 1 then inputs[1] = inputs[1]:match "%(.*" end
    add(c.layer, inputs, outputs, #inputs > 1 and (", as `%s`,"):format(c.call) or nil)
  end
  return found
end

local keras_families = { layer = "layers", class = "layers", optimizer = "optimizers", loss = "losses", metric = "metrics", schedule = "schedules",
  initializer = "initializers", regularizer = "regularizers", constraint = "constraints" }

-- The name in Keras of what has these names here, nil when Keras's list has none.
local function keras_name(keras, entry)
  local list = keras[keras_families[entry.parts.kind] or ""]
  if not list then return nil end
  local value, own = entry.parts.value, nil
  if type(value) == "table" then own = rawget(value, "keras") or value.keras end
  if own and list[own] then return own end
  for _, name in ipairs(entry.names) do
    for other in pairs(list) do
      if other == name or other:gsub("(%l)(%u)", "%1_%2"):lower() == name then return other end
    end
  end
end

-- ---- pages -----------------------------------------------------------------------------------------------------------

-- A comment as Markdown: what is in no code keeps its angle brackets and stars.
local function prose(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do
    if not line:find "^    " then
      local inside = false
      line = line:gsub("[`<*]", function(c)
        if c == "`" then inside = not inside end
        return not inside and c ~= "`" and "\\" .. c or nil
      end)
    end
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n")
end

local function full_name(family, name) return family and ("nn.%s.%s"):format(family, name) or "nn." .. name end

local function options_table(parts)
  local names, also = nn.options.names(parts.options), {}
  if #names == 0 then return nil end
  local out = { "| Option | Type, default |\n|---|---|" }
  for alias, name in pairs(parts.aliases or {}) do also[name] = (also[name] and also[name] .. ", " or "") .. alias end
  for _, name in ipairs(names) do
    local others = also[name] and {} or nil
    for word in (also[name] or ""):gmatch "[%w_]+" do others[#others + 1] = "`" .. word .. "`" end
    if others then table.sort(others) end
    out[#out + 1] = ("| `%s`%s | %s |"):format(name, others and " (" .. table.concat(others, ", ") .. ")" or "",
      (help.rule_text(parts.options[name]):gsub("[|*<_]", "\\%0")))
  end
  return table.concat(out, "\n")
end

local function entry_text(entry, family, keras, examples)
  local out = { ("### %s\n"):format(full_name(family, entry.names[1])) }
  local facts = {}
  if #entry.names > 1 then facts[1] = "Also `" .. table.concat(entry.names, "`, `", 2) .. "`." end
  local theirs = keras_name(keras, entry)
  if theirs then facts[#facts + 1] = ("Keras: `%s`."):format(theirs) end
  if #facts > 0 then out[#out + 1] = table.concat(facts, " ") .. "\n" end
  out[#out + 1] = prose(assert(entry.parts.comment, entry.names[1] .. " has no comment")) .. "\n"
  for _, name in ipairs(family and {} or entry.names) do
    local e = examples[name]
    if e then
      out[#out + 1] = ("Shapes: `%s`%s makes %s of %s.\n"):format(e[1], e[4] or "", table.concat(e[3], ", "), table.concat(e[2], ", "))
      break
    end
  end
  local options = entry.parts.options and options_table(entry.parts)
  if options then out[#out + 1] = options .. "\n" end
  return table.concat(out, "\n")
end

-- Methods of an owner ("model", "ds") as text, in alphabetical order.
local function methods_text(owner)
  local out = { ("## Methods: %s:name()\n"):format(owner) }
  for _, name in ipairs(sorted(methods[owner])) do out[#out + 1] = ("### %s:%s\n\n%s\n"):format(owner, name, prose(methods[owner][name])) end
  return table.concat(out, "\n")
end

-- The sections of a page: { title =, family =, entries = }.
local function sections_of(page)
  local list = {}
  if #page[3] > 0 then
    local members = {}
    for name, parts in pairs(classes) do
      for _, file in ipairs(page[3]) do members[name] = parts.module == "nnlua." .. file and parts or members[name] end
    end
    list[1] = { title = "Classes", entries = entries_of(members) }
  end
  for _, family in ipairs(families) do
    for _, wanted in ipairs(page[4]) do
      if family.family == wanted then
        list[#list + 1] = { title = "nn." .. wanted, family = wanted, head = family.head, entries = entries_of(family.members) }
      end
    end
  end
  return list
end

local function anchor(heading) return (heading:lower():gsub("[^%w%s_-]", "")) end

--- The pages by path: docs/library.md, which lists all names, and docs/reference/*.md.
function reference.pages(root)
  local keras, examples, out, placed = dofile(root .. "tests/golden/keras_defaults.lua"), examples_of(root), {}, {}
  local index = { [[
# The library

Generated by `scripts/gen_docs.lua` from `lua/nnlua`; do not edit. Every class and function by page: what it does, its options with their types,
bounds and defaults, its name in Keras, and for layers a shape that goes in with the one that comes out. `nn.help "Dense"` tells the same in the
terminal. Operators are in [ops.md](ops.md).

Options stand in one table, those with a place first: `nn.Dense{128, activation = "relu"}`. Every layer takes `name`, `trainable`, `dtype` and
`activity_regularizer` besides its own. Shapes are with the batch first; images are (N, H, W, C), sequences (N, T, C).
]] }
  for _, page in ipairs(pages) do
    local path = ("reference/%s.md"):format(page[1])
    local text = { ("# %s\n\nGenerated by `scripts/gen_docs.lua`; do not edit. [All names](../library.md).\n"):format(page[2]) }
    index[#index + 1] = ("## [%s](%s)\n"):format(page[2], path)
    for _, section in ipairs(sections_of(page)) do
      local links = {}
      text[#text + 1] = ("## %s\n"):format(section.title)
      if section.head then text[#text + 1] = prose(section.head) .. "\n" end
      for _, entry in ipairs(section.entries) do
        for _, name in ipairs(entry.names) do placed[section.family and section.family .. "." .. name or name] = true end
        links[#links + 1] = ("[%s](%s#%s)"):format(entry.names[1], path, anchor(full_name(section.family, entry.names[1])))
        text[#text + 1] = entry_text(entry, section.family, keras, examples)
      end
      index[#index + 1] = (section.family and "`nn." .. section.family .. "`: " or "") .. table.concat(links, ",\n") .. "\n"
    end
    if page.methods then
      local links = {}
      for i, name in ipairs(sorted(methods[page.methods])) do links[i] = ("[%s](%s#%s)"):format(name, path, anchor(page.methods .. name)) end
      index[#index + 1] = ("Methods `%s:name()`: %s\n"):format(page.methods, table.concat(links, ",\n"))
      text[#text + 1] = methods_text(page.methods)
    end
    out["docs/" .. path] = table.concat(text, "\n")
  end
  for name in pairs(classes) do assert(placed[name], name .. " stands on no page of scripts/gen_reference.lua") end
  for _, family in ipairs(families) do
    for name in pairs(family.members) do assert(placed[family.family .. "." .. name], name .. " stands on no page of scripts/gen_reference.lua") end
  end
  out["docs/library.md"] = table.concat(index, "\n")
  return out
end

-- ---- editors ---------------------------------------------------------------------------------------------------------

local editor_types = { integer = "integer", number = "number", string = "string", boolean = "boolean", table = "table", ["function"] = "function",
  userdata = "userdata", tensor = "nnlua.Tensor", any = "any" }

-- What an option may be, as an annotation.
local function type_text(rule)
  local words = {}
  for word in rule[1]:gmatch "[^|]+" do
    if word == "string" and rule.choices then
      for _, choice in ipairs(rule.choices) do words[#words + 1] = ('"%s"'):format(choice) end
    else
      words[#words + 1] = assert(editor_types[word], word)
    end
  end
  return table.concat(words, "|")
end

local function fields_text(parts, out)
  for _, name in ipairs(nn.options.names(parts.options)) do
    local rule = parts.options[name]
    local about = help.rule_text(rule)
    if rule.position and not rule.rest then -- by place or by name, so neither is sure to be there
      out[#out + 1] = ("---@field [%d]? %s %s"):format(rule.position, type_text(rule), name)
    elseif rule.rest then
      out[#out + 1] = ("---@field [integer] %s %s"):format(type_text(rule), name)
    end
    out[#out + 1] = ("---@field %s? %s %s"):format(name, rule.rest and "table" or type_text(rule), about)
  end
  for _, alias in ipairs(sorted(parts.aliases or {})) do
    local rule = parts.options[parts.aliases[alias]]
    if rule then out[#out + 1] = ("---@field %s? %s short for %s"):format(alias, type_text(rule), parts.aliases[alias]) end
  end
end

-- The first line of a comment.
local function brief(parts) return (parts.comment or ""):match "^[^\n]*" end

local function layer_like(parts) return parts.kind == "layer" end

local base_of = { callback = "nnlua.Callback", schedule = "nnlua.Schedule", initializer = "nnlua.Initializer" }

-- The class that the stub of a member extends: the one that the sources annotate has its methods.
local function base_text(kind, parts, annotated)
  local own = "nnlua." .. parts.value.__name
  local base = layer_like(parts) and "nnlua.Layer" or own ~= kind and annotated[parts.value.__name] and own or base_of[parts.kind]
  return base and base ~= kind and ": " .. base or ""
end

-- How a class is called: with its options, or the first of them alone.
local function call_text(kind, parts)
  local words, needed = { kind .. ".options" }, false
  for _, rule in pairs(parts.options) do
    if rule.position == 1 then words[#words + 1] = type_text(rule) end
    needed = needed or rule.required
  end
  return ("---@overload fun(options%s: %s): %s"):format(needed and "" or "?", table.concat(words, "|"), kind)
end

local function is_class(value) return type(value) == "table" and rawget(value, "__index") == value end

-- The annotation of one class with its options; `family` nil for what is nn.<name>.
local function class_stub(entry, family, annotated, out)
  local name, parts = entry.names[1], entry.parts
  local kind = "nnlua." .. (family and family .. "." or "") .. name
  if parts.options then
    out[#out + 1] = ("---@class %s.options"):format(kind)
    if layer_like(parts) then
      out[#out + 1] = "---@field name? string\n---@field trainable? boolean\n---@field dtype? string\n---@field activity_regularizer? any"
    end
    fields_text(parts, out)
    out[#out + 1] = ""
  end
  if not is_class(parts.value) then return end
  out[#out + 1] = "--- " .. brief(parts)
  out[#out + 1] = ("---@class %s%s"):format(kind, base_text(kind, parts, annotated))
  if parts.options then out[#out + 1] = call_text(kind, parts) end
  out[#out + 1] = ""
end

--- Name -> the type of nn.<name> in the stubs.
function reference.types()
  local types = {}
  for _, entry in ipairs(entries_of(classes)) do
    for _, name in ipairs(entry.names) do types[name] = "nnlua." .. entry.names[1] end
  end
  for _, family in ipairs(families) do types[family.family] = "nnlua.families." .. family.family end
  return types
end

--- The annotations of classes, options and families, for docs/nnlua.d.lua. `annotated` is the set of the classes that the sources annotate.
function reference.stubs(annotated)
  local out = { "-- ---- Classes of the library: their options\n" }
  for _, entry in ipairs(entries_of(classes)) do
    if entry.parts.options and entry.names[1] ~= "Layer" then class_stub(entry, nil, annotated, out) end
  end
  for _, family in ipairs(families) do
    local list = entries_of(family.members)
    out[#out + 1] = ("-- ---- nn.%s\n"):format(family.family)
    for _, entry in ipairs(list) do class_stub(entry, family.family, annotated, out) end
    out[#out + 1] = ("---@class nnlua.families.%s"):format(family.family)
    for _, entry in ipairs(list) do
      local kind = "nnlua." .. family.family .. "." .. entry.names[1]
      if type(entry.parts.value) == "table" and not is_class(entry.parts.value) then
        kind = "table"
      elseif type(entry.parts.value) ~= "table" then
        kind = family.family == "losses" and ("fun(predictions: nnlua.Tensor, targets: nnlua.Tensor, options?: %s): nnlua.Tensor"):format(
          entry.parts.options and kind .. ".options" or "table")
          or family.family == "activations" and "fun(x: nnlua.Tensor): nnlua.Tensor" or "function"
      end
      for _, name in ipairs(entry.names) do out[#out + 1] = ("---@field %s %s %s"):format(name, kind, brief(entry.parts)) end
    end
    out[#out + 1] = ""
  end
  return table.concat(out, "\n")
end

return reference
