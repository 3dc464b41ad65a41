#!/usr/bin/env python3
"""Writes pictures of coloured shapes and what ONNX Runtime makes of them with a model, as input_0.pb and output_0.pb into
networks/NAME/ beside this file. The model itself is not copied.

usage: make_network.py MODEL.onnx        e.g. make_network.py ../../../../demo/model/resnet14v2-shapes.onnx
needs: numpy, onnx, onnxruntime
"""
import pathlib, sys
import numpy as np, onnxruntime as ort
from onnx import numpy_helper as nh


def pictures(count, size):
    """Discs of one colour on another, with some noise: RGB from 0 to 1."""
    rng = np.random.default_rng(14)
    y, x = np.mgrid[:size, :size]
    made = []
    for _ in range(count):
        (cy, cx), radius = rng.uniform(size * 0.3, size * 0.7, 2), rng.uniform(size * 0.15, size * 0.4)
        inside = ((y - cy) ** 2 + (x - cx) ** 2 < radius**2)[None]
        front, back = rng.uniform(0, 1, (2, 3, 1, 1))
        made.append(np.where(inside, front, back) + rng.normal(0, 0.02, (3, size, size)))
    return np.stack(made).clip(0, 1).astype(np.float32)


model = pathlib.Path(sys.argv[1])
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
port = session.get_inputs()[0]
x = pictures(4, port.shape[2])
y = session.run(None, {port.name: x})[0]
folder = pathlib.Path(__file__).parent / "networks" / model.stem
folder.mkdir(parents=True, exist_ok=True)
(folder / "input_0.pb").write_bytes(nh.from_array(x, port.name).SerializeToString())
(folder / "output_0.pb").write_bytes(nh.from_array(y, "y").SerializeToString())
print(f"{folder}: {x.shape} -> {y.shape}, classes {y.argmax(1).tolist()}")
