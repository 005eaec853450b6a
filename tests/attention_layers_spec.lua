-- lua/nnlua/layers/attention.lua and transformer.lua: masks against a naive
-- loop, files, shapes, wrong use.
local nn = require "nnlua"
local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local support = dofile(here .. "support.lua")
local sequence = assert(loadfile(here .. "sequence_support.lua"))(assert)
local close, message = support.close, support.message

-- softmax of scores * scale over the sources that allowed(t, s) accepts, times v: plain tables, one head. No source allowed: all count the same.
local function naive(q, k, v, scale, allowed)
  local out = {}
  for t = 1, #q do
    local scores, any = {}, false
    for s = 1, #k do
      local dot = 0
      for i = 1, #q[t] do dot = dot + q[t][i] * k[s][i] end
      scores[s] = dot * scale
      any = any or allowed(t, s)
    end
    local total, weights = 0, {}
    for s = 1, #k do
      weights[s] = not any and 1 or allowed(t, s) and math.exp(scores[s]) or 0
      total = total + weights[s]
    end
    out[t] = {}
    for j = 1, #v[1] do
      local sum = 0
      for s = 1, #k do sum = sum + weights[s] / total * v[s][j] end
      out[t][j] = sum
    end
  end
  return out
end

-- A layer whose projections are cut from identity matrices: head h sees features 2h-1 and 2h.
local function plain_heads(layer, last)
  layer:build_once({ 3, 4 }, { 5, 4 })
  for _, name in ipairs { "query", "key", "value" } do layer[name].kernel:assign(nn.eye(4):reshape(4, 2, 2)) end
  layer[last].kernel:assign(nn.eye(4):reshape(2, 2, 4))
  return layer
end

local function heads_of(rows, h)
  local out = {}
  for i, row in ipairs(rows) do out[i] = { row[2 * h - 1], row[2 * h] } end
  return out
end

-- What plain_heads' layer must give for sample n.
local function want_heads(q, v, n, allowed)
  local a = {}
  for h = 1, 2 do
    local b = naive(heads_of(q[n], h), heads_of(v[n], h), heads_of(v[n], h), 2 ^ -0.5, function(t, s) return allowed(h, t, s) end)
    for t, row in ipairs(b) do
      a[t] = a[t] or {}
      table.move(row, 1, 2, 2 * h - 1, a[t])
    end
  end
  return a
end

