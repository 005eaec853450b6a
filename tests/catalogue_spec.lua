-- The catalogue: every operator that the project promises is a function of nn, a method where its first argument is a tensor, and stands in
-- docs/ops.md and the editor's stubs; what takes a dim counts it from the end too.
local nn = require "nnlua"
local program = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "program.lua")

local function words(text)
  local list = {}
  for word in text:gmatch "[%w_]+" do list[#list + 1] = word end
  return list
end

-- Functions alone: their first argument is a shape, a number, a list or text.
local makers = words [[tensor zeros ones full empty arange linspace logspace eye tri rand randn randint randperm bernoulli uniform normal from_table
  from_string meshgrid cat stack einsum]]

local catalogue = {
  creation = words [[zeros_like ones_like full_like empty_like rand_like randn_like multinomial one_hot]],
  pointwise = words [[add sub mul div floor_div mod fmod pow neg abs sign exp expm1 exp2 log log1p log2 log10 sqrt rsqrt square reciprocal sin
    cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh floor ceil round trunc frac clamp minimum maximum erf erfc sigmoid logit lerp where
    eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
    bitwise_left_shift bitwise_right_shift isnan isinf isfinite nan_to_num cast]],
  activations = words [[relu relu6 leaky_relu prelu elu selu celu gelu silu mish softplus softsign log_sigmoid hard_sigmoid hard_swish hard_tanh
    hard_shrink soft_shrink tanh_shrink threshold glu softmax log_softmax softmin]],
  reductions = words [[sum mean prod amax amin max min argmax argmin var std norm logsumexp any all count_nonzero cumsum cumprod cummax cummin median
    quantile]],
  shape = words [[reshape view flatten squeeze unsqueeze transpose permute movedim expand broadcast_to tile repeat_interleave flip roll split chunk
    unbind pad tril triu diag diagonal unfold]],
  indexing = words [[gather scatter scatter_add index_select index_add index_put gather_nd take masked_select masked_fill nonzero sort argsort topk
    unique searchsorted bincount]],
  ["linear algebra"] = words [[matmul dot outer addmm bmm cdist inv solve cholesky qr svd eigh det slogdet lstsq]],
  neural = words [[linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d max_pool1d max_pool2d max_pool3d avg_pool1d
    avg_pool2d avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    max_unpool1d max_unpool2d max_unpool3d batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm dropout embedding embedding_bag
    lstm gru rnn scaled_dot_product_attention interpolate grid_sample pixel_shuffle]],
  losses = words [[cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss huber_loss kl_div
    poisson_nll_loss gaussian_nll_loss hinge_embedding_loss soft_margin_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss
    margin_ranking_loss triplet_margin_loss cosine_embedding_loss ctc_loss]],
  gradients = words [[grad hook]],
}
local functions = words [[value_and_grad no_grad custom jvp hvp gradcheck]]
local methods = words [[backward detach requires_grad to float double half long int byte bool]]

local page = program.read "docs/ops.md"
local stubs = program.read "docs/nnlua.d.lua" .. program.read "lua/nnlua/core.d.lua"

local function is_function(name) assert(type(nn[name]) == "function", "there is no nn." .. name) end
local function is_method(name) assert(type(nn.tensor_metatable.methods[name]) == "function", "there is no method " .. name) end
local function is_told(name, call)
  assert(page:find("\n| `" .. call .. "(", 1, true), call .. " is not in docs/ops.md")
  assert(stubs:find("\nfunction nn." .. name .. "(", 1, true), name .. " is in no stub")
end

describe("catalogue:", function()
  for family, names in pairs(catalogue) do
    it(family, function()
      for _, name in ipairs(names) do
        is_function(name)
        if name == "grad" then assert.is_function(nn.ones(1).grad) else is_method(name) end -- x:grad() is what backward left
        is_told(name, family == "gradients" and "nn." .. name or page:find("\n| `nn." .. name .. "(", 1, true) and "nn." .. name or name)
      end
    end)
  end

  it("functions alone", function()
    for _, list in ipairs { makers, functions } do
      for _, name in ipairs(list) do
        is_function(name)
        is_told(name, page:find("\n| `nn." .. name .. "(", 1, true) and "nn." .. name or name)
      end
    end
  end)

  it("methods alone", function()
    for _, name in ipairs(methods) do
      is_method(name)
      assert(stubs:find("\nfunction Tensor:" .. name .. "(", 1, true), name .. " is in no stub")
    end
  end)

  it("activations have names for layers", function()
    local other = { prelu = true, threshold = true } -- these need a number more
    local x = nn.tensor { { -2, -0.5, 0.25, 3 } }
    for _, name in ipairs(catalogue.activations) do
      if not other[name] then
        local layer, want = nn.Activation { name }, name == "leaky_relu" and nn.leaky_relu(x, 0.2) or nn[name](x)
        assert.same(want:totable(), layer(x):totable(), name)
        assert.equal(name, select(2, nn.activations.get(nn.activations[name])))
      end
    end
    assert.equal(nn.silu, nn.activations.swish)
  end)
end)

-- ---- the library -------------------------------------------------------------------------------------------------------
local library = {
  optim = words [[SGD Adam AdamW Adamax Nadam RAdam RMSprop Adagrad Adadelta Ftrl Lion Lamb Adafactor Muon Rprop ASGD LBFGS CG]],
  schedules = words [[exponential piecewise polynomial inverse_time cosine cosine_restarts step linear one_cycle cyclic noam join plateau warmup
    constant]],
  callbacks = words [[EarlyStopping Checkpoint Resume ReduceLROnPlateau LRSchedule CSVLogger JSONLogger TensorBoard TerminateOnNaN SwapEMA Progress
    Health History Lambda]],
  losses = words [[categorical_crossentropy sparse_categorical_crossentropy binary_crossentropy binary_focal_crossentropy
    categorical_focal_crossentropy cross_entropy mse mae mape msle huber log_cosh hinge squared_hinge categorical_hinge kl poisson cosine nll
    gaussian_nll smooth_l1 triplet margin_ranking dice tversky ctc circle contrastive]],
  metrics = words [[Accuracy BinaryAccuracy TopK Precision Recall F1 FBeta AUC ROC ConfusionMatrix IoU MeanIoU RMSE R2 Perplexity CosineSimilarity
    Mean]],
  initializers = words [[zeros ones constant random_normal random_uniform truncated_normal variance_scaling glorot_normal glorot_uniform he_normal
    he_uniform lecun_normal lecun_uniform orthogonal identity]],
  regularizers = words [[l1 l2 l1l2 orthogonal]],
  constraints = words [[max_norm non_neg unit_norm min_max_norm]],
}
local metric_names = words [[accuracy binary_accuracy categorical_accuracy sparse_categorical_accuracy top_k_accuracy top_k_categorical_accuracy
  sparse_top_k_categorical_accuracy precision recall f1 fbeta auc roc confusion_matrix iou mean_iou mse mae mape msle rmse r2 perplexity cosine
  binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy]]
local common_options = words [[weight_decay clipnorm clipvalue global_clipnorm use_ema ema_momentum ema_overwrite_frequency
  gradient_accumulation_steps loss_scale lr]]

describe("the library has", function()
  for family, names in pairs(library) do
    it(family .. ", each with help", function()
      for _, name in ipairs(names) do
        assert(rawget(nn[family], name) ~= nil, ("there is no nn.%s.%s"):format(family, name))
        local text = nn.help.text(family .. "." .. name)
        local comment = text:match "^[^\n]*\n\n([^\n]+)"
        assert(comment and not comment:find "^options %(", ("nn.%s.%s has no doc comment:\n%s"):format(family, name, text))
      end
    end)
  end
  it("metrics by name", function()
    for _, name in ipairs(metric_names) do assert.equal(name, nn.metrics.get(name).name) end
  end)
  it("the common options in every optimizer", function()
    for _, name in ipairs(library.optim) do
      for _, key in ipairs(common_options) do assert(nn.optim[name].options[key], name .. " has no option " .. key) end
    end
  end)
end)

-- ---- dims --------------------------------------------------------------------------------------------------------------
local x = nn.tensor { { { 0.5, -1, 2 }, { 1.5, 0.25, -2 } }, { { 3, -0.5, 1 }, { 0.75, 2.5, -1.5 } } } -- (2, 2, 3)
local ids = nn.tensor { { { 1, 2, 1 } }, { { 2, 2, 1 } } }

local function bytes(...)
  local list = {}
  local function add(v)
    if nn.is_tensor(v) then list[#list + 1] = v:tostring_bytes()
    elseif type(v) == "table" then for _, t in ipairs(v) do add(t) end end
  end
  for i = 1, select("#", ...) do add((select(i, ...))) end
  assert(#list > 0)
  return table.concat(list, "|")
end

local function same_bits(a, b) assert(a == b, "other bits") end -- busted would print them

describe("a dim from the end is that dim:", function()
  local calls = {
    gather = function(d) return x:gather(d, ids) end, scatter = function(d) return x:scatter(d, ids, 9) end,
    scatter_add = function(d) return x:scatter_add(d, ids, 9) end, scatter_reduce = function(d) return x:scatter_reduce(d, ids, 9, "prod") end,
    index_select = function(d) return x:index_select(d, { 2, 1, 2 }) end,
    index_add = function(d) return x:index_add(d, nn.tensor { 2 }, nn.ones(2, 1, 3)) end,
    cat = function(d) return nn.cat({ x, x }, d) end, stack = function(d) return nn.stack({ x:amax(1), x:amin(1) }, d) end,
    split = function(d) return x:split({ 1, 1 }, d) end, topk = function(d) return x:topk(1, d) end,
    quantile = function(d) return x:quantile(0.3, d) end, repeat_interleave = function(d) return x:repeat_interleave(2, d) end,
    unfold = function(d) return x:unfold(d, 2) end, narrow = function(d) return x:narrow(d, 2, 1) end, roll = function(d) return x:roll(1, d) end,
    unsqueeze = function(d) return x[1]:unsqueeze(d) end, transpose = function(d) return x:transpose(d, 1) end,
    movedim = function(d) return x:movedim(d, 1) end, norm = function(d) return x:norm(1, d) end, chunk = function(d) return x:chunk(2, d) end,
    flatten = function(d) return x:flatten(d, -1) end, diagonal = function(d) return x:diagonal(0, 1, d) end,
    permute = function(d) return x:permute(3, d, 1) end, squeeze = function(d) return x:narrow(2, 1, 1):squeeze(d) end,
    normalize = function(d) return x:normalize(2, d) end, cosine_similarity = function(d) return x:cosine_similarity(x * x, d) end,
    linear_scan = function(d) return nn.linear_scan(x, x, d) end,
  }
  for _, name in ipairs(words [[sum mean prod amax amin max min argmax argmin var std logsumexp any all count_nonzero cumsum cumprod cummax cummin
    logcumsumexp median sort argsort flip unbind softmax log_softmax softmin glu]]) do
    calls[name] = function(d) return x[name](x, d) end
  end
  for name, call in pairs(calls) do
    it(name, function()
      local front, back = bytes(call(2)), bytes(call(-2))
      assert(front == back, name .. ": dim 2 and dim -2 of three give different results")
      for _, wrong in ipairs { 0, 9, -9 } do
        local ok, message = pcall(call, wrong)
        assert(not ok and message:find "dim", name .. " took dim " .. wrong)
      end
    end)
  end
end)

describe("dims are a number or a list, kept or not:", function()
  local function value(name, ...)
    if name == "norm" then return x:norm(2, ...) end
    if select("#", ...) == 0 then return x[name](x) end
    if name == "var" or name == "std" then
      local dims, keep = ...
      return x[name](x, { dim = dims, keepdim = keep })
    end
    return x[name](x, ...)
  end
  for _, name in ipairs(words "sum mean prod amax amin any all var std norm logsumexp count_nonzero") do
    it(name, function()
      if name == "count_nonzero" or name == "any" or name == "all" then
        same_bits(bytes(value(name, 2)), bytes(value(name, { 2 })))
      else
        assert.same(value(name, 2):totable(), value(name, { -2 }):totable())
      end
      local both = value(name, { 1, -1 })
      assert.same({ 2 }, both:shape())
      assert.same({ 1, 2, 1 }, value(name, { 3, 1 }, true):shape())
      same_bits(bytes(both), bytes(value(name, { 1, 3 }, true):reshape(2)))
      assert.same({ 1, 1, 1 }, value(name, { 1, 2, 3 }, true):shape())
      assert.same({ 2, 1, 3 }, value(name, 2, true):shape())
      same_bits(bytes(value(name)), bytes(value(name, { 1, 2, 3 })))
    end)
  end
  for _, name in ipairs(words "max min argmax argmin median") do
    it(name, function()
      local y, at = x[name](x, 2, true)
      assert.same({ 2, 1, 3 }, y:shape())
      if at then assert.same({ 2, 1, 3 }, at:shape()) end
      same_bits(bytes(y:squeeze(2)), bytes((x[name](x, -2))))
    end)
  end
end)

describe("what PyTorch allows:", function()
  it("max and min of two tensors", function()
    local a, b = nn.tensor { 1.0, 5, 2 }, nn.tensor { 3.0, 4, 2 }
    assert.same({ 3, 5, 2 }, nn.max(a, b):totable())
    assert.same({ 1, 4, 2 }, a:min(b):totable())
    assert.same({ { 1, 5 }, { 3, 5 } }, nn.max(nn.tensor { { 1.0 }, { 3.0 } }, nn.tensor { 0.0, 5 }):totable())
  end)

  it("clamp with one bound, by place or by name", function()
    local a = nn.tensor { -2.0, 0.5, 3 }
    assert.same({ 0, 0.5, 3 }, a:clamp(0):totable())
    assert.same({ -2, 0.5, 1 }, a:clamp(nil, 1):totable())
    assert.same({ -2, 0.5, 1 }, a:clamp { max = 1 }:totable())
    assert.same({ 0, 0.5, 3 }, a:clamp { min = 0 }:totable())
    assert.same({ -1, 2 }, nn.tensor({ -1, 7 }):clamp { max = 2 }:totable())
  end)

  it("where with numbers", function()
    local mask = nn.tensor { true, false }
    assert.same({ 1, 0 }, nn.where(mask, 1, 0):totable())
    assert.equal("i64", nn.where(mask, 1, 0):dtype())
    assert.same({ 0.5, 0 }, mask:where(0.5, 0):totable())
    assert.same({ 4, 7 }, mask:where(nn.tensor { 4.0, 5 }, 7):totable())
  end)

  it("gelu by its approximation", function()
    same_bits(bytes(x:gelu_tanh()), bytes(x:gelu { approximate = "tanh" }))
    same_bits(bytes(x:gelu_erf()), bytes(nn.gelu(x, "none")))
    assert.is_true(bytes(x:gelu()) ~= bytes(x:gelu "tanh"))
  end)
end)

describe("positions:", function()
  it("-1 is the last in x[...] and index_put", function()
    local a, last = nn.tensor { 1.0, 2, 3 }, nn.tensor { -1 }
    assert.same({ 3 }, a[last]:totable())
    assert.same({ 1, 2, 9 }, a:index_put({ last }, 9):totable())
    a[last] = 7
    assert.same({ 1, 2, 7 }, a:totable())
  end)

  it("operators that look up by name refuse it, and 0", function()
    local a = nn.tensor { 1.0, 2, 3 }
    for _, at in ipairs { nn.tensor { -1 }, nn.tensor { 0 } } do
      for name, call in pairs {
        gather = function() return a:gather(1, at) end, take = function() return a:take(at) end,
        index_select = function() return a:index_select(1, at) end, gather_nd = function() return a:gather_nd(at:reshape(1, 1)) end,
        scatter = function() return a:scatter(1, at, 1) end, index_add = function() return a:index_add(1, at, nn.ones(1)) end,
      } do
        local ok, message = pcall(function() return call():totable() end)
        assert(not ok and message:find(name .. ": ", 1, true) and message:find(" " .. at:item() .. " ", 1, true),
          name .. ": " .. tostring(message))
      end
    end
  end)
end)
