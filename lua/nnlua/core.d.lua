---@meta
-- What an editor and nn.help show for tensors and for the functions of nn that are no operators; never loaded. Written by hand;
-- tests/docs_spec.lua compares the names with the program's. docs/nnlua.d.lua has the operators.

---@alias nnlua.dtype "bool"|"u8"|"i32"|"i64"|"f16"|"bf16"|"f32"|"f64"

--- A value: a typed array of up to 8 dims, immutable for everybody who holds it. `x[2] = 5` binds the handle x to a new value.
--- Positions count from 1 and from -1 at the end: `x[1]`, `x[{ {1, 3}, {}, -1 }]` (closed ranges, all, one position), `x[mask]`, `x[ids]`.
---@class nnlua.Tensor
---@operator add(nnlua.Tensor|number): nnlua.Tensor
---@operator sub(nnlua.Tensor|number): nnlua.Tensor
---@operator mul(nnlua.Tensor|number): nnlua.Tensor
---@operator div(nnlua.Tensor|number): nnlua.Tensor
---@operator pow(nnlua.Tensor|number): nnlua.Tensor
---@operator idiv(nnlua.Tensor|number): nnlua.Tensor
---@operator mod(nnlua.Tensor|number): nnlua.Tensor
---@operator band(nnlua.Tensor|number): nnlua.Tensor
---@operator bor(nnlua.Tensor|number): nnlua.Tensor
---@operator bxor(nnlua.Tensor|number): nnlua.Tensor
---@operator shl(nnlua.Tensor|number): nnlua.Tensor
---@operator shr(nnlua.Tensor|number): nnlua.Tensor
---@operator bnot: nnlua.Tensor
---@operator unm: nnlua.Tensor
---@operator len: integer
---@field [any] any
local Tensor = {}

---@class nnlua
---@field version string
local nn = {}

-- ---- making tensors --------------------------------------------------------------------------------------------------

--- A tensor from a number, a boolean, nested tables or a tensor. Whole numbers give i64, others f32, unless dtype says so.
---@param value number|boolean|table|nnlua.Tensor
---@param options? nnlua.dtype|{ dtype?: nnlua.dtype, requires_grad?: boolean }
---@return nnlua.Tensor
function nn.tensor(value, options) end

--- A tensor from raw bytes, row-major, in this machine's byte order. Without a shape it has one dim.
---@param bytes string
---@param dtype? nnlua.dtype default "u8"
---@param shape? integer[]
---@return nnlua.Tensor
function nn.from_string(bytes, dtype, shape) end

--- nn.tensor under another name.
---@param value table
---@param options? nnlua.dtype|{ dtype?: nnlua.dtype, requires_grad?: boolean }
---@return nnlua.Tensor
function nn.from_table(value, options) end

--- All 0: `nn.zeros(2, 3)` or `nn.zeros({2, 3}, "i64")`.
---@param ... integer|integer[]|nnlua.dtype
---@return nnlua.Tensor
function nn.zeros(...) end

--- All 1: `nn.ones(2, 3)` or `nn.ones({2, 3}, "i64")`.
---@param ... integer|integer[]|nnlua.dtype
---@return nnlua.Tensor
function nn.ones(...) end

--- Elements that are zero, but do not count on it: `nn.empty(2, 3)` or `nn.empty({2, 3}, "i64")`.
---@param ... integer|integer[]|nnlua.dtype
---@return nnlua.Tensor
function nn.empty(...) end

--- Uniform draws in [0, 1): `nn.rand(2, 3)`.
---@param ... integer|integer[]
---@return nnlua.Tensor
function nn.rand(...) end

--- Standard normal draws: `nn.randn(2, 3)`.
---@param ... integer|integer[]
---@return nnlua.Tensor
function nn.randn(...) end

--- Zeros of x's shape, and of its dtype unless another is given.
---@param x nnlua.Tensor
---@param dtype? nnlua.dtype|{ dtype?: nnlua.dtype }
---@return nnlua.Tensor
function nn.zeros_like(x, dtype) end
Tensor.zeros_like = nn.zeros_like

