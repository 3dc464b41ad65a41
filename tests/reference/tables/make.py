#!/usr/bin/env python3
"""Writes small tables, what pandas reads from them, and what ONNX Runtime predicts of one.

usage: make.py [FOLDER]          (the folder of this script, without an argument)
needs: numpy, onnx, onnxruntime, pandas, pyarrow

Each NAME.csv and NAME.parquet has a NAME.json: its columns in order, each with a name and its values as pandas has them,
null for what is missing. Floats, timestamps, dates and decimals are texts there. `people.csv` goes through the two linear
models, and `people.predicted.csv` is what pandas writes of it with their prediction appended.
Everything is drawn with a seed: running this again gives the same files with the same libraries.
"""
import datetime
import decimal
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(sys.argv[1]) if sys.argv[1:] else pathlib.Path(__file__).parent

CSV = {
    "quotes": 'name,text,n\r\n"a, b","say ""hi""",1\r\n"two\r\nlines",,2\r\n x ,\xe9 \u6f22,-3\r\n',
    "kinds": "flag,i,x,t,big\nTrue,1,0.5,a,9223372036854775807\nFalse,-2,1e-300,b,-9223372036854775808\n"
    "true,0,-inf,,0\nFALSE,30,123456789.123456789,2024-01-31,7\n",
    "missing": "flag,i,x,t,none\nTrue,,,a,\n,5,nan,,\nFalse,NA,-1.5,c,\nTrue,7,null,d,\n",
    "byte-order-mark": "\ufeffa,b\n1,2\n",
    "semicolons": "a;b\n1;x,y\n2;z\n",
    "tabs": "a\tb\n1\tx y\n2\t\n",
    "index": ",a\n0,x\n1,y\n",
    "one-column": 'a\n1\n""\n\n3\n',
    "spaces": "a,b\n 1, 2.5\n2 ,3\n",
    "no-rows": "a,b\n",
    "no-end-of-line": "a,b\n1,2",
}


def value(v):
    if v is None or v is pd.NaT or v is pd.NA or isinstance(v, float) and np.isnan(v):
        return None
    if isinstance(v, (bool, np.bool_)):
        return bool(v)
    if isinstance(v, (int, np.integer)):
        return int(v)
    if isinstance(v, (float, np.floating)):
        # As a text: not every reader of JSON keeps the last bit, and infinities have no other form.
        return repr(float(v))
    if isinstance(v, (pd.Timestamp, datetime.date)):
        return v.isoformat()
    return str(v)


def describe(name, table):
    columns = [{"name": str(n), "values": [value(v) for v in table[n]]} for n in table.columns]
    for column in columns:
        column["name"] = "" if column["name"].startswith("Unnamed: ") else column["name"]
    lines = ",\n".join(json.dumps(column, ensure_ascii=False) for column in columns)
    (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def csv_files():
    for name, text in CSV.items():
        path = FOLDER / f"{name}.csv"
        path.write_bytes(text.encode())
        describe(name, pd.read_csv(path, sep={"semicolons": ";", "tabs": "\t"}.get(name, ",")))


def parquet_files():
    rng = np.random.default_rng(1)
    n = 300
    words = np.array(["red", "green", "blue", "", "\u6f22\u5b57"])
    plain = pd.DataFrame({
        "flag": rng.random(n) < 0.5,
        "i8": rng.integers(-128, 128, n).astype(np.int8),
        "u16": rng.integers(0, 65536, n).astype(np.uint16),
        "u32": rng.integers(0, 2**32, n).astype(np.uint32),
        "i64": rng.integers(-2**63, 2**63, n, dtype=np.int64),
        "u64": rng.integers(0, 2**63, n, dtype=np.uint64),
        "f16": rng.normal(0, 1, n).astype(np.float16),
        "f32": rng.normal(0, 1, n).astype(np.float32),
        "f64": rng.normal(0, 1, n),
        "text": [f"row {i}" for i in range(n)],
        "word": words[rng.integers(0, 5, n)],
        "when": pd.Timestamp("2024-01-31") + pd.to_timedelta(rng.integers(0, 10**15, n), unit="us"),
    })
    for codec in ["none", "snappy", "gzip", "zstd"]:
        plain.to_parquet(FOLDER / f"plain-{codec}.parquet", compression=None if codec == "none" else codec)
    describe("plain", plain)
    holes = plain[["flag", "i64", "f64", "text", "word", "when"]].astype({"flag": "boolean", "i64": "Int64"})
    holes = holes.mask(rng.random(holes.shape) < 0.3)
    # Two versions of pages, many row groups, small pages, and values that are not in a dictionary.
    table = pa.Table.from_pandas(holes, preserve_index=False)
    pq.write_table(table, FOLDER / "holes.parquet", data_page_version="2.0", row_group_size=128, data_page_size=256,
                   compression="zstd", use_dictionary=["word"])
    describe("holes", holes)
    odd = pa.table({
        "category": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "date": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 12, 31), datetime.date(1, 1, 1)]),
        "utc": pa.array([0, 1700000000123, None, -1], pa.timestamp("ms", "UTC")),
        "nanos": pa.array([0, 1700000000123456789, None, 1700000000123456000], pa.timestamp("ns")),
        "price": pa.array([decimal.Decimal(s) for s in ["1.50", "-0.05", "99999.99"]] + [None], pa.decimal128(7, 2)),
        "nothing": pa.array([None] * 4, pa.null()),
        "split": pa.array([1.5, -2.0, 0.0, 1e300]),
    })
    pq.write_table(odd, FOLDER / "odd.parquet", use_dictionary=["category"], column_encoding={"split": "BYTE_STREAM_SPLIT"})
    describe("odd", odd.to_pandas(types_mapper=None, timestamp_as_object=False))
    pq.write_table(pa.table({"a": pa.array([[1], [2]])}), FOLDER / "list.parquet")
    pq.write_table(pa.table({"a": pa.array([1, 2**64 - 1], pa.uint64())}), FOLDER / "too-large.parquet")
    pq.write_table(pa.table({"a": pa.array([1, 2])}), FOLDER / "brotli.parquet", compression="brotli")


