-- lua/nnlua/symbolic.lua, model.lua, summary.lua, and what training.lua, checkpoint.lua, keras.lua do with several inputs and outputs.
local nn = require "nnlua"
local core = require "nnlua.core"
local support = dofile "tests/support.lua"
local close, message = support.close, support.message

local function has(text, part) assert.truthy(text:find(part, 1, true), ("%q is not in %q"):format(part, text)) end

-- Two inputs, a layer called twice, a nested model, two outputs.
local function two()
  local a, b = nn.Input { 6, name = "a" }, nn.Input { 6, name = "b" }
  local shared = nn.Dense { 5, activation = "tanh", name = "shared" }
  local inner = nn.Sequential { nn.Input { 5 }, nn.Dense { 4, activation = "relu" }, nn.BatchNorm {}, name = "inner" }
  local h = nn.Concatenate { name = "both" } { shared(a), inner(shared(b)) }
  return nn.Model { inputs = { a, b }, outputs = { nn.Dense { 3, name = "kind" }(h), nn.Dense { 1, name = "price" }(nn.Dropout { 0.3 }(h)) },
    name = "two" }
end

local function compiled(model)
  return model:compile { optimizer = nn.optim.Adam { lr = 0.01 }, loss = { kind = { "sparse_categorical_crossentropy", from_logits = true },
    price = "mse" }, loss_weights = { price = 0.25 }, metrics = { kind = "accuracy", price = { "mae" } } }
end

local function data(n)
  nn.seed(7)
  return nn.randn(n, 6), nn.randn(n, 6), nn.randint(1, 4, { n }), nn.randn(n, 1)
end

-- tanh or relu of x @ w + b in doubles, of nested tables.
local function dense(x, layer, f)
  local w, b, out = layer.kernel:totable(), layer.bias:totable(), {}
  for i, row in ipairs(x) do
    out[i] = {}
    for j = 1, #b do
      local sum = b[j]
      for k = 1, #row do sum = sum + row[k] * w[k][j] end
      out[i][j] = f and f(sum) or sum
    end
  end
  return out
end
local function tanh(v) return 1 - 2 / (math.exp(2 * v) + 1) end