describe("masks", function()
  local q, v = nn.randn(2, 3, 4), nn.randn(2, 5, 4)
  local qt, vt = q:totable(), v:totable()
  local steps = { { true, true, false }, { false, true, true } }
  local sources = { { true, true, false, true, false }, { false, false, true, true, true } }
  local pairs_of = { { true, false, true, true, true }, { true, true, true, false, false }, { true, true, true, true, true } }
  local qm, vm, pm = nn.tensor(steps), nn.tensor(sources), nn.tensor(pairs_of)
  local cases = {
    { "of values", { value_mask = vm }, function(n, _, _, s) return sources[n][s] end },
    { "of keys and queries", { key_mask = vm, query_mask = qm }, function(n, _, t, s) return sources[n][s] and steps[n][t] end },
    { "of pairs", { attention_mask = pm }, function(_, _, t, s) return pairs_of[t][s] end },
    { "of pairs, as numbers", { attention_mask = pm:float() }, function(_, _, t, s) return pairs_of[t][s] end },
    { "of pairs per sample", { attention_mask = nn.stack { pm, pm:logical_not() } }, function(n, _, t, s) return pairs_of[t][s] == (n == 1) end },
    { "of pairs per head", { attention_mask = nn.stack({ pm, pm:logical_not() }):unsqueeze(1) },
      function(_, h, t, s) return pairs_of[t][s] == (h == 1) end },
    { "causal", { use_causal_mask = true }, function(_, _, t, s) return s <= t end },
    { "causal, of values and of pairs", { use_causal_mask = true, value_mask = vm, attention_mask = pm },
      function(n, _, t, s) return s <= t and sources[n][s] and pairs_of[t][s] end },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      for _, layer in ipairs { plain_heads(nn.MultiHeadAttention { 2, 2 }, "attention_output"),
        plain_heads(nn.GroupedQueryAttention { 2, 2, 2 }, "attention_output") } do
        local o = { return_attention_scores = true }
        for key, value in pairs(case[2]) do o[key] = value end
        local y = layer(q, v, case[2])
        local z, scores = layer(q, v, o)
        for n = 1, 2 do
          local want = want_heads(qt, vt, n, function(h, t, s) return case[3](n, h, t, s) end)
          close(want, y[n], 1e-5, "sample " .. n)
          close(want, z[n], 1e-5, "with scores, sample " .. n)
        end
        close(nn.ones(2, 2, 3), scores:sum(-1), 1e-5)
      end
    end)
  end

  it("are taken from the tensors that carry them", function()
    local layer = plain_heads(nn.MultiHeadAttention { 2, 2 }, "attention_output")
    local y = layer(nn.with_mask(q, qm), nn.with_mask(v, vm))
    for n = 1, 2 do
      close(want_heads(qt, vt, n, function(_, t, s) return steps[n][t] and sources[n][s] end), y[n], 1e-5)
    end
    assert.same(steps, nn.mask_of(y):totable())
  end)

  it("of Attention and AdditiveAttention: queries that don't count give 0", function()
    for _, how in ipairs { "carried", "named", "listed" } do
      local layer = nn.Attention {}
      local y
      if how == "carried" then y = layer(nn.with_mask(q, qm), nn.with_mask(v, vm)) end
      if how == "named" then y = layer(q, v, { query_mask = qm, value_mask = vm }) end
      if how == "listed" then y = layer({ q, v }, { mask = { qm, vm } }) end
      for n = 1, 2 do
        local want = naive(qt[n], vt[n], vt[n], 1, function(_, s) return sources[n][s] end)
        for t = 1, 3 do close(steps[n][t] and want[t] or { 0, 0, 0, 0 }, y[{ n, t }], 1e-5, how) end
      end
      assert.same(steps, nn.mask_of(y):totable())
    end
    local y = nn.Attention {}(q, v, { use_causal_mask = true })
    close(naive(qt[2], vt[2], vt[2], 1, function(t, s) return s <= t end), y[2], 1e-5)
    local layer = nn.AdditiveAttention {}
    local a, scores = layer(q, v, { value_mask = vm, return_attention_scores = true })
    assert.equal(0, (scores * vm:logical_not():float():unsqueeze(2)):sum():item())
    close(scores:matmul(v), a, 1e-5)
  end)

  it("of an encoder: padding changes no other step", function()
    nn.seed(3)
    local layer = nn.TransformerEncoder { 8, 2 }
    local x = nn.randn(2, 5, 4)
    local other = nn.where(vm:unsqueeze(3), x, nn.randn(2, 5, 4))
    assert.is_true((x - other):abs():sum():item() > 1)
    for _, call in ipairs { function(t) return layer(nn.with_mask(t, vm)) end, function(t) return layer(t, { padding_mask = vm }) end } do
      local keep = vm:float():unsqueeze(3)
      close(call(x) * keep, call(other) * keep, 1e-5)
      assert.is_true((call(x) * keep - layer(x) * keep):abs():sum():item() > 1e-2)
    end
  end)

  it("of a decoder: no step sees a later one", function()
    nn.seed(3)
    local layer = nn.TransformerDecoder { 8, 2, normalize_first = true }
    local x = nn.randn(1, 5, 4)
    local later = nn.cat({ x[{ {}, { 1, 3 } }], nn.randn(1, 2, 4) }, 2)
    local a, b = layer(x), layer(later)
    close(a[{ {}, { 1, 3 } }], b[{ {}, { 1, 3 } }], 1e-6)
    assert.is_true((a - b):abs():sum():item() > 1e-2)
    assert.is_true((layer(x, { use_causal_mask = false }) - a):abs():sum():item() > 1e-2)
  end)
end)

