#!/usr/bin/env python3
"""Writes small models as MLflow saves them, and tables with what ONNX Runtime predicts for their records.

usage: make_mlflow.py [FOLDER]          (the folder `mlflow` beside this script, without an argument)
needs: mlflow-skinny, numpy, onnx, onnxruntime, pandas, Pillow

pictures  leaves the size of pictures to the signature, a tensor of 16×16
prices    one input of four numbers, which the signature names as columns in an order that is not the table's
visits    one input for each column, a whole number among them, and two outputs
sklearn   another flavor, as MLflow writes it; there is no such model in the folder

pictures.csv holds the most likely class of each of the demo's pictures, resized as Pillow does it, and its probability.
prices.csv and visits.csv hold records with the columns that models take and others; prices.predicted.csv and
visits.predicted.csv the predictions alone. Weights are drawn with a seed; identifiers and times that MLflow draws are
taken out, so that running this again gives the same files with the same libraries.
"""
import pathlib
import re
import shutil
import sys

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HERE = pathlib.Path(__file__).parent
PICTURES = sorted((HERE.parent.parent / "host/demo/pictures").iterdir())
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(inputs, outputs, nodes, **weights):
    values = lambda all: [helper.make_tensor_value_info(*each) for each in all]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def floats(random, *shape):
    return random.normal(0, 1, shape).astype(np.float32)


def pictures(random):
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], ["features"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    weights = dict(kernel=floats(random, 8, 3, 3, 3), weights=floats(random, 8, 6), bias=np.zeros(6, np.float32))
    ends = [("picture", FLOAT, ["N", 3, "H", "W"])], [("probabilities", FLOAT, ["N", 6])]
    # Scores are moved so that no class is ahead of the others in the mean.
    weights["bias"] = -np.log(np.concatenate(predicted(model(*ends, nodes, **weights)))).mean(0)
    made = model(*ends, nodes, **weights)
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 3, 16, 16), "picture")])
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, 6), "probabilities")])
    return made, ModelSignature(inputs, outputs)


COLUMNS = ["rooms", "area", "age", "distance"]


def prices(random):
    nodes = [
        helper.make_node("Gemm", ["features", "hidden", "shift"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["positive"]),
        helper.make_node("MatMul", ["positive", "weights"], ["variable"]),
    ]
    weights = dict(hidden=floats(random, 4, 8), shift=floats(random, 8), weights=floats(random, 8, 1))
    made = model([("features", FLOAT, ["N", 4])], [("variable", FLOAT, ["N", 1])], nodes, **weights)
    inputs = Schema([ColSpec("double", name) for name in COLUMNS])
    return made, ModelSignature(inputs, Schema([ColSpec("double", "price")]))


def visits(random):
    nodes = [
        helper.make_node("Cast", ["visits"], ["visits_float"], to=FLOAT),
        helper.make_node("Concat", ["age", "visits_float"], ["both"], axis=1),
        helper.make_node("Gemm", ["both", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    # Older people with few visits are of the one class, younger ones with many of the other.
    weights = dict(weights=np.float32([[0.05, -0.05], [-0.1, 0.1]]), bias=np.float32([0.4, 0]))
    made = model(
        [("age", FLOAT, ["N", 1]), ("visits", INT64, ["N", 1])],
        [("label", INT64, ["N"]), ("probabilities", FLOAT, ["N", 2])],
        nodes,
        **weights,
    )
    inputs = Schema([ColSpec("long", "visits"), ColSpec("double", "age")])
    outputs = Schema(
        [TensorSpec(np.dtype("int64"), (-1,), "label"), TensorSpec(np.dtype("float32"), (-1, 2), "probabilities")]
    )
    return made, ModelSignature(inputs, outputs)


def save(folder, made, signature):
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.onnx.save_model(made, folder, signature=signature, pip_requirements=["onnx", "onnxruntime"])
    text = (folder / "MLmodel").read_text()
    text = re.sub(r"^(model_uuid|model_id|utc_time_created|model_size_bytes|prompts):.*\n", "", text, flags=re.M)
    (folder / "MLmodel").write_text(text)
    # The environment that MLflow would build: not read by anybody here.
    for name in ["conda.yaml", "python_env.yaml", "requirements.txt"]:
        (folder / name).unlink(missing_ok=True)


def run(made, inputs):
    session = onnxruntime.InferenceSession(made.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs)))


def pixels(path):
    picture = Image.open(path).convert("RGB").resize((16, 16), Image.BICUBIC)
    return (np.asarray(picture, np.float32) / np.float32(255)).transpose(2, 0, 1)[None]


def predicted(made):
    return [run(made, {"picture": pixels(path)})["probabilities"] for path in PICTURES]


def write(frame, path):
    frame.to_csv(path, index=False)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "mlflow"
    out.mkdir(exist_ok=True)
    random = np.random.default_rng(35)
    models = {}
    for make in [pictures, prices, visits]:
        models[make.__name__], signature = make(random)
        save(out / make.__name__, models[make.__name__], signature)

    scores = np.concatenate(predicted(models["pictures"]))
    rows = {"file": [path.name for path in PICTURES], "class": scores.argmax(1), "probability": scores.max(1)}
    # A model that says the same of every picture would test nothing.
    assert len(set(rows["class"])) > 1
    write(pd.DataFrame(rows), out / "pictures.csv")

    count = 50
    houses = pd.DataFrame({"id": [f"{i:03}" for i in range(count)]})
    houses["age"] = random.integers(0, 90, count)
    houses["area"] = random.uniform(20, 200, count).round(2)
    houses["town"] = random.choice(["Ulm", "Bad Urach", 'the "Alb"', ""], count)
    houses["rooms"] = random.integers(1, 9, count)
    houses["distance"] = random.uniform(0, 30, count).round(3)
    write(houses, out / "prices.csv")
    given = run(models["prices"], {"features": houses[COLUMNS].to_numpy(np.float32)})
    write(pd.DataFrame({"price": given["variable"][:, 0]}), out / "prices.predicted.csv")

    people = pd.DataFrame({"age": random.uniform(18, 80, count).round(1), "visits": random.integers(0, 60, count)})
    write(people, out / "visits.csv")
    inputs = {"age": people[["age"]].to_numpy(np.float32), "visits": people[["visits"]].to_numpy(np.int64)}
    given = run(models["visits"], inputs)
    columns = {"label": given["label"]}
    columns.update({f"probabilities.{i}": given["probabilities"][:, i] for i in range(2)})
    write(pd.DataFrame(columns), out / "visits.predicted.csv")

    other = out / "sklearn"
    other.mkdir(exist_ok=True)
    flavors = {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "python_version": "3.12.3"},
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "sklearn_version": "1.7.2"},
    }
    mlflow.models.Model(flavors=flavors, model_uuid=None, utc_time_created="2026-01-01", model_id=None).save(
        str(other / "MLmodel")
    )


if __name__ == "__main__":
    main()