--- Ones of x's shape, and of its dtype unless another is given.
---@param x nnlua.Tensor
---@param dtype? nnlua.dtype|{ dtype?: nnlua.dtype }
---@return nnlua.Tensor
function nn.ones_like(x, dtype) end
Tensor.ones_like = nn.ones_like

--- Whether value is a tensor.
---@param value any
---@return boolean
function nn.is_tensor(value) end

-- ---- what a tensor is, and reading it --------------------------------------------------------------------------------

--- The sizes of all dims, as a list. `x:size()` gives them one by one.
---@return integer[]
function Tensor:shape() end

--- All sizes, or the size of one dim.
---@param dim? integer
---@return integer ...
function Tensor:size(dim) end

--- How many dims.
---@return integer
function Tensor:dim() end

--- How many elements.
---@return integer
function Tensor:numel() end

--- What its elements are: "f32", "i64", ...
---@return nnlua.dtype
function Tensor:dtype() end

---@return string
function Tensor:device() end

--- Do its elements lie row-major without gaps?
---@return boolean
function Tensor:is_contiguous() end

--- The only element.
---@return number|boolean
function Tensor:item() end

--- Nested tables; a number or boolean for a scalar.
---@return any
function Tensor:totable() end

--- Elements first..last of the row-major order.
---@param first integer
---@param last integer
---@return table
function Tensor:elements(first, last) end

--- The elements as raw bytes, row-major; nn.from_string reads them back.
---@return string
function Tensor:tostring_bytes() end

-- ---- handles ---------------------------------------------------------------------------------------------------------

--- Another handle on the same value, with the same history.
---@return nnlua.Tensor
function Tensor:clone() end

--- The same value without its history.
---@return nnlua.Tensor
function Tensor:detach() end

--- Bind this handle to another value of the same shape and dtype. When the run that would compute it fails, the old value stays.
---@param value nnlua.Tensor
---@return nnlua.Tensor self
function Tensor:assign(value) end

--- Release the handle now; it cannot be used afterwards.
function Tensor:free() end

--- Outlive the scope in which the handle was made.
---@return nnlua.Tensor self
function Tensor:keep() end

--- False after free(), or when the scope of the handle has ended.
---@return boolean
function Tensor:is_alive() end

--- Convert to a dtype, or copy to a device (nothing is copied when the tensor is there). Differentiable.
---@param where nnlua.dtype|"cpu"|"vulkan"|string
---@return nnlua.Tensor
function Tensor:to(where) end

--- The elements as f32.
---@return nnlua.Tensor # as f32
function Tensor:float() end
--- The elements as f64.
---@return nnlua.Tensor # as f64
function Tensor:double() end
--- The elements as f16.
---@return nnlua.Tensor # as f16
function Tensor:half() end
--- The elements as i64.
---@return nnlua.Tensor # as i64
function Tensor:long() end
--- The elements as i32.
---@return nnlua.Tensor # as i32
function Tensor:int() end
--- The elements as u8.
---@return nnlua.Tensor # as u8
function Tensor:byte() end
--- The elements as bool.
---@return nnlua.Tensor # as bool
function Tensor:bool() end

-- ---- sums of products ------------------------------------------------------------------------------------------------

--- Sum of products over named dims, as in NumPy: `nn.einsum("bij,bjk->bik", a, b)`; `...` stands for any dims, a letter twice for a diagonal.
---@param equation string
---@param ... nnlua.Tensor|nnlua.Tensor[]
---@return nnlua.Tensor
function nn.einsum(equation, ...) end

-- ---- gradients -------------------------------------------------------------------------------------------------------

--- Ask whether the tensor takes part in differentiation; or make the handle a leaf that wants a gradient (true) or none (false).
---@overload fun(self: nnlua.Tensor): boolean
---@param on boolean
---@return nnlua.Tensor self
function Tensor:requires_grad(on) end