describe("dropout", function()
  it("is there in training only", function()
    nn.seed(1)
    local x = nn.randn(2, 6, 4)
    for _, layer in ipairs { nn.MultiHeadAttention { 2, 2, dropout = 0.5 }, nn.GroupedQueryAttention { 2, 2, 1, dropout = 0.5 },
      nn.Attention { dropout = 0.5 }, nn.AdditiveAttention { dropout = 0.5 }, nn.TransformerEncoder { 8, 2, dropout = 0.5 },
      nn.TransformerDecoder { 8, 2, dropout = 0.5 } } do
      assert.is_true((layer(x) - layer(x)):abs():sum():item() > 1e-3, tostring(layer))
      layer:eval()
      assert.equal(0, (layer(x) - layer(x)):abs():sum():item())
    end
    local layer = nn.MultiHeadAttention { 2, 2, dropout = 0.5 }
    local _, scores = layer(nn.randn(2, 50, 4), { return_attention_scores = true })
    local zeros = scores:eq(0):float():mean():item()
    assert.is_true(zeros > 0.45 and zeros < 0.55)
  end)
end)

describe("layers", function()
  it("have Keras's weights in its order", function()
    local function names(layer, ...)
      layer:build_once(...)
      local list = {}
      for i, w in ipairs(layer:weights()) do list[i] = w.name .. " " .. table.concat(w.tensor:shape(), "x") end
      return table.concat(list, ", ")
    end
    assert.equal("query.kernel 4x2x3, query.bias 2x3, key.kernel 6x2x3, key.bias 2x3, value.kernel 5x2x7, value.bias 2x7, "
      .. "attention_output.kernel 2x7x4, attention_output.bias 4", names(nn.MultiHeadAttention { 2, 3, value_dim = 7 }, { 9, 4 }, { 8, 5 }, { 8, 6 }))
    assert.equal("query.kernel 4x2x3, key.kernel 4x2x3, value.kernel 4x2x3, attention_output.kernel 2x3x4",
      names(nn.MultiHeadAttention { 2, 3, use_bias = false }, { 9, 4 }))
    assert.equal("query.kernel 4x4x3, query.bias 4x3, key.kernel 4x2x3, key.bias 2x3, value.kernel 4x2x3, value.bias 2x3, "
      .. "attention_output.kernel 4x3x4, attention_output.bias 4", names(nn.GroupedQueryAttention { 3, 4, 2 }, { 9, 4 }))
    assert.equal("scale 4", names(nn.AdditiveAttention {}, { 9, 4 }))
    assert.equal("", names(nn.Attention {}, { 9, 4 }))
  end)

  it("are frozen, penalized and constrained with their parts", function()
    local layer = nn.MultiHeadAttention { 2, 3, trainable = false, kernel_regularizer = nn.regularizers.l2 { 0.5 } }
    layer:build_once { 5, 4 }
    assert.same({ 0, 4 * 6 * 4 + 6 * 3 + 4 }, { layer:count_params() })
    local total = 0
    for _, name in ipairs { "query", "key", "value", "attention_output" } do total = total + layer[name].kernel:square():sum():item() end
    close({ 0.5 * total }, layer:regularization():item())
    local block = nn.TransformerEncoder { 8, 2, trainable = false }
    block:build_once { 5, 4 }
    assert.equal(0, (block:count_params()))
  end)

  it("in files come back to the bit", function()
    nn.seed(2)
    sequence.round_trip({ nn.Input { 5, 6 }, nn.MultiHeadAttention { 2, 3, value_dim = 4, output_shape = 8, dropout = 0.1, use_bias = false },
      nn.GroupedQueryAttention { 3, 4, 2, kernel_regularizer = "l1" }, nn.Attention { use_scale = true, score_mode = "concat" },
      nn.AdditiveAttention {}, nn.TransformerEncoder { 8, 2, activation = "gelu", dropout = 0.1 },
      nn.TransformerDecoder { 8, 4, normalize_first = true, layer_norm_epsilon = 1e-3 } }, nn.randn(2, 5, 6))
  end)

  it("print themselves", function()
    assert.equal("MultiHeadAttention(2 heads of 3)", tostring(nn.MultiHeadAttention { 2, 3 }))
    assert.equal("GroupedQueryAttention(4 heads of 3, 2 for keys and values)", tostring(nn.GroupedQueryAttention { 3, 4, 2 }))
    assert.equal("TransformerDecoder(8, 2 heads, normalize_first)", tostring(nn.TransformerDecoder { 8, 2, normalize_first = true }))
    assert.equal("Attention(dot, use_scale)", tostring(nn.Attention { use_scale = true }))
  end)

  it("learn: a decoder repeats a sequence", function()
    nn.seed(1)
    local model = nn.Sequential { nn.Input { 8 }, nn.TokenAndPositionEmbedding { 5, 8, 16 }, nn.TransformerDecoder { 32, 2, normalize_first = true },
      nn.LayerNorm {}, nn.Dense { 5 } }
    model:compile { optimizer = nn.optim.Adam { lr = 1e-2 }, loss = "sparse_categorical_crossentropy", from_logits = true, metrics = { "accuracy" } }
    local x = nn.randint(1, 6, { 64, 8 })
    local y = nn.cat({ x[{ {}, { 1, 1 } }], x[{ {}, { 1, 7 } }] }, 2) -- the step before: only attention can know it
    model:fit { x, y, epochs = 60, batch_size = 64, verbose = 0 }
    local _, m = model:evaluate(x, y)
    assert.is_true(m.accuracy > 0.95, tostring(m.accuracy))
  end)
end)

