--- Data sets: `nn.data`. Lazy pipelines with tf.data's verbs and meanings.
--
-- Owns: how pipelines are written in Lua. The work (order, gathering batches, reading ahead) is done by the runtime.
--
--     local nn = require "nnlua"
--     local ds = nn.data.range(6):shuffle(6, {seed = 1}):batch(4)
--     print(ds)                              --> Dataset<i64 4> 2 batches
--     local n = 0
--     for x in ds:iter() do n = n + #x end
--     print(n)                               --> 6
--
-- A verb returns a new data set and changes nothing. Each pass over a shuffle has its own order, which depends on its seed and on how many passes
-- were begun, and on nothing else. Leaving a loop early closes the pass and its threads.
--
-- An element is one or several tensors. There are no elements of text: a string that a source or a function gives is a u8 tensor of its bytes.
-- What `ds:state()` gives resumes in the middle of a pass. Over numbered sources that costs next to nothing; verbs that hold more than a position
-- (scan, bucket, unique, interleave) are run again from the start of the pass, and what they give is dropped until the place is reached.

local data = {
  Dataset = require "nnlua.data.dataset",
  LabelEncoder = require "nnlua.data.labels",
}

-- Each adds its functions.
for _, room in ipairs { "sources", "arrays", "files", "folders", "verbs", "combine" } do
  for name, fn in pairs(require("nnlua.data." .. room)) do data[name] = fn end
end

return data
