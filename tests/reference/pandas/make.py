"""Writes floats.txt and tables.json: how pandas writes numbers and tables as text.

The host's `azure` and `csv` formats must give the same bytes. Run it here, with pandas installed:

    python make.py
"""

import io
import json
import random
import struct

import pandas as pd

TABLES = {
    "the example of the documentation": [
        ("file", "texts", ["a.jpg", "b c.jpg"]),
        ("class", "integers", [161, -2]),
        ("probability", "numbers", [0.994745, 1e-07]),
    ],
    "what is quoted": [
        (
            "text",
            "texts",
            ["plain", "two words", 'a "quote"', '"', "line\nbreak", "comma,", "tab\tbed", "", " ", "é ü 漢", "'", "a;b"],
        ),
        ("n", "integers", list(range(12))),
    ],
    "every type with an empty cell": [
        ("flag", "booleans", [True, None, False]),
        ("count", "integers", [None, 9223372036854775807, -9223372036854775808]),
        ("share", "numbers", [1.0, 2.5, None]),
        ("text", "texts", [None, "", "x"]),
    ],
    "numbers that are not": [("x", "numbers", ["nan", "inf", "-inf"]), ("n", "integers", [1, 2, 3])],
    "one column whose cells are empty": [("x", "texts", ["a", "", None, "b"])],
    "one column of empty numbers": [("x", "numbers", [None, 1.0])],
    "names that are quoted": [("a b", "integers", [1]), ("c,d", "integers", [2]), ('e"f', "integers", [3])],
}


def series(kind, values):
    if kind == "numbers":
        return pd.Series([float("nan") if v is None else float(v) for v in values], dtype="float64")
    return pd.Series(values, dtype="object")


def table(columns):
    frame = pd.DataFrame({name: series(kind, values) for name, kind, values in columns})
    azure, csv = io.StringIO(), io.StringIO()
    frame.to_csv(azure, header=None, index=None, sep=" ")
    frame.to_csv(csv, index=False)
    named = [{"name": name, "kind": kind, "values": values} for name, kind, values in columns]
    return {"columns": named, "azure": azure.getvalue(), "csv": csv.getvalue()}


def floats():
    draw = random.Random(1)
    values = [0.0, -0.0, 5.0, 0.1, 1e-4, 1e-5, 9.999e-5, 123456789012345.6, 1e15, 1e16, 1e17, 1e22, 1e100, 5e-324]
    values += [1.7976931348623157e308, 2.2250738585072014e-308, 9007199254740993.0, 9999999999999998.0, 0.3, 2 / 3]
    # Every kind of exponent, then what models return: probabilities and 32-bit floats.
    values += [struct.unpack("<d", struct.pack("<Q", draw.getrandbits(64)))[0] for _ in range(150)]
    values += [draw.random() * 10.0 ** draw.randint(-8, 20) for _ in range(100)]
    values += [struct.unpack("<f", struct.pack("<f", draw.random()))[0] for _ in range(50)]
    values = [v for v in values if v == v]
    lines = pd.DataFrame({"bits": [struct.pack(">d", v).hex() for v in values], "text": values})
    return lines.to_csv(header=None, index=None, sep=" ")


if __name__ == "__main__":
    with open("floats.txt", "w", newline="\n") as f:
        f.write(floats())
    tables = {name: table(columns) for name, columns in TABLES.items()}
    with open("tables.json", "w", newline="\n") as f:
        json.dump({"pandas": pd.__version__, "tables": tables}, f, indent=1, ensure_ascii=False)
        f.write("\n")