--- Add d(self)/d(leaf) to the gradient of every leaf that self depends on. A tensor that is no scalar needs a cotangent of its shape.
---@param cotangent? nnlua.Tensor
---@param options? { retain_graph?: boolean, create_graph?: boolean }
function Tensor:backward(cotangent, options) end

--- The gradient that backward() left here, or nil.
---@return nnlua.Tensor?
function Tensor:grad() end

--- Put a gradient where backward() would, or none.
---@param gradient? nnlua.Tensor nil clears it
---@return nnlua.Tensor self
function Tensor:set_grad(gradient) end

--- Gradients of outputs (times cotangents) by each of the inputs; nil for an input that is not reached.
---@param outputs nnlua.Tensor|nnlua.Tensor[]
---@param inputs nnlua.Tensor|nnlua.Tensor[]
---@param options? { cotangents?: nnlua.Tensor[], retain_graph?: boolean, create_graph?: boolean }
---@return nnlua.Tensor? ...
function nn.grad(outputs, inputs, options) end

--- No history while fn runs, or until the guard is closed: `local _ <close> = nn.no_grad()`.
---@param fn? function
---@param ... any arguments of fn
---@return any
function nn.no_grad(fn, ...) end

--- Whether history is kept; with an argument it changes that first and returns what it was.
---@param on? boolean
---@return boolean
function nn.grad_enabled(on) end

--- A function that gives fn's value and its gradients by each of its arguments.
---@param fn function tensors -> scalar tensor
---@return function
function nn.value_and_grad(fn) end

--- A function with a gradient of your own: `forward(...)` is not differentiated and may return, behind its result, what `backward(d, saved...)` needs.
---@param options { forward: function, backward: function }
---@return function
function nn.custom(options) end

--- x with fn(d) called on its gradient during backward; what fn returns, unless nil, takes the gradient's place.
---@param x nnlua.Tensor
---@param fn function
---@return nnlua.Tensor
function nn.hook(x, fn) end
Tensor.hook = nn.hook

--- The raw labels of the likeliest classes of predictions, or of class ids. What model:predict gives knows its labels, where the model was trained on
--- a data set that has them.
---@param encoder? nnlua.LabelEncoder|any[]
---@return any[]
function Tensor:labels(encoder) end

--- Value of fn at x, and its derivative along v (tensors, or lists of them).
---@param fn function
---@param x nnlua.Tensor|nnlua.Tensor[]
---@param v nnlua.Tensor|nnlua.Tensor[]
---@return nnlua.Tensor, nnlua.Tensor
function nn.jvp(fn, x, v) end

--- Value of the scalar function fn at x, and the product of its Hessian with v, one for each argument.
---@param fn function
---@param x nnlua.Tensor|nnlua.Tensor[]
---@param v nnlua.Tensor|nnlua.Tensor[]
---@return nnlua.Tensor ...
function nn.hvp(fn, x, v) end

--- Compares the gradient of fn with central differences: true, or false and what differs.
---@param fn function
---@param inputs nnlua.Tensor|nnlua.Tensor[]
---@param options? { eps?: number, atol?: number, rtol?: number }
---@return boolean, string?
function nn.gradcheck(fn, inputs, options) end

--- One step of SGD: parameters and velocities are bound to their new values; it runs at once but with `defer`. nn.optim.SGD is made of it.
---@param parameters nnlua.Tensor[]
---@param velocities? nnlua.Tensor[]
---@param options { lr?: number, momentum?: number, nesterov?: boolean, weight_decay?: number, dampening?: number, defer?: boolean }
function nn.sgd_step(parameters, velocities, options) end

--- One step of Adam; with weight_decay AdamW. It runs at once but with `defer`. nn.optim.Adam is made of it.
---@param parameters nnlua.Tensor[]
---@param first nnlua.Tensor[]
---@param second nnlua.Tensor[]
---@param options { lr?: number, beta1?: number, beta2?: number, eps?: number, weight_decay?: number, step: integer, defer?: boolean }
function nn.adam_step(parameters, first, second, options) end

