#!/usr/bin/env python3
"""Writes linear.onnx beside this file: prediction = 2 × height − 0.5 × width + 1, exact in every float."""
import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

weights = numpy_helper.from_array(numpy.array([[2.0], [-0.5]], numpy.float32), "weights")
bias = numpy_helper.from_array(numpy.array([1.0], numpy.float32), "bias")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["features", "weights"], ["product"]), helper.make_node("Add", ["product", "bias"], ["prediction"])],
    "linear",
    [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 2])],
    [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", 1])],
    [weights, bias],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, str(pathlib.Path(__file__).with_name("linear.onnx")))
