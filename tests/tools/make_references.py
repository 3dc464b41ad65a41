#!/usr/bin/env python3
"""Writes ResNets of make_resnet.py, each in a folder of its own with an input and what ONNX Runtime makes of it, in the
layout of ONNX's own tests: model.onnx, input_0.pb, output_0.pb; and output_0_of_rounded_weights.pb, what it makes if input
and weights are rounded to 16 bits. The engine's tests read them.

usage: make_references.py FOLDER [--depths 18,50,152] [--size 64] [--rows 2]
needs: numpy, onnx, onnxruntime, pillow
"""
import argparse, pathlib, subprocess, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import numpy_helper as nh
from PIL import Image

def picture(rng, size):
    """A smooth random picture, channels first, from 0 to 1."""
    small = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8))
    return np.asarray(small.resize((size, size), Image.BICUBIC), np.float32).transpose(2, 0, 1) / 255

def run(model, x): return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]

def rounded(path, x):
    model, half = onnx.load(path), lambda a: a.astype(np.float16).astype(np.float32)
    for i in model.graph.initializer:
        i.CopyFrom(nh.from_array(half(nh.to_array(i)) if len(i.dims) == 4 else nh.to_array(i), i.name))
    return run(model.SerializeToString(), half(x))

def save(path, name, a): path.write_bytes(nh.from_array(a, name).SerializeToString())

def make(folder, depth, version, size, rows):
    folder.mkdir(parents=True, exist_ok=True)
    tool = pathlib.Path(__file__).with_name("make_resnet.py")
    arguments = ["--depth", depth, "--version", version, "--size", size]
    subprocess.run([sys.executable, tool, folder / "model.onnx", *map(str, arguments)], check=True)
    rng = np.random.default_rng(1)
    x = np.stack([picture(rng, size) for _ in range(rows)])
    save(folder / "input_0.pb", "input", x)
    save(folder / "output_0.pb", "logits", run(folder / "model.onnx", x))
    # Last: a folder that was broken off is made again.
    save(folder / "output_0_of_rounded_weights.pb", "logits", rounded(folder / "model.onnx", x))

if __name__ == "__main__":
    p = argparse.ArgumentParser(); p.add_argument("folder", type=pathlib.Path); p.add_argument("--depths", default="18,50,152")
    p.add_argument("--size", type=int, default=64); p.add_argument("--rows", type=int, default=2); a = p.parse_args()
    for depth in a.depths.split(","):
        for version in (1, 2):
            folder = a.folder / f"resnet{depth}v{version}-{a.size}"
            if not (folder / "output_0_of_rounded_weights.pb").exists():
                make(folder, depth, version, a.size, a.rows)
