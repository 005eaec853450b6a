#!/usr/bin/env python3
"""Writes tests/golden/keras_rnn.lua from files that Keras 3 wrote: a Sequential of Embedding, GRU, Bidirectional LSTM and Dense as HDF5, and a file
with its inputs and outputs (rnn/x0, rnn/y). python3 tests/golden/make_keras_rnn.py rnn.h5 expected.h5 > tests/golden/keras_rnn.lua"""
import sys
import textwrap

import h5py


def numbers(a):
    return "{{%s}, {%s}}" % (", ".join(map(str, a.shape)), ", ".join("%.9g" % v for v in a.reshape(-1)))


def show(text):
    print("\n".join(textwrap.wrap(text, 148, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)))


model, expected = h5py.File(sys.argv[1]), h5py.File(sys.argv[2])
print("-- Made by make_keras_rnn.py from files of Keras %s: a model's configuration, weights (name, shape, values), input and output." %
      model.attrs["keras_version"])
print("return {\n  config=[==[")
show(model.attrs["model_config"])
print("  ]==],\n  weights={")
groups = model["model_weights"]
for layer in groups.attrs["layer_names"]:
    for name in groups[layer].attrs["weight_names"]:
        show('{"%s", %s},' % (name, numbers(groups[layer][name][()])))
print("  },")
show("x=%s," % numbers(expected["rnn/x0"][()]))
show("y=%s}" % numbers(expected["rnn/y"][()]))