def linear(weights, bias, names):
    """One input of all columns, or one of each, [N, 1], as converters of scikit-learn's pipelines make them."""
    one = len(names) == 1
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", len(weights) if one else 1]) for n in names]
    constants = [numpy_helper.from_array(weights.reshape(-1, 1), "weights"), numpy_helper.from_array(bias, "bias")]
    nodes = [] if one else [helper.make_node("Concat", names, ["all"], axis=1)]
    nodes.append(helper.make_node("Gemm", [names[0] if one else "all", "weights", "bias"], ["prediction"]))
    outputs = [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", 1])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def classifier():
    """What skl2onnx makes of a logistic regression after a scaler, with its ZipMap."""
    nodes = [
        helper.make_node("Scaler", ["features"], ["scaled"], domain="ai.onnx.ml", offset=[40.0, 3e4, 0.5], scale=[0.1, 1e-4, 1.0]),
        helper.make_node("LinearClassifier", ["scaled"], ["label", "scores"], domain="ai.onnx.ml",
                         coefficients=[-1.0, -0.5, 0.2, 1.0, 0.5, -0.2], intercepts=[0.1, -0.1],
                         classlabels_ints=[0, 1], multi_class=0, post_transform="LOGISTIC"),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3])]
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
               helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps))]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def people():
    rng = np.random.default_rng(2)
    n = 250
    table = pd.DataFrame({
        "name": [f"person {i}, of {n}" for i in range(n)],
        "age": rng.integers(18, 90, n),
        "income": np.round(rng.normal(30000, 9000, n), 2),
        "member": rng.random(n) < 0.5,
    })
    table.to_csv(FOLDER / "people.csv", index=False)
    table.to_parquet(FOLDER / "people.parquet", index=False)
    columns = ["age", "income", "member"]
    weights, bias = np.array([0.05, -0.0001, 1.25], np.float32), np.array([0.5], np.float32)
    onnx.save(linear(weights, bias, ["features"]), FOLDER / "linear.onnx")
    onnx.save(linear(weights, bias, columns), FOLDER / "linear-by-name.onnx")
    onnx.save(classifier(), FOLDER / "classifier.onnx")
    run = lambda name, feed: onnxruntime.InferenceSession(FOLDER / name, providers=["CPUExecutionProvider"]).run(None, feed)
    features = table[columns].to_numpy(np.float32)
    predicted = run("linear.onnx", {"features": features})[0]
    by_name = run("linear-by-name.onnx", {c: features[:, i : i + 1] for i, c in enumerate(columns)})[0]
    assert np.array_equal(predicted, by_name)
    run("classifier.onnx", {"features": features})
    table.assign(prediction=predicted[:, 0]).to_csv(FOLDER / "people.predicted.csv", index=False)


if __name__ == "__main__":
    csv_files()
    parquet_files()
    people()