describe("symbolic tensors", function()
  it("know shape and dtype, and nothing of values", function()
    local a = nn.Input { 28, 28, 1 }
    local h = nn.Conv2D { 8, 3, strides = 2 }(a)
    assert.same({ -1, 13, 13, 8 }, h:shape())
    assert.equal(4, h:dim())
    assert.equal(8, h:size(-1))
    assert.equal("f32", h:dtype())
    assert.equal("SymbolicTensor(N, 13, 13, 8) f32 of Conv2D", tostring(h))
    assert.equal("i64", nn.Input { 5, dtype = "i64" }.dtype)
    assert.equal("i64", nn.Flatten {}(nn.Input { 5, dtype = "i64" }):dtype())
    has(message(function() return h:item() end), "item: a symbolic tensor has no values; make nn.Model{")
    has(message(function() return h:size(5) end), "there is no dim 5")
  end)

  it("leave a layer in the mode in which it was, and its averages alone", function()
    local norm = nn.BatchNorm {}
    norm(nn.Input { 3 })
    assert.is_true(norm.training)
    assert.same({ 0, 0, 0 }, norm.moving_mean:totable())
    norm:eval()
    norm(nn.Input { 3 })
    assert.is_false(norm.training)
  end)

  it("infer through layers of the user's that say nothing about shapes", function()
    local Twice = nn.class("Twice", nn.Module)
    function Twice:init() self.fc = nn.Dense { 3 } end
    function Twice:forward(x) return core.cat({ self.fc(x), x }, -1), x:sum(-1) end
    local y, z = Twice()(nn.Input { 4 })
    assert.same({ 7 }, y.sample)
    assert.same({}, z.sample)
    assert.equal(7, nn.Model { inputs = y.node.symbols[1], outputs = { y, z } }(nn.ones(2, 4)):size(2))
  end)

  it("leave sizes open that vary from batch to batch", function()
    local a = nn.Input { -1, 4 }
    local h = nn.GlobalAveragePooling1D {}(nn.Dense { 6 }(a))
    assert.same({ -1, -1, 6 }, h.node.symbols[1]:shape())
    assert.same({ 6 }, h.sample)
    local model = nn.Model { inputs = a, outputs = h }
    assert.same({ 3, 6 }, model(nn.ones(3, 9, 4)):shape())
    assert.same({ 3, 6 }, model(nn.ones(3, 2, 4)):shape())
    has(message(nn.Input, { 0 }), "shape[1] must be at least 1, or -1")
  end)

  it("compute with operators and methods as tensors do", function()
    local a, b = nn.Input { 4 }, nn.Input { 4 }
    local x, y = nn.tensor { { 1, 2, 3, 4 } }, nn.tensor { { 2, 5, 7, 9 } }
    local cases = {
      { a + b, { 3, 7, 10, 13 } }, { a - b, { -1, -3, -4, -5 } }, { a * b, { 2, 10, 21, 36 } }, { b / a, { 2, 2.5, 7 / 3, 2.25 } },
      { a + 1, { 2, 3, 4, 5 } }, { 1 + a, { 2, 3, 4, 5 } }, { a - 1, { 0, 1, 2, 3 } }, { 1 - a, { 0, -1, -2, -3 } }, { a * 3, { 3, 6, 9, 12 } },
      { 3 * a, { 3, 6, 9, 12 } }, { a / 2, { 0.5, 1, 1.5, 2 } }, { 12 / a, { 12, 6, 4, 3 } }, { -a, { -1, -2, -3, -4 } }, { a ^ 2, { 1, 4, 9, 16 } },
      { nn.Dropout { 0.5 }(a):sqrt(), { 1, math.sqrt(2), math.sqrt(3), 2 } }, { (a + b):reshape { -1, 2, 2 }:sum(2), { 13, 20 } },
      { (a * 1):clamp(2, 3), { 2, 2, 3, 3 } },
    }
    for i, case in ipairs(cases) do
      local model = nn.Model { inputs = { a, b }, outputs = case[1] }:eval()
      close(case[2], model(x, y), 1e-6, "case " .. i)
      local again = nn.Model.from_config(nn.Model, model:config()):eval()
      close(case[2], again(x, y), 1e-6, "case " .. i .. " from its configuration")
    end
  end)

  it("say what they cannot do", function()
    local a = nn.Dense { 4 }(nn.Input { 4 })
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() return a + "x" end)
    has(err, "functional_models_spec.lua:" .. line .. ": add: a symbolic tensor and \"x\" do not go together")
    has(message(function() return a:sum() end), "sum: its result is a scalar for 7 samples: it has not the batch in front")
    has(message(function() return a:reshpe { 1 } end), "a symbolic tensor has no reshpe; did you mean \"reshape\"?")
    has(message(function() return nn.Add {} { a, nn.ones(2, 4) } end), "Add: a tensor and a symbolic tensor in one call")
    has(message(function() return nn.Conv2D { 3, 3 }(a) end), "Conv2D: needs images (N, H, W, C), got samples of shape 4")
    has(message(function() return nn.Concatenate {} { a, nn.Input { 2, 2 } } end),
      "Concatenate: the sizes must be equal but along axis -1, got samples of shapes 4 and 2x2")
    has(message(nn.Subtract {}, { a, a, a }), "Subtract: takes 2 tensors, got 3")
    has(message(nn.Operation, { "os.execute" }), "tensors have no operator")
  end)
end)

