# Makes the HDF5 files of tests/h5_foreign_spec.lua with h5py: what other programs write, and what a reader must refuse.
#   python3 make_foreign_h5.py FOLDER
import os
import sys

import h5py
import numpy as np

folder = sys.argv[1]


def file(name, **options):
    return h5py.File(os.path.join(folder, name), "w", **options)


with file("kinds.h5") as f:  # every kind of element and attribute that is read
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8", ">i4", ">f4", ">f2"):
        f["numbers/" + kind.replace(">", "big_")] = np.array([[1, 2, 3], [100, 5, 6]], dtype=kind)
    f["truth"] = np.array([True, False, True])
    f["scalar"] = np.float64(2.5)
    f["none"] = np.zeros((0, 3), dtype="f4")
    f.create_dataset("packed", data=np.arange(5000, dtype="f4").reshape(50, 100), compression="gzip", shuffle=True, fletcher32=True)
    f.attrs["text"] = "h\u00e9llo"
    f.attrs["fixed"] = np.bytes_("abc")
    f.attrs["texts"] = ["a", "", "ccc"]
    f.attrs["fixed_texts"] = np.array([b"x", b"yy"])
    f.attrs["empty"] = []
    f.attrs["int"] = np.int16(-3)
    f.attrs["float"] = np.float32(0.5)
    f.attrs["array"] = np.arange(4)  # left out
    f["type"] = np.dtype("f8")  # a named type: left out

with file("latest.h5", libver="latest") as f:
    f["x"] = np.arange(6, dtype="f4")

# ---- refused --------------------------------------------------------------------------------------------------------------
with file("soft.h5") as f:
    f["a"] = np.arange(3)
    f["b"] = h5py.SoftLink("/a")
with file("link.h5") as f:
    f["b"] = h5py.ExternalLink("kinds.h5", "/scalar")
with file("alias.h5") as f:
    f["a"] = np.arange(3)
    f["b"] = f["a"]
with file("cycle.h5") as f:
    g = f.create_group("g")
    g["again"] = g
with open(os.path.join(folder, "secret"), "wb") as f:
    f.write(b"0123456789abcdef")
with file("external.h5") as f:
    f.create_dataset("x", shape=(16,), dtype="u1", external=[(os.path.join(folder, "secret"), 0, 16)])
with file("virtual.h5") as f:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f4")
    layout[:] = h5py.VirtualSource(os.path.join(folder, "latest.h5"), "x", shape=(6,))
    f.create_virtual_dataset("v", layout)
with file("bomb.h5") as f:  # declares 8 PiB, holds nothing
    f.create_dataset("x", shape=(1 << 50,), dtype="f8", chunks=(1 << 10,))
with file("packed_bomb.h5") as f:  # 64 MiB in a few hundred kB
    f.create_dataset("x", data=np.repeat(np.random.default_rng(1).random(1 << 14, dtype="f4"), 1 << 10), compression="gzip", chunks=(1 << 20,))
with file("texts.h5") as f:
    f["x"] = np.array([b"a", b"b"])
with file("compound.h5") as f:
    f["x"] = np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])
with file("filter.h5") as f:
    f.create_dataset("x", data=np.zeros(100), compression="lzf")
with file("deep.h5") as f:
    f.create_group("/".join(["g"] * 40))
