#!/usr/bin/python3
"""Write the numeric cases that the package onnx (Debian: python3-onnx) generates for its operators into a folder, for onnx_spec.lua.

    onnx_cases.py FOLDER

FOLDER/cases.json: a list of cases {name, op, rtol, atol, attributes, inputs, outputs}; a tensor is {dtype, shape, at, bytes} with its elements,
row-major and little-endian, at that place of FOLDER/data.bin, null where an optional one is absent, and {odd} where it is no tensor of numbers. `was` is the
dtype in the case where nnlua's differs or has no bytes for it: 64- and 16-bit floats come as f32, small integers as i32, unsigned ones as i64.
Leaves with status 3 and a line of text when onnx is not installed. Cases of functions written out in other operators are left out: they repeat others.
"""
import json
import os
import sys
import warnings

DTYPES = {
    "float32": ("f32", None), "float64": ("f32", "f64"), "float16": ("f32", "f16"), "bool": ("bool", None), "uint8": ("u8", None),
    "int8": ("i32", "i8"), "int16": ("i32", "i16"), "int32": ("i32", None), "int64": ("i64", None),
    "uint16": ("i32", "u16"), "uint32": ("i64", "u32"), "uint64": ("i64", "u64"),
}
NUMPY = {"f32": "<f4", "bool": "|u1", "u8": "|u1", "i32": "<i4", "i64": "<i8"}
BFLOAT16 = 16  # TensorProto.BFLOAT16: its elements come as bit patterns


def main(folder):
    try:
        import numpy as np
        for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
            if name not in np.__dict__:  # onnx 1.12 uses names that NumPy has dropped since
                setattr(np, name, kind)
        import onnx
        from onnx.backend.test.case.node import collect_testcases
    except ImportError as e:
        print("the package onnx is not installed (Debian: python3-onnx):", e)
        return 3

    data = open(os.path.join(folder, "data.bin"), "wb")

    def tensor(value, element=None):
        if value is None:
            return None
        if not isinstance(value, (np.ndarray, np.generic)) or np.asarray(value).dtype.name not in DTYPES:
            return {"odd": type(value).__name__}
        value = np.asarray(value)
        dtype, was = DTYPES[value.dtype.name]
        if element == BFLOAT16:
            value, dtype, was = (value.astype(np.uint32) << 16).view(np.float32), "f32", "bf16"
        raw = np.ascontiguousarray(value.astype(NUMPY[dtype])).tobytes()
        out = {"dtype": dtype, "shape": list(value.shape), "at": data.tell(), "bytes": len(raw)}
        if was:
            out["was"] = was
        data.write(raw)
        return out

    def attribute(a):
        value = onnx.helper.get_attribute_value(a)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, onnx.TensorProto):
            return tensor(onnx.numpy_helper.to_array(value))
        if isinstance(value, (int, float, str)):
            return value
        if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
            return value
        return {"odd": type(value).__name__}

    def named(names, infos, values):
        """One entry per name, None for an empty one."""
        values, kinds = iter(values), {i.name: i.type.tensor_type.elem_type for i in infos}
        return [tensor(next(values), kinds.get(n)) if n else None for n in names]

    cases = []
    for case in collect_testcases(None):
        graph = case.model.graph
        if len(graph.node) != 1 or "_expanded" in case.name:
            continue
        node = graph.node[0]
        inputs, outputs = case.data_sets[0]
        cases.append({
            "name": case.name, "op": node.op_type, "rtol": case.rtol, "atol": case.atol,
            "attributes": {a.name: attribute(a) for a in node.attribute},
            "inputs": named(node.input, graph.input, inputs), "outputs": named(node.output, graph.output, outputs),
        })
    data.close()
    with open(os.path.join(folder, "cases.json"), "w") as f:
        json.dump(cases, f)
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main(sys.argv[1]))