-- ---- running ---------------------------------------------------------------------------------------------------------

--- Run all that is recorded.
function nn.eval() end

--- Have the value computed now.
---@return nnlua.Tensor self
function Tensor:eval() end

--- Run each call by itself; returns the previous setting.
---@param on? boolean
---@return boolean
function nn.eager(on) end

--- Convolutions without Winograd's method: slower, errors near 1e-6 instead of 1e-5; returns the previous setting.
---@param on? boolean
---@return boolean
function nn.exact(on) end

--- May products of f32 matrices be rounded? "highest" (the start) and "high": no, they are f32 throughout; "medium": operands may be rounded to f16 (a
--- magnitude above 65504 becomes infinite) with sums in f32, on devices with cooperative matrices. Nothing changes on the CPU. Returns the previous setting.
---@param precision? "highest"|"high"|"medium"
---@return "highest"|"high"|"medium"
function nn.matmul_precision(precision) end

--- How many threads compute; with an argument it changes that first. Results never depend on it.
---@param n? integer
---@return integer
function nn.threads(n) end

--- Handles made until the scope is closed expire with it, unless kept: `local scope <close> = nn.scope()`.
---@return { keep: fun(self: any, ...: nnlua.Tensor), close: fun(self: any) }
function nn.scope() end

--- Restart the stream of random numbers.
---@param seed integer
function nn.seed(seed) end

--- Where the stream of random numbers stands.
---@return { seed: integer, position: integer }
function nn.rng_state() end

--- Go on from where rng_state() stood.
---@param state { seed: integer, position: integer }
function nn.set_rng_state(state) end

--- Bytes in tensors, kept for re-use, most ever live, ever handed out: of all devices together, or of one.
---@param device? string
---@return { live: integer, cached: integer, peak: integer, allocated: integer }
function nn.memory(device) end

--- What can compute here: the CPU first, then the Vulkan devices; printed, one line each. kind is "cpu", "discrete", "integrated", "virtual" or "software".
---@return { name: string, title: string, kind: string, driver: string, memory: integer, subgroup: integer, features: string }[]
function nn.devices() end

--- Names of the kernels that only the CPU has; nn.supported() says which operators need them.
---@return string[]
function nn.kernels_without_vulkan() end

--- What the driver of a Vulkan device says of it, in lines "name: value": limits, heaps, and the cooperative matrices of both extensions (M x N x K,
--- types of a, b, c and the result). nil and a message when there is no such device.
---@param name string
---@return string?, string?
function nn.device_properties(name) end

--- The device where tensors are made that nothing else decides; with a name, choose it. nil and a message when there is no such device. With "auto"
--- fit times its first steps on the CPU and on each GPU, and keeps the fastest.
---@param name? "cpu"|"vulkan"|"auto"|string "vulkan" is the first of the Vulkan devices, "vulkan:2" the second
---@return string?, string?
function nn.device(name) end

--- Bind the handle of a variable to a copy on a device (what Module:to does with every weight).
---@param x nnlua.Tensor
---@param device string
function nn.move(x, device) end

---`local _ <close> = nn.here(x)`: until the block ends tensors are made where x lies. For functions that make tensors beside those they are given.
---@param x nnlua.Tensor
---@return any closing
function nn.here(x) end

--- Run what is pending and wait until every device has done it.
function nn.finish() end

--- Give memory that is kept for re-use back to the system.
function nn.memory_trim() end

--- What was run so far: runs, plans found and made, operators, kernels, transfers.
---@return { runs: integer, plan_hits: integer, plan_misses: integer, nodes: integer, units: integer }
function nn.run_stats() end

--- Every operator.
---@return { name: string, signature: string, doc: string, differentiable: boolean }[]
function nn.ops() end
