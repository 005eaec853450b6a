-- lua/nnlua/help.lua, and `? name` in the REPL.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")
local repl = require "nnlua.repl"

local function has(name, ...)
  local text = nn.help.text(name)
  for _, part in ipairs { ... } do assert(text:find(part, 1, true), ("%q is not in\n%s"):format(part, text)) end
end

describe("nn.help", function()
  it("tells what a layer is, its options and defaults", function()
    has("Dense", "nn.Dense: layer", "activation(x @ kernel + bias)", "units               integer, required, at least 1, 1st by place",
      'kernel_initializer  string or table or function, "glorot_uniform"', "init is kernel_initializer")
    has("nn.Conv3D", "nn.Conv3D: layer", "padding is \"valid\", \"same\"", "groups", "integer, 1, at least 1")
    has(nn.Dropout, "nn.Dropout: layer", "noise_shape")
    has(nn.Dropout { 0.5 }, "nn.Dropout: layer")
    has("BatchNormalization", "running averages", "momentum")
  end)
  it("tells of members of families, with and without the family's name", function()
    has("optim.Adam", "nn.optim.Adam: optimizer", "Kingma", "beta_1", "number, 0.9")
    has("Muon", "nn.optim.Muon: optimizer")
    has("huber", "nn.losses.huber: loss", "Squares for small errors", "delta          number, 1, above 0")
    has("triplet", "batch hard")
    has("cosine", "nn.losses.cosine: loss")
    has("schedules.cosine", "nn.schedules.cosine: schedule", "half a cosine")
    has("EarlyStopping", "nn.callbacks.EarlyStopping: callback", "patience")
    has("AUC", "nn.metrics.AUC: metric", "num_thresholds")
    has("losses", "Shapes must fit exactly")
  end)
  it("tells of methods of models", function()
    has("fit", "model:fit: method of models and layers", "steps_per_epoch", "class_weight")
    has("compile", "weighted_metrics")
    has("predict", "mc_dropout")
    has("freeze", "Stop training these parameters")
    has("summary", "model:summary")
  end)
  it("tells of operators and functions", function()
    has("relu", "nn.relu(T a)", "max(a, 0)")
    has("conv1d", "nn.conv1d(T x, T w", "convolution of x (N,L,C)")
    has("einsum", "Einstein's summation", "--> 2.0")
  end)
  it("has something to say about every layer", function()
    for name, c in pairs(nn) do
      if type(c) == "table" and rawget(c, "__index") == c and c.output_shape and name ~= "Layer" then
        local text = nn.help.text(name)
        assert(text:find "^[^\n]*\n\n%S" and not text:find "^[^\n]*\n\noptions", name .. " has no doc comment:\n" .. text)
      end
    end
  end)
  it("has something to say about every function of the core", function()
    has("scope", "nn.scope(", "<close>")
    has("no_grad", "nn.no_grad(")
    has("backward", "x:backward(cotangent, options)")
    local checked = 0
    local path = package.searchpath("nnlua.help", package.path):gsub("help%.lua$", "core.d.lua")
    for line in io.lines(path) do
      local name = line:match "^function %a+[.:]([%w_]+)%(" -- docs_spec.lua holds these names to the program's
      if name then
        checked = checked + 1
        assert(nn.help.text(name):find "^[^\n]*\n\n%S", name .. " has no text")
      end
    end
    assert.is_true(checked > 40, checked)
  end)
  it("names what is near", function()
    assert(support.message(nn.help.text, "Dens"):find('help: there is no "Dens"; did you mean "Dense"?', 1, true))
    assert(support.message(nn.help.text, 3):find("needs a name", 1, true))
    has(nil, 'nn.help "Dense"')
  end)
end)

describe("? name", function()
  local function printed(line)
    local chunk, expression = repl.compile(line, repl.environment())
    assert.equal("function", type(chunk))
    assert.is_true(expression)
    local out, stdout = {}, io.stdout
    io.stdout = { write = function(_, ...) -- luacheck: ignore
      for _, s in ipairs { ... } do out[#out + 1] = s end
    end }
    local ok, message = pcall(chunk, function(...) return ... end)
    io.stdout = stdout -- luacheck: ignore
    assert(ok, message)
    return table.concat(out)
  end
  it("is help", function()
    assert.equal(nn.help.text "LeakyReLU" .. "\n", printed "? LeakyReLU")
    assert.equal(nn.help.text "optim.Adam" .. "\n", printed " ?optim.Adam ")
    assert.equal(nn.help.text() .. "\n", printed "?")
  end)
end)