describe("wrong use names the layer and what to do", function()
  local x = nn.ones(2, 4, 6)
  for text, f in pairs {
    ["needs sequences (N, T, C), the query is (2, 3)"] = function() nn.MultiHeadAttention { 2, 3 }(nn.ones(2, 3)) end,
    ["attention_mask must be (N, 4, 4), got (3, 3)"] = function() nn.MultiHeadAttention { 2, 3 }(x, { attention_mask = nn.ones(3, 3) }) end,
    ['unknown option "causal"'] = function() nn.MultiHeadAttention { 2, 3 }(x, { causal = true }) end,
    ['unknown option "head"'] = function() nn.MultiHeadAttention { 2, 3, head = 1 } end,
    ['option "key_dim" is missing'] = function() nn.MultiHeadAttention { 2 } end,
    ["must be a multiple of num_key_value_heads"] = function() nn.GroupedQueryAttention { 3, 4, 3 } end,
    ["the key has 3 steps but the value 4"] = function() nn.Attention {}(x, x, nn.ones(2, 3, 6)) end,
    ["argument 2 must be a tensor, got 3"] = function() nn.Attention {}(x, 3) end,
    ["5 heads need a multiple of that many features"] = function() nn.TransformerEncoder { 8, 5 }(x) end,
    ["transformer_decoder: was built without an encoder's result"] = function()
      local model = nn.Sequential { nn.Input { 4, 6 }, nn.TransformerDecoder { 8, 2 } }
      model[2](x, x)
    end,
    ["sequential/multi_head_attention: "] = function()
      local model = nn.Sequential { nn.Input { 4, 6 }, nn.MultiHeadAttention { 2, 3 }, name = "sequential" }
      model[2].query.kernel = nn.ones(5, 2, 3)
      model[2].query.bias = nn.ones(3, 3)
      model(x)
    end,
  } do
    it(text, function()
      local m = message(f)
      assert.truthy(m:find(text, 1, true), m)
    end)
  end
end)