describe("nn.Model", function()
  it("computes what its layers compute, in doubles", function()
    nn.seed(3)
    local model = two():eval()
    local xa, xb = data(4)
    local kind, price = model(xa, xb)
    local shared, inner = model:layer "shared", model:layer "inner"
    local left, right = dense(xa:totable(), shared, tanh), dense(xb:totable(), shared, tanh)
    right = dense(right, inner[2], function(v) return math.max(v, 0) end)
    for i, row in ipairs(right) do
      for _, v in ipairs(row) do table.insert(left[i], v / math.sqrt(1 + 1e-3)) end -- fresh averages: mean 0, variance 1
    end
    close(dense(left, model:layer "kind"), kind, 1e-5)
    close(dense(left, model:layer "price"), price, 1e-5)
  end)

  it("has a shared layer once, with gradients from both calls", function()
    local a, b = nn.Input { 2 }, nn.Input { 2 }
    local layer = nn.Dense { 1, use_bias = false }
    local model = nn.Model { inputs = { a, b }, outputs = layer(a) + layer(b) }
    assert.equal(1, #model:parameters())
    model(nn.tensor { { 1, 2 } }, nn.tensor { { 10, 20 } }):sum():backward()
    close({ { 11 }, { 22 } }, layer.kernel:grad())
  end)

  it("takes inputs in order, as a list or by name, and says what is wrong with them", function()
    local model = two():eval()
    local x, y = data(3)
    local want = model(x, y):totable()
    assert.same(want, model({ x, y }):totable())
    assert.same(want, model({ b = y, a = x }):totable())
    has(message(model, x), "two: takes 2 inputs (a, b), got 1")
    has(message(model, { a = x }), "two: the input \"b\" is missing (inputs: a, b)")
    has(message(model, { a = x, bb = y }), "two: there is no input \"bb\"; did you mean \"b\"?")
    has(message(model, x, nn.ones(3, 5)), "two/b: the model takes batches (N, 6), got a tensor of shape (3, 5)")
    has(message(model, x, nn.ones(2, 6)), "the input \"b\" has 2 samples, \"a\" has 3")
    has(message(model, x, 5), "two: the input \"b\" must be a tensor, got 5")
  end)

  it("says what is wrong with a graph", function()
    local a, b = nn.Input { 2 }, nn.Input { 2, name = "b" }
    has(message(nn.Model, { inputs = a, outputs = nn.Dense { 1 }(a) + nn.Dense { 1 }(b) }), "output 1 needs the input b of shape (N, 2), which")
    has(message(nn.Model, { inputs = a, outputs = {} }), "outputs must not be empty")
    has(message(nn.Model, { inputs = a, outputs = nn.Dense { 1 } }), "outputs must be a symbolic tensor or a table of them")
    has(message(nn.Model, { inputs = a, outputs = { 5 } }), "outputs[1] must be a symbolic tensor, got 5")
    has(message(nn.Model, { input = a, outputs = nn.Dense { 1 }(a) }), "unknown option \"input\"; did you mean \"inputs\"?")
    has(message(nn.Model, { inputs = { a, a }, outputs = nn.Dense { 1 }(a) }), "input 2 is given twice")
    local y = nn.Dense { 1, name = "same" }(nn.Dense { 1, name = "same" }(a))
    has(message(nn.Model, { inputs = a, outputs = y }), "two layers have the name \"same\"; give one of them another")
  end)

  it("names layers as they were called, and finds them", function()
    local a = nn.Input { 8, 8, 1 }
    local h = nn.MaxPooling2D {}(nn.Conv2D { 2, 3 }(a))
    local model = nn.Model { inputs = a, outputs = nn.Dense { 1 }(nn.Dense { 2 }(nn.Flatten {}(h))) }
    local names = {}
    for i, layer in ipairs(model.layers) do names[i] = layer.name end
    assert.same({ "input", "conv2d", "max_pooling2d", "flatten", "dense", "dense_1" }, names)
    assert.equal(model.layers[2], model:layer "conv2d")
    assert.equal(model.layers[6], model:layer(-1))
    local Net = nn.class("Net", nn.Module)
    function Net:init() self.body = model end
    assert.equal(model.layers[2], Net():layer "body.conv2d")
    has(message(model.layer, model, "convd2"), "there is no layer \"convd2\"; did you mean \"conv2d\"?")
  end)

  it("orders layers by their way to the outputs, as Keras does", function()
    local model, names = two(), {}
    for i, layer in ipairs(model.layers) do names[i] = layer.name end
    -- the longest way of a and b is 5 calls (shared counts as its longest, though a's is shorter); equals as met from the first output
    assert.same({ "a", "b", "shared", "inner", "both", "dropout", "kind", "price" }, names)
    -- what Keras 3.16's map_graph says of this graph
    local x, y = nn.Input { 3, name = "x" }, nn.Input { 3, name = "y" }
    local f, g, h = nn.Dense { 3, name = "f" }, nn.Dense { 3, name = "g" }, nn.Dense { 3, name = "h" }
    local p = nn.Add { name = "p" } { f(y), g(f(x)) }
    local q = nn.Concatenate { name = "q" } { h(p), x, nn.Dense { 2, name = "side" }(y) }
    model, names = nn.Model { inputs = { x, y }, outputs = { nn.Dense { 1, name = "late" }(q), h(g(y)), nn.Dense { 1, name = "early" }(p) } }, {}
    for i, layer in ipairs(model.layers) do names[i] = layer.name end
    assert.same({ "y", "x", "f", "g", "p", "h", "side", "q", "late", "early" }, names)
  end)

  it("gives what is inside it: features, with the same weights", function()
    local seq = nn.Sequential { nn.Input { 4 }, nn.Dense { 3, activation = "relu", name = "code" }, nn.Dense { 2 } }
    local features = nn.Model { inputs = seq.inputs, outputs = seq:layer("code").output }
    local x = nn.tensor { { 1, -2, 3, 4 } }
    assert.same(seq[2](x):totable(), features(x):totable())
    assert.equal(seq[2].kernel, features:layer("code").kernel)
    local model = two():eval()
    local both = nn.Model { inputs = model.inputs, outputs = { model:layer("both").output, model.outputs[1] } }:eval()
    local xa, xb = data(2)
    local h, kind = both(xa, xb)
    assert.same({ 2, 9 }, h:shape())
    assert.same(model(xa, xb):totable(), kind:totable())
    local head = nn.Model { inputs = model:layer("both").output, outputs = model.outputs }:eval() -- from the middle
    assert.same(kind:totable(), head(h):totable())
  end)

  it("can be a layer of another model", function()
    local model = two():eval()
    local x = nn.Input { 6 }
    local kind, price = model(x, x)
    local outer = nn.Model { inputs = x, outputs = { price, kind:softmax() } }:eval()
    local xa = data(3)
    local p, k = outer(xa)
    local k0, p0 = model(xa, xa)
    assert.same(p0:totable(), p:totable())
    assert.same(k0:softmax():totable(), k:totable())
    assert.same({ "two", "two_1" }, { "two", nn.Model { inputs = x, outputs = { price, kind } }.output_names[2] })
    has(message(outer, nn.ones(2, 5)), "the model takes batches (N, 6)")
    local again = nn.Model.from_config(nn.Model, outer:config()):set_weights(outer:get_weights()):eval()
    assert.same(p:totable(), again(xa):totable())
  end)
end)

describe("parts of models", function()
  it("are frozen from one layer to another", function()
    local model = nn.Sequential { nn.Input { 4 }, nn.Dense { 3 }, nn.Dense { 3 }, nn.Dense { 2 } }
    local function trained()
      local list = {}
      for i, w in ipairs(model:named_parameters()) do list[i] = w.tensor:requires_grad() and 1 or 0 end
      return table.concat(list)
    end
    assert.equal("000011", model:freeze { to = "dense_1" } and trained())
    assert.equal("001111", model:unfreeze { from = "dense_1" } and trained())
    assert.equal("111111", model:unfreeze() and trained())
    assert.equal("111100", model:freeze { from = -1 } and trained())
    has(message(model.freeze, model, { from = "dense_7" }), "freeze: there is no layer \"dense_7\"; did you mean")
    has(message(model.freeze, model, { form = 1 }), "unknown option \"form\"; did you mean \"from\"?")
    has(message(model.freeze, model, { from = 3, to = 2 }), "layer dense_1 comes after layer dense")
  end)

  it("are copied with weights of their own", function()
    local layer = nn.Dense { 3, activation = "relu", name = "first", kernel_constraint = "non_neg" }
    layer:build_once { 4 }
    local copy = layer:copy { name = "second" }
    assert.equal("second", copy.name)
    assert.same(layer.kernel:totable(), copy.kernel:totable())
    assert.truthy(nn.Module.constraint_of(copy.kernel))
    copy.kernel:assign(nn.zeros(4, 3))
    assert.is_true(layer.kernel:abs():sum():item() > 0)
    assert.is_true(copy.kernel:requires_grad())
    has(message(layer.copy, layer, { nam = "x" }), "unknown option \"nam\"; did you mean \"name\"?")
    for _, model in ipairs { two():eval(), nn.Sequential { nn.Input { 6 }, nn.Dense { 3 }, nn.Dense { 2 } }:eval() } do
      local other = model:copy()
      local xa, xb = data(3)
      local given = model.call_list and #model.inputs == 2 and { xa, xb } or xa
      local before = model(given):totable()
      assert.same(before, other(given):totable())
      for _, p in ipairs(other:parameters()) do p:assign(p * 0) end
      assert.same(before, model(given):totable())
      assert.equal(#model:weights(), #other:weights())
      local features = nn.Model { inputs = other.inputs, outputs = other:layer(-1).output }:eval()
      assert.same(0, features(given):abs():sum():item())
    end
  end)

  it("give and take their weights as lists", function()
    local layer = nn.Dense { 2 }
    layer:build_once { 2 }
    layer:set_weights { { { 1, 2 }, { 3, 4 } }, { 5, 6 } }
    assert.same({ { { 1, 2 }, { 3, 4 } }, { 5, 6 } }, { layer:get_weights()[1]:totable(), layer:get_weights()[2]:totable() })
    has(message(layer.set_weights, layer, { { 1 } }), "Dense has 2 weights, got 1")
    has(message(layer.set_weights, layer, { { { 1, 2, 3 } }, { 5, 6 } }), "set_weights: kernel is 2x2, got 1x3")
    assert.equal(4, layer.kernel[2][2]:item())
  end)
end)

describe("training of several inputs and outputs", function()
  it("adds up weighted losses and measures each output", function()
    local model = compiled(two())
    local xa, xb, kind, price = data(8)
    local loss, m = model:evaluate({ xa, xb }, { kind, price })
    local k, p = model:eval()(xa, xb)
    local lk = nn.losses.cross_entropy(k, kind):item()
    local lp, mae = (p - price):square():mean():item(), (p - price):abs():mean():item()
    close({ lk + 0.25 * lp, lk, lp, mae, nn.metrics.accuracy(k, kind):item() },
      { loss, m.kind_loss, m.price_loss, m.price_mae, m.kind_accuracy }, 1e-5)
    local names = {}
    for name in pairs(m) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "kind_accuracy", "kind_loss", "loss", "price_loss", "price_mae" }, names)
  end)

  it("takes lists, tables by name, data sets of flat elements, and of tables", function()
    local xa, xb, kind, price = data(10)
    local results = {}
    local tables = {} -- an iterable of the user's
    function tables.iter()
      local done = false
      return function()
        if done then return nil end
        done = true
        return { a = xa, b = xb }, { price = price, kind = kind }
      end
    end
    local lists = nn.data.from_tensors { xa, xb, kind, price }
    for i, given in ipairs { { { xa, xb }, { kind, price } }, { { b = xb, a = xa }, { kind = kind, price = price } }, { lists:batch(10) },
      { tables } } do
      nn.seed(5)
      local model = compiled(two())
      local history = model:fit { given[1], given[2], epochs = 2, batch_size = 10, shuffle = false, verbose = 0,
        validation = i <= 2 and { given[1], given[2] } or given[1] }
      results[i] = { history.loss, history.val_loss, history.val_kind_accuracy }
      local k, p = model:predict(given[1])
      assert.same({ 10, 3 }, k:shape())
      assert.same({ 10, 1 }, p:shape())
    end
    for i = 2, #results do assert.same(results[1], results[i]) end
  end)

  it("learns", function()
    nn.seed(2)
    local xa, xb = data(64)
    local kind, price = core.where(xa[{ {}, 1 }]:gt(0), nn.full({ 64 }, 1), nn.full({ 64 }, 2)), (xa - xb):sum(-1, true)
    local model = compiled(two())
    local history = model:fit { { xa, xb }, { kind:long(), price }, epochs = 40, batch_size = 16, verbose = 0 }
    assert.is_true(history.loss[40] < history.loss[1] / 2)
    assert.is_true(history.kind_accuracy[40] > 0.9)
  end)

  it("takes one loss for all, lists, and none for an output", function()
    local xa, xb, kind, price = data(4)
    local model = two()
    model:compile { loss = { false, "mse" }, metrics = { {}, "mae" } }
    local _, m = model:train_on_batch({ xa, xb }, { price = price })
    assert.is_nil(m.kind_loss)
    assert.is_true(m.loss == m.price_loss and m.price_mae > 0)
    model:compile { loss = "mse", loss_weights = { 2, 0 } }
    _, m = model:test_on_batch({ xa, xb }, { nn.zeros(4, 3), price })
    close(2 * m.kind_loss, m.loss, 1e-6)
    model:compile { loss = { kind = "sparse_categorical_crossentropy", price = "mse" }, from_logits = { kind = true } }
    _, m = model:test_on_batch({ xa, xb }, { kind, price })
    close(nn.losses.cross_entropy((model:predict { xa, xb }), kind):item(), m.kind_loss, 1e-5)
  end)

  it("works for a module of the user's that names its outputs", function()
    local Net = nn.class("Net", nn.Module)
    function Net:init() self.one, self.two, self.output_names = nn.Dense { 1 }, nn.Dense { 2 }, { "one", "two" } end
    function Net:forward(x) return self.one(x), self.two(x) end
    local net = Net()
    net:compile { loss = { one = "mse", two = "mae" } }
    local history = net:fit { nn.ones(6, 3), { nn.ones(6, 1), nn.ones(6, 2) }, epochs = 2, verbose = 0 }
    assert.is_true(history.one_loss[2] < history.one_loss[1] and history.two_loss[2] < history.two_loss[1])
  end)

  it("takes a model of one input and output as any other", function()
    local a = nn.Input { 6 }
    local model = nn.Model { inputs = a, outputs = nn.Dense { 1, name = "y" }(a) }
    model:compile { loss = "mse", metrics = { "mae" } }
    local x, _, _, y = data(6)
    local loss, m = model:evaluate(x, y)
    assert.equal(loss, (model:evaluate { x, y }))
    assert.equal(loss, (model:evaluate({ input = x }, { y = y })))
    assert.equal(loss, (model:test_on_batch(x, { y = y })))
    assert.is_true(m.mae > 0)
  end)

  it("says what is wrong, naming what is near", function()
    local model = two()
    local xa, xb, kind, price = data(4)
    has(message(model.compile, model, { loss = { kind = "mse", prize = "mse" } }), "loss: there is no output \"prize\"; did you mean \"price\"?")
    has(message(model.compile, model, { loss = { "mse" } }), "loss: a list needs one for each output (kind, price), got 1")
    has(message(model.compile, model, { loss = "mse", loss_weigths = {} }), "unknown option \"loss_weigths\"; did you mean \"loss_weights\"?")
    has(message(model.compile, model, { loss = "mse", metrics = { knd = "mae" } }), "metrics: there is no output \"knd\"; did you mean \"kind\"?")
    has(message(model.compile, model, { loss = "mse", loss_weights = { kind = "x" } }), "loss_weights must be numbers")
    has(message(model.compile, model, { loss = { false, false } }), "no output has a loss")
    compiled(model)
    has(message(model.fit, model, { { xa }, { kind, price } }), "fit: the input \"b\" must be a tensor, got nil")
    has(message(model.fit, model, { { xa, xb, xb }, { kind, price } }), "the model has 2 inputs (a, b), got 3")
    has(message(model.fit, model, { { xa, xb }, { kind = kind, prce = price } }), "no target \"prce\"; did you mean \"price\"?")
    has(message(model.fit, model, { { xa, nn.ones(3, 6) }, { kind, price } }), "fit: a has 4 samples but b has 3")
    has(message(model.fit, model, { nn.data.from_tensors { xa, xb, kind }:batch(2) }), "gives 1 target, the model needs 2 (kind, price)")
    has(message(model.fit, model, { nn.data.from_tensors { xa, xb }:batch(2) }), "the data set gives no targets")
    has(message(model.train_on_batch, model, { xa, xb }, { kind = kind }), "the targets of the output \"price\" are missing")
  end)
end)

describe("files of functional models", function()
  local file
  before_each(function() file = os.tmpname() end)
  after_each(function() os.remove(file) end)

  it("give back the model, compiled", function()
    local model = compiled(two())
    local xa, xb, kind, price = data(8)
    model:fit { { xa, xb }, { kind, price }, epochs = 1, verbose = 0 }
    assert(model:save(file))
    local other = assert(nn.load(file))
    assert.equal("two", other.name)
    assert.same(model.output_names, other.output_names)
    local one, all = model:train_on_batch({ xa, xb }, { kind, price })
    nn.seed(7)
    local before = { model:evaluate({ xa, xb }, { kind, price }) }
    other = assert(nn.load(file))
    assert.is_true(one > 0 and all.loss == one)
    local ok = assert(model:load_weights(file))
    assert.is_true(ok)
    local a, b = { model:evaluate({ xa, xb }, { kind, price }) }, { other:evaluate({ xa, xb }, { kind, price }) }
    assert.same(a, b)
    assert.is_true(before[1] ~= a[1])
  end)

  it("keep from_logits and weights of each output", function()
    local model, xa, xb, kind, price = two(), data(6)
    model:compile { loss = { kind = "sparse_categorical_crossentropy", price = { "huber", delta = 0.5 } }, from_logits = { kind = true },
      loss_weights = { kind = 3 }, metrics = { price = { "mae", "mse" } } }
    assert(model:save(file))
    local _, here = model:evaluate({ xa, xb }, { kind, price })
    local _, there = assert(nn.load(file)):evaluate({ xa, xb }, { kind, price })
    assert.same(here, there)
    close(3 * there.kind_loss + there.price_loss, there.loss, 1e-6)
  end)

  it("go on to the same bits", function()
    local xa, xb, kind, price = data(24)
    local function run(epochs, from)
      nn.seed(11)
      local model = compiled(two())
      model:fit { { xa, xb }, { kind, price }, epochs = epochs, batch_size = 8, verbose = 0, save = not from and epochs == 1 and file or nil,
        resume = from }
      return model
    end
    local straight = run(3)
    run(1)
    local resumed = run(3, file)
    for i, w in ipairs(straight:weights()) do assert.same(w.tensor:totable(), resumed:weights()[i].tensor:totable()) end
    assert.same(straight.history.kind_accuracy, resumed.history.kind_accuracy)
    assert.same(straight.history.loss, resumed.history.loss)
  end)

  it("keep inputs and outputs by name, and calls in any order", function()
    local x, y = nn.Input { 3 }, nn.Input { 3 }
    local f, g = nn.Dense { 3, name = "f" }, nn.Dense { 3, name = "g" }
    local model = nn.Model { inputs = { second = y, first = x }, outputs = { sum = g(f(g(f(x)))) + y, deep = f(g(y)) } }
    assert.same({ "first", "second" }, model.input_names)
    assert.same({ "deep", "sum" }, model.output_names)
    assert(model:save(file))
    local other = assert(nn.load(file))
    assert.same(model.input_names, other.input_names)
    local given = { first = nn.ones(2, 3), second = nn.full({ 2, 3 }, 2) }
    local deep, sum = model(given)
    local deep2, sum2 = other(given)
    assert.same({ deep:totable(), sum:totable() }, { deep2:totable(), sum2:totable() })
  end)

  it("are read by Keras: Functional, inbound_nodes, input_layers, output_layers", function()
    local model = compiled(two())
    assert(model:save(file))
    local attrs = assert(core.h5_read(file)).attrs
    local whole = assert(core.json_decode(attrs["/"].model_config))
    assert.equal("Functional", whole.class_name)
    local config, by_name = whole.config, {}
    assert.same({ { "a", 0, 0 }, { "b", 0, 0 } }, config.input_layers)
    assert.same({ { "kind", 0, 0 }, { "price", 0, 0 } }, config.output_layers)
    for i, layer in ipairs(config.layers) do
      assert.equal(layer.name, layer.config.name)
      assert.equal(model.layers[i].name, attrs["/model_weights"].layer_names[i])
      by_name[layer.name] = layer
    end
    assert.same({ core.json_null, 6 }, by_name.a.config.batch_input_shape)
    assert.same({}, by_name.a.inbound_nodes)
    assert.same({ { { "a", 0, 0, {} } }, { { "b", 0, 0, {} } } }, by_name.shared.inbound_nodes)
    assert.same({ { { "shared", 1, 0, {} } } }, by_name.inner.inbound_nodes)
    assert.same({ { { "shared", 0, 0, {} }, { "inner", 0, 0, {} } } }, by_name.both.inbound_nodes)
    assert.equal("Sequential", by_name.inner.class_name)
    assert.equal(-1, by_name.both.config.axis)
    -- each weight lies where the group of its layer says
    for _, name in ipairs(attrs["/model_weights"].layer_names) do
      local want = {}
      for i, w in ipairs(model:layer(name):weights()) do want[i] = w.name:match "[^.]+$" end
      for i, w in ipairs(attrs["/model_weights/" .. name].weight_names) do assert.equal(want[i] .. ":0", w:match "[^/]+$") end
    end
  end)

  it("hold every way to call: several arguments, numbers, tables by name", function()
    local inner = two()
    local x = nn.Input { 6, name = "x" }
    local y = nn.Dense { 6 }(x)
    local kind, price = inner { a = x, b = y }
    local model = nn.Model { inputs = x, outputs = { nn.Add {}(kind, nn.Concatenate { 2 }(price, price, price)), (y:clamp { min = -0.1 }) } }:eval()
    assert(model:save(file))
    local other = assert(nn.load(file)):eval()
    local k, c = model(nn.ones(2, 6))
    local k2, c2 = other(nn.ones(2, 6))
    assert.same({ k:totable(), c:totable() }, { k2:totable(), c2:totable() })
    local sum = nn.Model { inputs = x, outputs = nn.Add {}(x, y) * y }
    assert(sum:save(file))
    local layers = core.json_decode(core.h5_read(file).attrs["/"].model_config).config.layers
    assert.same({ { { "x", 0, 0, {} }, { "dense", 0, 0, {} } } }, layers[3].inbound_nodes)
    assert.same({ { { "add", 0, 0, {} }, { "dense", 0, 0, {} } } }, layers[4].inbound_nodes)
  end)

  it("say what a file cannot hold", function()
    local a = nn.Input { 3 }
    local inner = nn.Dense { 3 }
    local box = nn.Sequential { nn.Input { 3 }, inner }
    local model = nn.Model { inputs = a, outputs = box(inner(a)) }
    has(message(model.config, model), "shares weights with")
    assert(model:save(file)) -- the weights
    has(select(2, nn.load(file)), "shares weights with")
    local op = nn.Model { inputs = a, outputs = nn.Dense { 1 }(a):exp() }
    assert(op:save(file))
    assert.is_nil(assert(core.h5_read(file)).attrs["/"].model_config) -- Keras has no words for it
    assert.equal("exp", assert(nn.load(file)).layers[3].op)
    local bad = op:config()
    bad.layers[3].config.op = "save"
    has(message(nn.Model.from_config, nn.Model, bad), "tensors have no operator \"save\"")
  end)
end)

describe("summary and pictures", function()
  it("list layers, shapes, parameters, FLOPs and connections", function()
    local a = nn.Input { 8, name = "x" }
    local d = nn.Dense { 8 }
    local model = nn.Model { inputs = a, outputs = nn.Dense { 2, use_bias = false }(d(d(a)) + a) }
    assert.equal([[
Layer            Output shape  Parameters  FLOPs  Connected to
--------------------------------------------------------------
x (Input)        (N, 8)                 0     0
dense (Dense)    (N, 8)                72   272   x, dense
add (Add)        (N, 8)                 0     8   dense, x
dense_1 (Dense)  (N, 2)                16    32   add
--------------------------------------------------------------
88 parameters: 88 trained, 0 not; 312 FLOP for one sample]], model:summary_text())
    assert.is_nil(model:summary_text({ flops = false }):find "FLOP")
    has(message(model.summary_text, model, { flop = false }), "did you mean \"flops\"?")
  end)

  it("draw a box per call, in DOT and SVG", function()
    local model = two()
    local dot = model:dot()
    for _, part in ipairs { 'label="2 shared"', "(call 2)", "Concatenate\\n(N, 9)", "->" } do has(dot, part) end
    assert.equal(#model:call_list(), select(2, dot:gsub("subgraph", "")))
    local edges = 0
    for _, call in ipairs(model:call_list()) do edges = edges + #call.from end
    assert.equal(edges, select(2, dot:gsub("%->", "")))
    local svg = model:svg()
    assert.equal(#model:call_list() + 1, select(2, svg:gsub("<rect", "")))
    assert.equal(edges, select(2, svg:gsub('<path d="M%d+ %d+ C', "")))
    local file = os.tmpname() .. ".svg"
    assert.is_true(model:draw(file))
    local f = assert(io.open(file))
    assert.equal(svg, f:read "a")
    f:close()
    os.remove(file)
    has(message(model.draw, model, "x.png"), "ends in .svg or .dot")
    assert.is_nil((model:draw "no/such/folder/x.svg"))
    has(message(nn.Module.dot, nn.Module()), "has no graph of layers")
  end)
end)
