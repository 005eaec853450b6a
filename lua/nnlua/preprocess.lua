--- What prepares numbers, labels and words, by one name: `nn.preprocess`. Pictures: nn.vision.
--
-- Owns nothing: each of these is a layer of nn, an operator or a class of nn.data, and is written down there.
--
--     local nn = require "nnlua"
--     local P = nn.preprocess
--     local labels = P.LabelEncoder.fit{ "dog", "cat", "dog" }
--     print(P.one_hot(nn.tensor(labels:encode{ "dog", "cat" }), #labels):totable()[1][2])      --> 1.0
--     local scale = P.Normalization{}
--     scale:adapt(nn.tensor{ {1, 10}, {3, 30} })
--     print(scale(nn.tensor{ {3, 30} }):totable()[1][2])                                       --> 1.0

local core = require "nnlua.core"
local preparing = require "nnlua.layers.preprocessing"
local lookup = require "nnlua.layers.lookup"

return {
  Rescaling = require("nnlua.layers.core").Rescaling,
  Normalization = preparing.Normalization,
  Discretization = preparing.Discretization,
  CategoryEncoding = preparing.CategoryEncoding,
  Hashing = preparing.Hashing,
  StringLookup = lookup.StringLookup,
  IntegerLookup = lookup.IntegerLookup,
  TextVectorization = require("nnlua.layers.text").TextVectorization,
  Standardize = require("nnlua.vision.transforms").Standardize,
  LabelEncoder = require "nnlua.data.labels",
  one_hot = core.one_hot,
}
