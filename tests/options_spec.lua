-- lua/nnlua/options.lua: option tables and command lines.
local options = require "nnlua.options"

local spec = {
  units = { "integer", position = 1, required = true, min = 1 },
  activation = { "string|function" },
  bias = { "boolean", default = true },
  mode = { "string", choices = { "valid", "same" }, default = "valid" },
  rate = { "number", min = 0, below = 1 },
}

-- The message of a check that must fail, without its position.
local function message(opts, owner_spec)
  local ok, err = pcall(options.check, "Dense", opts, owner_spec or spec)
  assert.is_false(ok)
  return (err:gsub("^[^:]*:%d+: ", ""))
end

describe("options.check", function()
  it("fills defaults and places, and leaves its argument alone", function()
    local given = { 128, rate = 0 }
    local o = options.check("Dense", given, spec)
    assert.same({ units = 128, bias = true, mode = "valid", rate = 0 }, o)
    assert.same({ 128, rate = 0 }, given)
    assert.equal(128, options.check("Dense", 128, spec).units)
    assert.is_false(options.check("Dense", { 1, bias = false }, spec).bias)
  end)

  it("takes a whole float for an integer and makes it one", function()
    assert.equal("integer", math.type(options.check("Dense", { 3.0 }, spec).units))
    assert.equal('Dense: option "units" must be an integer, got 3.5', message { 3.5 })
    assert.equal('Dense: option "units" must be an integer, got "3"', message { "3" })
  end)

  it("names the valid keys and the nearest one for an unknown key", function()
    assert.equal('Dense: unknown option "activaton"; did you mean "activation"? (valid: units, activation, bias, mode, rate)',
      message { 1, activaton = "relu" })
    assert.equal('Dense: unknown option "zzz" (valid: units, activation, bias, mode, rate)', message { 1, zzz = 1 })
    assert.equal('Dense: unknown option true (valid: units, activation, bias, mode, rate)', message { 1, [true] = 1 })
    assert.equal('Dense: unknown option "x" (it takes none)', message({ x = 1 }, {}))
  end)

  it("tells a missing, doubled, surplus or zeroth value", function()
    assert.equal('Dense: option "units" is missing; it must be an integer', message {})
    assert.equal('Dense: option "units" is missing; it must be an integer', message(nil))
    assert.equal('Dense: option "units" is given twice, by place and by name', message { 1, units = 2 })
    assert.equal("Dense: value 2 has no meaning; the positional part is units", message { 1, 2 })
    assert.equal("Dense: value 1 has no meaning; it takes named options only", message({ 5 }, { x = { "number" } }))
    assert.matches("value 0 has no meaning", message { [0] = 5, 1 })
  end)

  it("checks types, choices and bounds, NaN included", function()
    assert.equal('Dense: option "activation" must be a string or a function, got a table', message { 1, activation = {} })
    assert.equal('Dense: option "mode" must be one of valid, same, got "sane"; did you mean "same"?', message { 1, mode = "sane" })
    assert.equal('Dense: option "units" must be at least 1, got 0', message { 0 })
    assert.equal('Dense: option "rate" must be at least 0 and below 1, got 1', message { 1, rate = 1 })
    assert.matches("must be at least 0 and below 1, got .*nan", message { 1, rate = 0 / 0 })
  end)

  it("collects the rest of the positional part", function()
    local rest = { shape = { "integer", position = 1, rest = true, required = true }, name = { "string" } }
    assert.same({ shape = { 28, 28, 1 }, name = "in" }, options.check("Input", { 28, 28, 1, name = "in" }, rest))
    assert.same({ 5 }, options.check("Input", { shape = 5 }, rest).shape)
    assert.same({ 5, 6 }, options.check("Input", { shape = { 5, 6 } }, rest).shape)
    assert.equal('Dense: shape[2] must be an integer, got "x"', message({ 28, "x" }, rest))
    assert.equal("Dense: shape[2] must be an integer, got nil", message({ 28, nil, 1 }, rest))
  end)

  it("points at the line outside the library", function()
    local ok, err = pcall(function()
      options.check("Dense", { wrong = 1 }, spec) -- the line
    end)
    assert.is_false(ok)
    local line = debug.getinfo(1, "l").currentline - 3
    assert.matches("options_spec%.lua:" .. line .. ": Dense: unknown option", err)
  end)

  it("keeps control characters and long text out of its messages", function()
    assert.is_nil(message({ 1, ["a\nb"] = 1 }):find "\n")
    assert.is_true(#message { 1, mode = ("x"):rep(5000) } < 200)
  end)
end)

describe("options.nearest", function()
  it("finds slips, swaps, other case and parts; not strangers", function()
    local names = { "activation", "units", "learning_rate", "lr" }
    assert.equal("units", options.nearest("unist", names))
    assert.equal("activation", options.nearest("Activation", names))
    assert.equal("learning_rate", options.nearest("rate", names))
    assert.equal("lr", options.nearest("lt", names))
    assert.is_nil(options.nearest("momentum", names))
  end)
end)

describe("options.parse", function()
  local command = {
    about = "Train.",
    { "model", "choice", choices = { "mlp", "cnn" }, default = "mlp", help = "which network" },
    { "epochs", "integer", short = "e", default = 3, min = 1, help = "passes" },
    { "lr", "number" },
    { "save", "string", value = "FILE" },
    { "quiet", "flag" },
    { "bar", "flag", default = true },
    { "input", "string", positional = true },
  }
  local function parse(...) return options.parse({ ... }, command) end
  local function wrong(...)
    local v, err = options.parse({ ... }, command)
    assert.is_nil(v)
    return err
  end

  it("reads every form", function()
    assert.same({ model = "mlp", epochs = 3, quiet = false, bar = true }, parse())
    assert.same({ model = "cnn", epochs = 5, lr = 1e-3, save = "a=b", quiet = true, bar = false, input = "file" },
      parse("--model", "cnn", "-e", "5", "--lr=1e-3", "--save=a=b", "--quiet", "--no-bar", "file"))
    assert.equal("--quiet", parse("--", "--quiet").input)
    assert.equal(-1.0, parse("--lr", "-1").lr)
    assert.equal("", parse("--save=").save)
  end)

  it("answers a mistake in one line", function()
    assert.equal('unknown option "--epoch"; did you mean "--epochs"? (--help lists them)', wrong("--epoch", "3"))
    assert.equal('unknown option "--no-lr" (--help lists them)', (wrong("--no-lr"):gsub("; did you mean [^?]*%?", "")))
    assert.equal("option --epochs needs a value", wrong "--epochs")
    assert.equal("option --save needs a value", wrong("--save", "--quiet"))
    assert.equal("option --quiet takes no value", wrong "--quiet=1")
    assert.equal('option --epochs must be an integer, got "2.5"', wrong("--epochs", "2.5"))
    assert.equal('option --epochs must be at least 1, got 0', wrong("--epochs", "0"))
    assert.equal('option --model must be one of mlp, cnn, got "cmn"; did you mean "cnn"?', wrong("--model", "cmn"))
    assert.equal('unexpected word "b" (--help shows the usage)', wrong("a", "b"))
  end)

  it("demands what is required, but not beside --help", function()
    local strict = { { "data", "string", required = true }, { "file", "string", positional = true, required = true } }
    assert.equal("option --data is missing (--help shows the usage)", select(2, options.parse({}, strict)))
    assert.equal("file is missing (--help shows the usage)", select(2, options.parse({ "--data", "x" }, strict)))
    assert.is_true(options.parse({ "--help" }, strict).help)
  end)

  it("writes the usage from the specification", function()
    local text = options.usage("train.lua", command)
    assert.matches("^usage: nnlua train%.lua %[options%] %[input%]\nTrain%.\n", text)
    assert.matches("\n  %-%-model mlp|cnn +which network %(default mlp%)\n", text)
    assert.matches("\n  %-e, %-%-epochs N +passes %(default 3%)\n", text)
    assert.matches("\n  %-%-save FILE\n", text)
    assert.matches("\n  %-%-help +show this text\n$", text)
  end)
end)
