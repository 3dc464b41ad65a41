#!/usr/bin/env python3
"""Writes small ONNX models with inputs, and the outputs that ONNX Runtime computes for them, into operations/ beside this
file: one folder per case with model.onnx, input_0.pb and output_N.pb, the layout of the ONNX standard's own tests.

The engine's tests run every folder. A new operation gets its cases here, behind the others: random numbers follow on from
case to case, so that those before keep theirs. Run this again and check the folders in.

usage: make_operations.py [NAME]...    only the cases of these names, or all
needs: numpy, onnx, onnxruntime
"""
import pathlib, shutil, sys
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

OUT = pathlib.Path(__file__).parent / "operations"
RNG = np.random.default_rng(20)
PICTURE = (3, 9, 7)  # odd on purpose, and one channel short of a quad
TYPES = {np.dtype("float32"): T.FLOAT, np.dtype("uint8"): T.UINT8}


def floats(*shape):
    return RNG.normal(0, 1, shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(kind, inputs, output="y", **attributes):
    return h.make_node(kind, inputs.split(), output.split(), **attributes)


def write(name, nodes, constants=None, x=None, opset=17, fixed_batch=False, outputs=(("y", T.FLOAT),)):
    x = floats(2, *PICTURE) if x is None else x
    constants = [nh.from_array(a, n) for n, a in (constants or {}).items()]
    shape = [2 if fixed_batch else "N", *x.shape[1:]]
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        return
    graph = h.make_graph(nodes, name, [h.make_tensor_value_info("x", TYPES[x.dtype], shape)],
                         [h.make_tensor_value_info(y, element, None) for y, element in outputs], constants)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model)
    made = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "input_0.pb").write_bytes(nh.from_array(x, "x").SerializeToString())
    for at, (y, (output, _)) in enumerate(zip(made, outputs, strict=True)):
        (folder / f"output_{at}.pb").write_bytes(nh.from_array(y, output).SerializeToString())
    print(f"{name}: {x.shape} -> {', '.join(str(y.shape) for y in made)}")


