#!/usr/bin/env python3
"""Writes small picture models with what exporters put into graphs, and what ONNX Runtime makes of the demo's pictures.

usage: make_models.py [FOLDER]          (the folder `models` beside this script, without an argument)
needs: numpy, onnx, onnxruntime, Pillow

Each NAME.onnx has a NAME.csv: for each picture, sorted by name, the file, the most likely class and its probability,
as the example scripts compute them: Pillow's bicubic resize, softmax over what the model gives.
Weights are drawn with a seed, so that running this again gives the same files with the same libraries.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = pathlib.Path(__file__).parent
PICTURES = sorted((HERE.parent.parent / "host/demo/pictures").iterdir())
SIDE, CLASSES = 16, 6


class Graph:
    """Nodes in order; every method takes and gives names of values."""

    def __init__(self, seed, shape, element=TensorProto.FLOAT):
        self.nodes, self.constants = [], []
        self.random = np.random.default_rng(seed)
        self.input = helper.make_tensor_value_info("input", element, ["N", *shape])

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def floats(self, *values):
        return self.constant(np.array(values, np.float32))

    def channels(self, *values):
        return self.constant(np.array(values, np.float32).reshape(1, -1, 1, 1))

    def op(self, kind, *inputs, **attributes):
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def conv(self, x, before, after, kernel=3, stride=1, group=1):
        shape = (after, before // group, kernel, kernel)
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights = self.constant((self.random.standard_normal(shape) * scale).astype(np.float32))
        bias = self.constant(self.random.normal(0, 0.1, after).astype(np.float32))
        attributes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        return self.op("Conv", x, weights, bias, **attributes)

    def norm(self, x, channels):
        draw = [(0.7, 1.3), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)]
        values = [self.constant(self.random.uniform(*d, channels).astype(np.float32)) for d in draw]
        return self.op("BatchNormalization", x, *values)

    def relu(self, x):
        return self.op("Relu", x)

    def head(self, x, channels):
        """Logits; [`calibrate`] makes them differ as much as a trained network's."""
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        weights = self.constant(self.random.standard_normal((CLASSES, channels)).astype(np.float32))
        return self.op("Gemm", x, weights, self.floats(*[0] * CLASSES), transB=1)

    def model(self, name, output):
        self.nodes[-1].output[0] = "output"
        assert output == self.nodes[-1].name
        result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", CLASSES])
        graph = helper.make_graph(self.nodes, name, [self.input], [result], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def trunk(g, x):
    x = g.relu(g.norm(g.conv(x, 3, 8, stride=2), 8))
    return g.head(g.relu(g.conv(x, 8, 12)), 12)


def preprocessing_inside(name):
    """Floats in [0, 1], normalised by the graph: Sub, Div, Mul with one number per channel and with one in all."""
    g = Graph(1, (3, SIDE, SIDE))
    x = g.op("Sub", "input", g.channels(0.485, 0.456, 0.406))
    x = g.op("Div", x, g.channels(0.229, 0.224, 0.225))
    x = g.op("Mul", x, g.floats(0.5))
    return g.model(name, trunk(g, x))


def bytes_channels_last(name):
    """Pictures as they are stored, the way that TensorFlow's exporters take them; Softmax at the end."""
    g = Graph(2, (SIDE, SIDE, 3), TensorProto.UINT8)
    x = g.op("Cast", "input", to=TensorProto.FLOAT)
    x = g.op("Transpose", x, perm=[0, 3, 1, 2])
    x = g.op("Sub", g.op("Div", x, g.floats(127.5)), g.floats(1))
    return g.model(name, g.op("Softmax", trunk(g, x), axis=-1))


def floats_channels_last(name):
    g = Graph(3, (SIDE, SIDE, 3))
    x = g.op("Transpose", "input", perm=[0, 3, 1, 2])
    return g.model(name, g.op("Softmax", trunk(g, x), axis=1))


def zero_padded_shortcut(name):
    """The first ResNets' shortcut: every other pixel, and zeros for the channels that are missing."""
    g = Graph(4, (3, SIDE, SIDE))
    x = g.relu(g.norm(g.conv("input", 3, 8), 8))
    y = g.norm(g.conv(g.relu(g.norm(g.conv(x, 8, 16, stride=2), 16)), 16, 16), 16)
    ends = np.iinfo(np.int64).max
    numbers = lambda *values: g.constant(np.array(values, np.int64))
    short = g.op("Slice", x, numbers(0, 0), numbers(ends, ends), numbers(2, 3), numbers(2, 2))
    short = g.op("Pad", short, numbers(0, 4, 0, 0, 0, 4, 0, 0), g.constant(np.array(0, np.float32)))
    return g.model(name, g.head(g.relu(g.op("Add", y, short)), 16))


def groups(name):
    """Grouped as ResNeXt, then by channel as MobileNet."""
    g = Graph(5, (3, SIDE, SIDE))
    x = g.relu(g.norm(g.conv("input", 3, 16, stride=2), 16))
    x = g.relu(g.norm(g.conv(x, 16, 16, group=4), 16))
    x = g.relu(g.norm(g.conv(x, 16, 16, group=16, stride=2), 16))
    return g.model(name, g.head(g.relu(g.conv(x, 16, 24, kernel=1)), 24))


MODELS = [preprocessing_inside, bytes_channels_last, floats_channels_last, zero_padded_shortcut, groups]


def run(model):
    """The first output for each picture."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    for path in PICTURES:
        x = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BICUBIC))
        if given.shape[-1] != 3:
            x = x.transpose(2, 0, 1)
        if given.type == "tensor(float)":
            x = x.astype(np.float32) / 255
        yield session.run(None, {given.name: x[None]})[0][0]


def calibrate(model):
    """Sets the last layer so that its logits have a mean of 0 and a deviation of 2 over the pictures."""
    (gemm,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output[0].name = gemm.output[0]
    logits = np.stack(list(run(probe)))
    factor = 2 / (logits - logits.mean(0)).std()
    constants = {constant.name: constant for constant in model.graph.initializer}
    weights, bias = (constants[name] for name in gemm.input[1:])
    for constant, value in [(weights, numpy_helper.to_array(weights) * factor), (bias, -logits.mean(0) * factor)]:
        constant.CopyFrom(numpy_helper.from_array(value.astype(np.float32), constant.name))


def scored(model):
    softmax = lambda y: np.exp(y - y.max()) / np.exp(y - y.max()).sum()
    return [(path.name, int(y.argmax()), float(softmax(y).max())) for path, y in zip(PICTURES, run(model))]


def of_four(name, nodes, width, constants=()):
    """A model that takes rows of four numbers."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", width])],
        list(constants),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "models"
    folder.mkdir(exist_ok=True)
    for make in MODELS:
        name = make.__name__.replace("_", "-")
        model = make(name)
        calibrate(model)
        rows = scored(model)
        # A model that says the same of every picture would test nothing.
        assert len({c for _, c, _ in rows}) > 1, name
        onnx.save(model, folder / f"{name}.onnx")
        (folder / f"{name}.csv").write_text("".join(f"{n} {c} {p:.7f}\n" for n, c, p in rows))
    onnx.save(of_four("not-pictures", [helper.make_node("Relu", ["input"], ["output"])], 4), folder / "not-pictures.onnx")
    # A MiB of floats for each row, which its output does not tell.
    repeats = numpy_helper.from_array(np.array([1, 1 << 16], np.int64), "repeats")
    tile = helper.make_node("Tile", ["input", "repeats"], ["output"])
    onnx.save(of_four("free-sizes", [tile], "M", [repeats]), folder / "free-sizes.onnx")


if __name__ == "__main__":
    main()
