-- lua/nnlua/picture.lua: pixels as half blocks.
local nn = require "nnlua"
local support = dofile((debug.getinfo(1, "S").source:match "^@(.*/)" or "./") .. "support.lua")

local plain = { colour = false }

describe("nn.picture", function()
  it("draws two pixels with one character, trailing dark ones with none", function()
    assert.equal("▀▄\n  █▀", nn.picture(nn.tensor { { 1, 0, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 1, 1 }, { 0, 0, 1, 0 } }, plain))
    assert.equal("█▀", nn.picture(nn.tensor({ { 255, 200 }, { 255, 0 } }, { dtype = "u8" }), plain)) -- bytes go to 255, floats to 1
    assert.equal("▀", nn.picture(nn.ones(1, 1), plain)) -- an odd last row stands over nothing
    assert.equal("", nn.picture(nn.zeros(2, 3), plain))
  end)

  it("takes images of every form, and puts them beside and below each other", function()
    for _, shape in ipairs { { 2, 2 }, { 2, 2, 1 }, { 1, 2, 2 }, { 1, 2, 2, 1 }, { 2, 2, 3 }, { 1, 2, 2, 3 } } do
      assert.equal("██", nn.picture(nn.ones(shape), plain), table.concat(shape, "x"))
    end
    local images = nn.cat({ nn.eye(4):reshape { 2, 2, 4, 1 }, nn.ones(1, 2, 4, 1) }, 1)
    assert.equal("▀▄    ▀▄", nn.picture(nn.eye(4):reshape { 2, 2, 4, 1 }, plain))
    assert.equal("▀▄    ▀▄\n████", nn.picture(images, { columns = 2, colour = false }))
    assert.equal("▀▄\n  ▀▄\n████", nn.picture(images, { columns = 1, colour = false }))
  end)

  it("writes colours where they are asked for", function()
    local x = nn.tensor({ { { 255, 0, 7 } }, { { 1, 2, 3 } } }, { dtype = "u8" })
    assert.equal("\27[38;2;255;0;7;48;2;1;2;3m▀\27[0m", nn.picture(x, { colour = true }))
    assert.equal("\27[38;2;255;255;255;48;2;0;0;0m▀\27[0m", nn.picture(nn.tensor { { 3.5 }, { -1 } }, { colour = true })) -- out of 0..1
    assert.equal("\27[38;2;128;128;128;48;2;0;0;0m▀\27[0m", nn.picture(nn.tensor { { 0.5 } }, { colour = true }))
  end)

  it("says what it cannot draw", function()
    assert.matches("picture: needs images .* got %(2, 2, 2, 2%)$", support.message(nn.picture, nn.ones(2, 2, 2, 2)))
    assert.matches("picture: needs images .* got %(3%)$", support.message(nn.picture, nn.ones(3)))
    assert.equal("picture: needs a tensor, got 5", support.message(nn.picture, 5))
    assert.matches('picture: unknown option "column"; did you mean "columns"?', support.message(nn.picture, nn.ones(2, 2), { column = 3 }), 1, true)
  end)
end)
