#!/usr/bin/env python3
"""Writes tests/golden/keras_defaults.lua: names and defaults of the options of Keras's classes, and which layers know of masks, read from its source
(nothing of it runs). Run it again only for another version: python3 tests/golden/make_keras_defaults.py KERAS > tests/golden/keras_defaults.lua, where KERAS is a
checkout of Keras 3."""
import ast
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1]) / "keras" / "src"
families = {"layers": "layers", "optimizers": "optimizers", "losses": "losses", "metrics": "metrics", "initializers": "initializers",
            "regularizers": "regularizers", "constraints": "constraints", "schedules": "optimizers/schedules"}


def to_lua(node):
    try:
        v = ast.literal_eval(node)
    except ValueError:
        return '"?"'  # an expression
    if v is None:
        return '"None"'
    if isinstance(v, bool):
        return str(v).lower()
    if isinstance(v, (int, float)):
        return "%r" % v
    if isinstance(v, str):
        return '"%s"' % v
    if isinstance(v, (tuple, list)):
        return "{ %s }" % ", ".join(to_lua(ast.Constant(x)) for x in v)
    return '"?"'


print("-- Written by make_keras_defaults.py from the source of Keras %s: class = { { option, default }, ... }; a default of None is \"None\", an\n"
      "-- expression \"?\", a missing one nil." % re.search(r'__version__ = "(.*)"', (root / "version.py").read_text()).group(1))
print("return {")
bodies, bases = {}, {}  # of every class of the layers
for path in sorted((root / "layers").rglob("*.py")):
    if not path.name.endswith("_test.py"):
        for c in ast.parse(path.read_text()).body:
            if isinstance(c, ast.ClassDef):
                bodies[c.name], bases[c.name] = ast.unparse(c), [ast.unparse(b).split(".")[-1] for b in c.bases]


def masks(name):
    if name not in bodies or name == "Layer":
        return False
    return bool(re.search(r"supports_masking = True|def compute_mask", bodies[name])) or any(masks(b) for b in bases[name])


exported = []
for family, folder in families.items():
    print("  %s = {" % family)
    found = {}
    for path in sorted((root / folder).rglob("*.py")):
        if path.name.endswith("_test.py") or family == "optimizers" and "schedules" in path.parts:
            continue
        for c in ast.parse(path.read_text()).body:
            if not isinstance(c, ast.ClassDef) or not any("keras_export" in ast.dump(d) for d in c.decorator_list):
                continue
            if family == "layers" and masks(c.name):
                exported.append(c.name)
            init = [f for f in c.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            if not init:
                continue
            a = init[0].args
            names = [p.arg for p in a.args[1:]]
            defaults = [None] * (len(names) - len(a.defaults)) + list(a.defaults)
            pairs = list(zip(names, defaults)) + list(zip([p.arg for p in a.kwonlyargs], a.kw_defaults))
            found[c.name] = ['{ "%s"%s }' % (n, ", " + to_lua(d) if d is not None else "") for n, d in pairs]
    for name, row in sorted(found.items()):
        line = "    %s = {" % name
        for entry in row:
            if len(line) + len(entry) > 145:
                print(line)
                line = "      "
            line += (" " if not line.endswith(" ") else "") + entry + ","
        print(line.rstrip(",") + " },")
    print("  },")
print("  masks = {")
line = "   "
for name in sorted(exported):
    if len(line) + len(name) > 140:
        print(line)
        line = "   "
    line += ' "%s",' % name
print(line + "\n  },\n}")