def convolutions():
    w = floats(5, 3, 3, 3)
    write("conv", [node("Conv", "x w b")], {"w": w, "b": floats(5)})
    write("conv-strides-uneven-pads", [node("Conv", "x w", strides=[2, 3], pads=[1, 2, 0, 1])], {"w": w})
    write("conv-dilations", [node("Conv", "x w", dilations=[2, 3], pads=[2, 2, 2, 2])], {"w": w})
    write("conv-same-upper", [node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": floats(5, 3, 4, 2)})
    write("conv-same-lower", [node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": floats(5, 3, 4, 2)})
    write("conv-valid", [node("Conv", "x w", auto_pad="VALID")], {"w": w})
    x = floats(2, 12, 6, 5)
    write("conv-groups", [node("Conv", "x w b", group=3, pads=[1] * 4)], {"w": floats(6, 4, 3, 3), "b": floats(6)}, x)
    write("conv-resnext", [node("Conv", "x w", group=2, pads=[1] * 4)], {"w": floats(16, 6, 3, 3)}, x)
    write("conv-depthwise", [node("Conv", "x w", group=12, strides=[2, 2], pads=[1] * 4)], {"w": floats(12, 1, 3, 3)}, x)
    write("conv-half-weights", [node("Cast", "w16", "w", to=T.FLOAT), node("Conv", "x w")], {"w16": w.astype(np.float16)})


def pools():
    pads = dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    write("max-pool", [node("MaxPool", "x", **pads)])
    write("max-pool-ceil", [node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)])
    write("max-pool-dilations", [node("MaxPool", "x", kernel_shape=[3, 2], dilations=[2, 3])])
    write("average-pool", [node("AveragePool", "x", **pads)])
    write("average-pool-padding-counts", [node("AveragePool", "x", count_include_pad=1, **pads)])
    write("average-pool-ceil", [node("AveragePool", "x", ceil_mode=1, kernel_shape=[2, 2], strides=[2, 2])])
    write("average-pool-ceil-padding-counts", [node("AveragePool", "x", ceil_mode=1, count_include_pad=1, kernel_shape=[3, 3],
                                                    strides=[2, 2], pads=[1, 0, 0, 1])], opset=19)
    write("global-average-pool", [node("GlobalAveragePool", "x")])
    write("reduce-mean-setting", [node("ReduceMean", "x", axes=[2, 3], keepdims=0)], opset=13)
    write("reduce-mean-input", [node("ReduceMean", "x axes", keepdims=1)], {"axes": ints(-1, -2)}, opset=18)


def blocks():
    def norm(c):
        return {"s": floats(c), "b": floats(c), "m": floats(c), "v": np.abs(floats(c)) + np.float32(0.1)}
    write("conv-norm-relu", [node("Conv", "x w", "c"), node("BatchNormalization", "c s b m v", "n", epsilon=1e-3), node("Relu", "n")],
          {"w": floats(5, 3, 3, 3), **norm(5)})
    write("norm-relu-conv-padded", [node("BatchNormalization", "x s b m v", "n"), node("Relu", "n", "r"),
                                    node("Conv", "r w", pads=[1] * 4)], {"w": floats(5, 3, 3, 3), **norm(3)})
    write("residual-subtracted", [node("Conv", "x w", "a", pads=[1] * 4), node("Relu", "x", "r"), node("Sub", "r a")], {"w": floats(3, 3, 3, 3)})
    write("shortcut-of-zeros", [node("Conv", "x w", "c", pads=[1] * 4, strides=[2, 2]), node("Slice", "x starts ends axes steps", "half"),
                                node("Pad", "half pads", "short"), node("Add", "c short", "sum"), node("Relu", "sum")],
          {"w": floats(8, 3, 3, 3), "starts": ints(0, 0), "ends": ints(2**63 - 1, 2**63 - 1), "axes": ints(2, 3), "steps": ints(2, 2),
           "pads": ints(0, 2, 0, 0, 0, 3, 0, 0)})
    write("keras-padding", [node("Pad", "x pads", "p"), node("Conv", "p w", strides=[2, 2])],
          {"w": floats(5, 3, 3, 3), "pads": ints(0, 0, 1, 1, 0, 0, 1, 1)})
    write("excitation", [node("GlobalAveragePool", "x", "g"), node("Conv", "g w", "e"), node("Clip", "e low high", "c"), node("Mul", "x c")],
          {"w": floats(3, 3, 1, 1), "low": np.float32(0.1), "high": np.float32(0.9)})
    write("channels-joined", [node("Relu", "x", "r"), node("Concat", "x r x", axis=1)])
    write("added-to-itself", [node("Conv", "x w", "c"), node("Add", "c c")], {"w": floats(3, 3, 1, 1)})
    # Numbers that fill up a device's quads are divided too, and the convolution must not see what comes of them.
    write("division-convolved", [node("Mul", "x x", "s"), node("Add", "s c", "p"), node("Div", "x p", "d"), node("Conv", "d w")],
          {"w": floats(3, 3, 1, 1), "c": np.full((3, 1, 1), 0.5, np.float32)})
    write("division", [node("Conv", "x w", "c"), node("Clip", "c low", "p"), node("Div", "x p")],
          {"w": floats(3, 3, 1, 1), "low": np.float32(0.5)})


def heads():
    w, x = floats(10, 189), floats(2, 12)
    write("flatten-gemm", [node("Flatten", "x", "f"), node("Gemm", "f w b", transB=1, alpha=0.5, beta=2.0)], {"w": w, "b": floats(10)})
    write("channels-last-reshape-matmul", [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t shape", "f"), node("MatMul", "f w", "m"),
                                           node("Add", "m b")], {"w": np.ascontiguousarray(w.T), "shape": ints(-1, 189), "b": floats(10)})
    write("shape-arithmetic", [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n axes", "n1"),
                               node("Concat", "n1 rest", "shape", axis=0), node("Reshape", "x shape", "f"), node("Gemm", "f w", transB=1)],
          {"zero": np.int64(0), "axes": ints(0), "rest": ints(-1), "w": w})
    write("squeeze-softmax", [node("GlobalAveragePool", "x", "g"), node("Squeeze", "g axes", "q"), node("Softmax", "q")], {"axes": ints(2, 3)})
    write("softmax-before-13", [node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("Softmax", "f")], opset=11)
    write("softmax-of-pixels", [node("Softmax", "x", axis=1)])
    write("matmul-transposed-weights", [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t")], {"w": floats(5, 12)}, x)
    write("unsqueeze-norm", [node("Unsqueeze", "x axes", "u"), node("BatchNormalization", "u s b m v")],
          {"axes": ints(2, 3), "s": floats(12), "b": floats(12), "m": floats(12), "v": np.abs(floats(12)) + np.float32(0.1)}, x)
    write("fixed-batch", [node("Reshape", "x shape", "f"), node("Gemm", "f w", transB=1)], {"shape": ints(2, 189), "w": w}, fixed_batch=True)
    write("reshape-to-pictures", [node("Reshape", "x shape", "p"), node("Conv", "p w")], {"shape": ints(0, 3, 2, 2), "w": floats(4, 3, 2, 2)}, x)


def preprocessing():
    pixels = RNG.integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    write("bytes-channels-last", [node("Cast", "x", "f", to=T.FLOAT), node("Div", "f scale", "d"), node("Sub", "d mean", "m"), node("Div", "m deviation", "n"),
                                  node("Transpose", "n", "t", perm=[0, 3, 1, 2]), node("Conv", "t w")],
          {"scale": np.float32(255), "mean": floats(3), "deviation": np.abs(floats(3)) + np.float32(0.5), "w": floats(4, 3, 3, 3)}, pixels)
    write("bytes-channels-first", [node("Cast", "x", "f", to=T.FLOAT), node("Sub", "f mean", "m"), node("Mul", "scale m", "n"), node("Conv", "n w")],
          {"mean": floats(3, 1, 1), "scale": floats(1, 3, 1, 1), "w": floats(4, 3, 3, 3)}, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    write("constant-minus-tensor", [node("Sub", "c x")], {"c": floats(1, 3, 1, 1)})
    write("constant-along-columns", [node("Mul", "x c")], {"c": floats(7)})
    write("slice-inside", [node("Slice", "x starts ends axes")], {"starts": ints(1, -4), "ends": ints(-1, 100), "axes": ints(1, -1)})
    write("cropped-by-pad", [node("Pad", "x pads")], {"pads": ints(0, 0, -1, 2, 0, 1, -2, 0)})
    write("transposed-output", [node("Relu", "x", "r"), node("Transpose", "r", perm=[0, 3, 1, 2])])


def nothing():
    write("constants-and-nothing-else", [h.make_node("Constant", [], ["c"], value=nh.from_array(floats(3, 1, 1), "c")), node("Add", "x c", "a"),
                                         node("Identity", "a", "i"), node("Dropout", "i")])


def gates():
    far = floats(2, *PICTURE) * np.float32(30)
    write("sigmoid", [node("Sigmoid", "x")], x=far)
    write("hard-sigmoid", [node("HardSigmoid", "x")], x=far)
    write("hard-sigmoid-settings", [node("HardSigmoid", "x", alpha=0.04, beta=-0.3)], x=far)
    write("hard-swish", [node("HardSwish", "x")], x=far)
    # In the padding, and in the channels that fill up a device's quads, a gate makes more than nothing of zero.
    for name in ("Sigmoid", "HardSigmoid", "HardSwish"):
        write(f"{name.lower()}-convolved", [node("Mul", "x two", "d"), node(name, "d", "g"), node("Conv", "g w", pads=[1] * 4)],
              {"two": np.float32(2), "w": floats(5, 3, 3, 3)})
    write("mobilenet-block", [node("Conv", "x w b", "c"), node("HardSwish", "c", "h"), node("GlobalAveragePool", "h", "p"), node("Conv", "p v", "e"),
                              node("HardSigmoid", "e", "s", alpha=1 / 6), node("Mul", "s h", "m"), node("Sigmoid", "m", "n"), node("Add", "n m")],
          {"w": floats(6, 3, 3, 3), "b": floats(6), "v": floats(6, 6, 1, 1)})


BOTH = (("y", T.FLOAT), ("i", T.INT64))


def largest():
    x = floats(3, 101)
    write("top-k", [node("TopK", "x k", "y i")], {"k": ints(5)}, x, outputs=BOTH)
    write("top-k-one", [node("TopK", "x k", "y i", axis=1, largest=1, sorted=1)], {"k": ints(1)}, x, outputs=BOTH)
    write("top-k-before-10", [node("TopK", "x", "y i", k=7)], x=x, opset=9, outputs=BOTH)
    # Of equal numbers the one that comes first.
    write("top-k-all-of-ties", [node("TopK", "x k", "y i")], {"k": ints(21)}, np.round(x[:, :21]), outputs=BOTH)
    write("top-k-values", [node("TopK", "x k", "v i"), node("Gemm", "v w", transB=1)], {"k": ints(6), "w": floats(4, 6)}, x)
    write("top-k-indices", [node("TopK", "x k", "v i")], {"k": ints(6)}, x, outputs=BOTH[1:])
    write("softmax-top-k", [node("Gemm", "x w", "l", transB=1), node("Softmax", "l", "p"), node("TopK", "p k", "y i")],
          {"w": floats(37, 101), "k": ints(5)}, x, outputs=BOTH)
    write("top-k-of-pixels", [node("Conv", "x w", "c"), node("TopK", "c k", "y i", axis=1)], {"w": floats(9, 3, 3, 3), "k": ints(3)}, outputs=BOTH)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        shutil.rmtree(OUT, ignore_errors=True)
    for group in (convolutions, pools, blocks, heads, preprocessing, nothing, gates, largest):
        group()
