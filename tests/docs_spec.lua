-- README.md, docs/ and scripts/gen_docs.lua: what is written there is true of this tree.
local program = dofile "tests/program.lua"
local core = require "nnlua.core"
require "nnlua" -- adds methods that are written in Lua

local function exists(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

local function blocks(text, language)
  local list = {}
  for code in text:gmatch("\n```" .. language .. "\n(.-)\n```") do list[#list + 1] = code end
  return list
end

describe("README.md", function()
  local text = program.read "README.md"

  it("says what a newcomer needs, in this order", function()
    local at = 0
    for _, heading in ipairs { "# nnlua", "## Two commands", "## An example", "## Where things live", "## How to add an operator",
      "## A training step as data" } do
      local found = text:find("\n" .. heading .. "\n", at, true) or (at == 0 and text:find("^# nnlua\n"))
      assert(found, heading .. " is missing, or not where it belongs")
      at = found
    end
  end)

  it("has an example of at most 20 lines that runs", function()
    local examples = blocks(text, "lua")
    assert.is_true(#examples >= 1)
    assert.is_true(select(2, examples[1]:gsub("\n", "\n")) < 20)
    if not program.path then pending "runs under another Lua" end
    local folder = program.folder()
    for i, code in ipairs(examples) do
      -- A few generated digits in place of MNIST: the same kind of data, and no network.
      local small = 'local N = require "nnlua"; local digits = N.datasets.digits; N.datasets.mnist = function() '
        .. "return digits{ train = 600, test = 200 } end; "
      program.write(folder .. "/example.lua", small .. code .. "\nlocal again = assert(N.load 'mnist.h5')\nprint('end', again ~= nil)\n")
      local out, err, exit = program.run({ "example.lua" }, { cwd = folder })
      assert.same({ 0, "" }, { exit, err }, "example " .. i)
      assert.truthy(out:find "end\ttrue\n$")
      assert.truthy(out:find "epoch 5/5")
    end
    program.remove(folder)
  end)

  it("names files that exist", function()
    local checked = 0
    local function check(path)
      checked = checked + 1
      assert(exists(path), path .. " does not exist")
    end
    for path in text:gmatch "%]%(([^)#]+)%)" do
      if not path:find "^%a+:" then check(path) end
    end
    for path in text:gmatch "`(%l[%w_/]+/[%w_%.]+%.%w+)`" do check(path) end
    for name in text:gmatch "sh (scripts/%w+%.sh)" do check(name) end
    assert.is_true(checked >= 8)
  end)

  it("lists the folders of the tree", function()
    local house = text:match "## Where things live\n(.-)\n## "
    local folders = assert(io.popen "find runtime -mindepth 1 -maxdepth 1 -type d | sort")
    for path in folders:lines() do assert(house:find(path:match "[^/]+$" .. "/", 1, true), path .. " is not in the house") end
    folders:close()
    for _, name in ipairs { "bindings/", "lua/nnlua/", "scripts/", "tests/", "docs/" } do assert.truthy(house:find(name, 1, true)) end
  end)

  it("lists the packages that the build looks for", function()
    local list, cmake = text:match "## Dependencies\n(.-)\n## ", program.read "CMakeLists.txt"
    local names = { ["lua5.4"] = "Lua 5.4", libedit = "libedit", libmd = "libmd", hdf5 = "HDF5", jansson = "jansson", libcurl = "libcurl",
      libjpeg = "libjpeg-turbo", libpng = "libpng" }
    local seen = 0
    for package in cmake:gmatch "pkg_check_modules%(%u+ REQUIRED IMPORTED_TARGET ([%w%.]+)%)" do
      seen = seen + 1
      assert(names[package] and list:find("| " .. names[package] .. " |", 1, true), package .. " has no line in the table of dependencies")
    end
    assert.is_true(seen >= 5)
    for _, name in ipairs { "OpenBLAS", "zlib" } do assert.truthy(list:find("| " .. name .. " |", 1, true)) end
  end)

  it("shows a row of pointwise.def with as many fields as the table's rows", function()
    local row = text:match "NN_PW(%b())"
    local fields = { "name", "TYPE", "signature", "nargs", "doc", "formula", "SAVES" }
    local form = 'NN_PW(name, TYPE, "signature", nargs, "doc", formula, SAVES, gradients...)'
    assert.truthy(program.read("runtime/ops/pointwise.def"):find(form, 1, true))
    local depth, count, quoted = 0, 1, false
    for c in row:sub(2, -2):gmatch "." do
      if c == '"' then quoted = not quoted end
      if not quoted then
        depth = depth + (c == "(" and 1 or c == ")" and -1 or 0)
        if c == "," and depth == 0 then count = count + 1 end
      end
    end
    assert.equal(#fields + 1, count) -- and one gradient
  end)
end)

describe("docs/", function()
  it("holds what scripts/gen_docs.lua writes", function()
    if not program.path then pending "runs under another Lua" end
    local out, err, exit = program.run { "scripts/gen_docs.lua", "--check" }
    assert.same({ "", "", 0 }, { out, err, exit })
  end)

  it("--check notices a stale file", function()
    if not program.path then pending "runs under another Lua" end
    local folder = program.folder()
    assert(os.execute(("cp -r docs lua runtime scripts %s && mkdir %s/tests && cp -r tests/golden %s/tests"):format(program.quote(folder),
      program.quote(folder), program.quote(folder))))
    local page = folder .. "/docs/ops.md"
    program.write(page, (program.read(page):gsub("largest integer not above a", "something else")))
    local script = folder .. "/scripts/gen_docs.lua"
    local _, err, exit = program.run { script, "--check" }
    assert.equal(1, exit)
    assert.truthy(err:find("docs/ops.md", 1, true))
    assert.equal("wrote docs/ops.md\n", (program.run { script }))
    assert.same({ "", "", 0 }, { program.run { script, "--check" } })
    assert.equal(program.read "docs/ops.md", program.read(page))
    local layers = folder .. "/docs/reference/layers.md"
    program.write(layers, (program.read(layers):gsub('"glorot\\_uniform"', '"zeros"')))
    _, err = program.run { script, "--check" }
    assert.truthy(err:find("docs/reference/layers.md", 1, true))
    program.remove(folder)
  end)

  it("the pages of the library hold every class and member, with options, defaults, Keras's name and shapes", function()
    local nn = require "nnlua"
    local text = program.read "docs/library.md"
    for page in text:gmatch "%((reference/%a+%.md)%)" do text = text .. program.read("docs/" .. page) end
    local function told(name)
      return text:find("### " .. name .. "\n", 1, true) or text:find("Also [^\n]*`" .. name:match "[^.]+$" .. "`")
    end
    local count = 0
    for name, value in pairs(nn) do
      if type(value) == "table" and rawget(value, "__index") == value then
        count = count + 1
        assert(told("nn." .. name), "nn." .. name)
      end
    end
    for _, family in ipairs { "optim", "losses", "metrics", "schedules", "callbacks", "initializers", "regularizers", "constraints", "activations",
      "data", "datasets" } do
      for name in pairs(nn[family]) do
        count = count + 1
        assert(name == "get" or told(("nn.%s.%s"):format(family, name)), family .. "." .. name)
      end
    end
    assert.is_true(count > 300)
    local function section(name) return assert(text:match("\n### " .. name:gsub("%p", "%%%0") .. "\n(.-)\n##"), name) end
    local dense = section "nn.Dense"
    for _, part in ipairs { "Keras: `Dense`.", "| `units` | integer, required, at least 1, 1st by place |", "| `use_bias` (`bias`) | boolean, true |",
      '| `kernel_initializer` (`init`) | string or table or function, "glorot\\_uniform" |' } do
      assert(dense:find(part, 1, true), part)
    end
    assert.truthy(section("nn.BatchNorm"):find("Also `BatchNormalization`. Keras: `BatchNormalization`.", 1, true))
    assert.truthy(section("nn.losses.binary_crossentropy"):find("Also `bce`. Keras: `BinaryCrossentropy`.", 1, true))
    assert.truthy(section("nn.optim.Adam"):find("| `beta_1` (`beta1`) | number, 0.9, at least 0, below 1 |", 1, true))
    -- Shapes are what the layers make.
    local shapes = 0
    for code, result, given in text:gmatch "\nShapes: `([^\n]-)` makes %(([%d, ]+)%) of %(([%d, ]+)%)%.\n" do
      local sizes = {}
      for n in given:gmatch "%d+" do sizes[#sizes + 1] = math.tointeger(n) end
      local layer = assert(load("local nn = ... return " .. code))(nn)
      local input = code:find "Embedding" and nn.ones(sizes, "i64") or nn.ones(sizes)
      local ok, y = pcall(layer, input)
      if ok and nn.is_tensor(y) then -- ids, and states of cells, are no rows of ones
        shapes = shapes + 1
        assert.equal(result, table.concat(y:shape(), ", "), code)
      end
    end
    assert.is_true(shapes > 90, shapes)
  end)

  it("editor stubs know the options of classes, and what families hold", function()
    local nn = require "nnlua"
    local text = program.read "docs/nnlua.d.lua"
    local function fields(class)
      local list = {}
      local block = assert(text:match("\n%-%-%-@class " .. class:gsub("%p", "%%%0") .. "\n(.-)\n\n"), class)
      for name in block:gmatch "@field ([%w_]+)%??" do list[name] = true end
      return list
    end
    local checked = 0
    local function check(class, value)
      local known = fields(class .. ".options")
      for name in pairs(value.options) do assert(known[name], class .. "." .. name) end
      for name, option in pairs(value.aliases or {}) do assert(known[name] or not value.options[option], class .. "." .. name) end
      checked = checked + 1
    end
    for name, value in pairs(nn) do
      if type(value) == "table" and rawget(value, "__index") == value and value.options and name ~= "Layer" then
        local class = text:match("\n%-%-%-@field " .. name .. " (nnlua%.%w+)\n")
        check(assert(class, name), value)
      end
    end
    for _, family in ipairs { "optim", "metrics", "schedules", "callbacks", "initializers", "regularizers", "constraints" } do
      local known = fields("nnlua.families." .. family)
      for name, value in pairs(nn[family]) do
        assert(known[name] or name == "get", family .. "." .. name)
        local class = text:match("\n%-%-%-@field " .. name .. " (nnlua%." .. family .. "%.[%w_]+) ")
        if class and value.options then check(class, value) end
      end
    end
    assert.is_true(checked > 220, checked)
  end)

  -- Names that only the library uses.
  local inner = { "pipeline", "sys", "tensor_metatable", "json_array", "json_decode", "json_encode", "json_null", "h5_read", "h5_write",
    "imaging", "h5_foreign", "h5_image", "crc32", "sha256", "sha256_file", "inflate", "file_replace", "elements",
    "next_stream", "record_custom", "trace_start", "trace_stop", "check_finite", "cpu_level",
    "jit_new", "jit_trace", "jit_shape", "jit_verify", "jit_give_up", "jit_stats", "jit_recording", "jit_host", "jit_note", "jit_renewal",
    "jit_metatable", "sgd_renew", "adam_renew" }

  it("editor stubs have every function and method, and no other", function()
    local functions, methods = {}, {}
    for _, file in ipairs { "docs/nnlua.d.lua", "lua/nnlua/core.d.lua" } do
      local text = program.read(file)
      assert(load(text, "=" .. file, "t")) -- it is Lua
      for name in text:gmatch "\nfunction nn%.([%w_]+)" do functions[name] = file end
      for name in text:gmatch "\nfunction Tensor:([%w_]+)" do methods[name] = file end
      for name in text:gmatch "\nTensor%.([%w_]+) =" do methods[name] = file end
    end
    local hidden = {}
    for _, name in ipairs(inner) do hidden[name] = true end
    for name, value in pairs(core) do
      if type(value) == "function" and not hidden[name] then
        assert(functions[name], "nn." .. name .. " is in neither of docs/nnlua.d.lua and lua/nnlua/core.d.lua")
      end
    end
    require "nnlua" -- makes them methods
    for _, op in ipairs(require("nnlua.functional").rows) do -- operators written in Lua
      assert(functions[op.name], "nn." .. op.name .. " is in neither of docs/nnlua.d.lua and lua/nnlua/core.d.lua")
    end
    local nn = require "nnlua"
    for name, file in pairs(functions) do assert(pcall(function() return nn[name] end), "there is no nn." .. name .. " as " .. file .. " says") end
    local real = core.tensor_metatable.methods
    for name in pairs(real) do assert(methods[name], "Tensor:" .. name .. " is in neither of docs/nnlua.d.lua and lua/nnlua/core.d.lua") end
    for name in pairs(methods) do assert(real[name], "there is no Tensor:" .. name .. " as " .. methods[name] .. " says") end
  end)

  it("defaults of the page are the program's", function()
    local page = program.read "docs/ops.md"
    for _, call in ipairs { "flatten(x, from: dim = 1, to: dim = -1)", "sum(x, dim?: dims, keepdim = false)", "softmax(x, dim: dim = -1)",
      'conv2d(x, w, b?, stride: pair = 1, padding: padding = "valid", dilation: pair = 1, groups: integer = 1)',
      'full(shape: integers, value: number, dtype: dtype = "f32")' } do
      assert(page:find("`" .. call .. "`", 1, true), call)
    end
  end)

  it("custom.md shows a layer, a loss, a loop and a callback in at most 15 lines each", function()
    local seen = {} -- doctest_spec.lua runs them
    local text = program.read "docs/custom.md"
    for heading, at in text:gmatch "\n## ([^\n]+)()" do
      local section = text:sub(at, (text:find("\n## ", at, true) or 0) - 1)
      for _, code in ipairs(blocks("\n" .. section .. "\n", "lua")) do
        local lines = select(2, code:gsub("\n", "\n")) + 1
        assert(lines <= 15, ("%s: %d lines"):format(heading, lines))
        assert.truthy(code:find('^local nn = require "nnlua"\n'), heading)
        seen[heading] = (seen[heading] or 0) + 1
      end
    end
    for _, heading in ipairs { "A layer", "A loss", "A loop", "A callback" } do assert.equal(1, seen[heading], heading) end
  end)

  -- The right columns of the tables for users of other libraries: each piece of code runs, with these values for the names in it.
  it("tables side by side hold code that runs", function()
    local nn = require "nnlua"
    local eager, threads, file = nn.eager(), nn.threads(), os.tmpname()
    local function values()
      local net = nn.Sequential { nn.Input { 4 }, nn.Dense { 4, name = "a" }, nn.Dense { 2, name = "name" } }
      local w, input = nn.parameter { 1, 2 }, nn.Input { 4 }
      net:compile { optimizer = "sgd", loss = "mse" }
      assert(net:save(file))
      local ds, opt = nn.data.range(20), nn.optim.SGD { { w } }
      return {
        nn = nn, x = nn.rand(4, 4, 4), y = nn.rand(4, 4, 4):requires_grad(true) + 0, dy = nn.ones(4, 4, 4), t = nn.ones(2),
        a = nn.rand(4, 4) + nn.eye(4) * 4, b = nn.rand(4, 4), c = nn.rand(4, 4):gt(0.5), ids = nn.tensor { 1, 3, 2, 4 },
        m = nn.rand(4, 4, 4):gt(0.5), mask = nn.rand(4, 4, 4):gt(0.5),
        net = net, model = net, layer = nn.Dense { 2 }, self = nn.Dense { 2 }, L = nn.class("L", nn.Layer), shape = { 2 }, initializer = "zeros",
        w = w, params = { w }, loss = w:sum(), optimizer = opt, opt = opt, list = net:get_weights(), scores = nn.rand(4, 4), device = "cpu", f = file,
        fn = function(t) return t end, cell = nn.SimpleRNNCell { 3 }, i = input, o = nn.Dense { 2 }(input), ds = ds, state = ds:state(),
      }
    end
    local rows = nn.rand(4, 4)
    local other = { -- where a name stands for something else
      ["model:train_on_batch(x, y)"] = { x = rows, y = nn.rand(4, 2) }, ["model:predict(x):argmax(-1)"] = { x = rows }, ["net(x)"] = { x = rows },
      ["nn.one_hot(y, 10)"] = { y = nn.tensor { 1, 10 } }, ["nn.Lambda{f}"] = { f = nn.exp }, ["x:item()"] = { x = nn.tensor(1) },
      ["nn.grad(y, x)"] = { y = "sum" }, ["x:gather(2, ids)"] = { ids = nn.ones({ 4, 1, 4 }, "i64") },
      ["nn.Sequential{ a, b }"] = { a = nn.Dense { 2 }, b = nn.Dense { 3 } },
    }
    local words = { ["repeat"] = true, ["adapt(x)"] = true, ["? name"] = true } -- no code
    local ran, stdout = 0, io.stdout
    local function run(page, code)
      if words[code] or code:find "vulkan" then return end
      local env = values()
      for name, value in pairs(other[code] or {}) do env[name] = value end
      if env.y == "sum" then
        env.x = env.x:requires_grad(true)
        env.y = env.x:sum()
      end
      local text = code:gsub("%.%.%.", ""):gsub('"model.svg"', ("%q"):format(file .. ".svg")):gsub("do$", "do break end")
        :gsub("inputs = ,", "inputs = i,"):gsub("outputs = }", "outputs = o }"):gsub("ward = ", "ward = nn.exp")
      local f = load("return " .. text, "=" .. code, "t", setmetatable(env, { __index = _G })) or assert(load(text, "=" .. code, "t", env))
      io.stdout = { write = function() end, flush = function() end } -- luacheck: ignore
      local ok, message = pcall(f)
      io.stdout = stdout -- luacheck: ignore
      nn.policy "float32"
      assert(ok, ("docs/%s.md: `%s`: %s"):format(page, code, message))
      ran = ran + 1
    end
    for _, page in ipairs { "keras", "pytorch", "torch7" } do
      for line in program.read("docs/" .. page .. ".md"):gmatch "\n(| [^\n]*)" do
        for code in line:match "^| .- | (.*) |$":gmatch "`([^`]+)`" do run(page, code) end
      end
    end
    nn.eager(eager)
    nn.threads(threads)
    os.remove(file)
    os.remove(file .. ".svg")
    assert.is_true(ran > 180, ran)
  end)

  it("pages link to what exists, and to headings that are there", function()
    local checked = 0
    local list = assert(io.popen "ls docs/*.md docs/reference/*.md")
    for page in list:lines() do
      for path, anchor in program.read(page):gmatch "%]%(([^)#%s]*)#?([^)%s]*)%)" do
        if not path:find "^%a+:" then
          checked = checked + 1
          local file = path == "" and page or page:match "^.*/" .. path
          assert(exists(file), page .. ": " .. path .. " does not exist")
          if anchor ~= "" then
            local found = false
            for heading in ("\n" .. program.read(file)):gmatch "\n#+ ([^\n]+)" do
              found = found or heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-") == anchor
            end
            assert(found, ("%s: %s has no heading #%s"):format(page, file, anchor))
          end
        end
      end
    end
    list:close()
    assert.is_true(checked >= 30)
  end)

  it("the picture is well-formed", function()
    local svg = program.read "docs/step.svg"
    local open = {}
    for close, name, rest in svg:gsub("<!%-%-.-%-%->", ""):gmatch "<(/?)(%a+)([^>]*)>" do
      if close == "/" then
        assert.equal(name, table.remove(open))
      elseif rest:sub(-1) ~= "/" then
        open[#open + 1] = name
      end
    end
    assert.equal(0, #open)
  end)
end)
