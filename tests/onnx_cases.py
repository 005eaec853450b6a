#!/usr/bin/python3
"""Write the cases that the package onnx (Debian: python3-onnx) generates for its operators into a folder, for onnx_spec.lua.

    onnx_cases.py FOLDER

FOLDER/cases.json: { collected: how many there are, cases: [case], left: [{name, why}] }. A case is {name, rtol, atol, nodes, inputs, outputs}: a node
{op, attributes, inputs, outputs} names its tensors, "" where an optional one is absent; the case's inputs and outputs are [name, tensor]. A tensor is
{dtype, shape, at, bytes} with its elements, row-major and little-endian, at that place of FOLDER/data.bin, {sequence} where it is a list of them, and {odd} where it is neither.
`was` is the dtype in the case where nnlua has none of that name or numpy none for its bytes: small integers come as i32, unsigned ones as i64, bf16 as f32.
Leaves with status 3 and a line of text when onnx is not installed.
"""
import json
import os
import sys
import warnings

DTYPES = {
    "float32": ("f32", None), "float64": ("f64", None), "float16": ("f16", None), "bool": ("bool", None), "uint8": ("u8", None),
    "int8": ("i32", "i8"), "int16": ("i32", "i16"), "int32": ("i32", None), "int64": ("i64", None),
    "uint16": ("i32", "u16"), "uint32": ("i64", "u32"), "uint64": ("i64", "u64"),
}
NUMPY = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "bool": "|u1", "u8": "|u1", "i32": "<i4", "i64": "<i8"}
BFLOAT16 = 16  # TensorProto.BFLOAT16: its elements come as bit patterns


def main(folder):
    try:
        import numpy as np
        for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
            if name not in np.__dict__:  # onnx 1.12 uses names that NumPy has dropped since
                setattr(np, name, kind)
        import onnx
        from onnx.backend.test.case.model import collect_testcases as models
        from onnx.backend.test.case.node import collect_testcases as operators
    except ImportError as e:
        print("the package onnx is not installed (Debian: python3-onnx):", e)
        return 3

    data = open(os.path.join(folder, "data.bin"), "wb")

    def tensor(value, element=None):
        if isinstance(value, list) and all(isinstance(v, np.ndarray) for v in value):
            return {"sequence": [tensor(v, element) for v in value]}
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
        if isinstance(value, list) and all(isinstance(v, bytes) for v in value):
            return [v.decode() for v in value]
        return {"odd": type(value).__name__}

    def named(infos, values):
        return [[i.name, tensor(v, i.type.tensor_type.elem_type)] for i, v in zip(infos, values)]

    cases, left = [], []
    every = list(operators(None)) + list(models())
    for case in every:
        if case.model is None:
            left.append({"name": case.name, "why": "a whole network, to be downloaded"})
            continue
        graph = case.model.graph
        inputs, outputs = case.data_sets[0]
        constant = {t.name: tensor(onnx.numpy_helper.to_array(t)) for t in graph.initializer}
        given = [i for i in graph.input if i.name not in constant]
        if len(case.data_sets) != 1 or len(inputs) != len(given) or len(outputs) != len(graph.output):
            sys.exit("%s has a form that this script does not know" % case.name)
        cases.append({
            "name": case.name, "rtol": case.rtol, "atol": case.atol,
            "nodes": [{"op": n.op_type, "attributes": {a.name: attribute(a) for a in n.attribute}, "inputs": list(n.input), "outputs": list(n.output)}
                      for n in graph.node],
            "inputs": named(given, inputs) + [[name, t] for name, t in constant.items()],
            "outputs": named(graph.output, outputs),
        })
    data.close()
    with open(os.path.join(folder, "cases.json"), "w") as f:
        json.dump({"collected": len(every), "cases": cases, "left": left}, f)
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    sys.exit(main(sys.argv[1]))
