"""Does what the deployment's tag `scenario` says; tests/languages.rs runs it. Every language has this script, and gives
the same bytes.
"""

import json
import os
from pathlib import Path

from scorehost import Model, Output, Permanent, Table, Transient, Writer, context, file_name, setting


def run(mini_batch: list[str]):
    scenario = SCENARIOS.get(setting("scenario", ""))
    if scenario is None:
        raise Permanent(f"there is no scenario `{setting('scenario')}`")
    return scenario(mini_batch)


def words(mini_batch: list[str]) -> Output:
    """Several rows a file: its words, and how many characters each has."""
    output = Output(["file", "word", "characters"])
    # One list for all rows: the output copies each.
    row: list[str | int] = ["", "", 0]
    for index, file in enumerate(mini_batch):
        try:
            text = Path(file).read_text("utf-8")
        except UnicodeDecodeError:
            output.fail(index, "not text")
            continue
        for word in text.split():
            row[:] = file_name(file), word, len(word)
            output.push(row)
    return output


def cells(mini_batch: list[str]) -> list[dict]:
    """Cells of every kind, empty ones, and whole numbers among numbers."""
    whole = (1, -9007199254740993, 2**63 - 1)
    number = (3, 0.1, 1e300)
    maybe = (None, 7, None)
    flag = (True, False, None)
    text = ("plain", '"quotes", commas\nand lines', "")
    names = ("whole", "number", "maybe", "flag", "text")
    rows = [dict(zip(names, row)) for row in zip(whole, number, maybe, flag, text)]
    return [{"file": file_name(file), **row, "nothing": None} for file in mini_batch for row in rows]


def failures(mini_batch: list[str]) -> Output:
    """A declared failure of each kind: one that stays, one that passes, one of a file."""
    match context.mini_batch(), context.attempt():
        case 1, _:
            raise Permanent("not this one")
        case 2, 1:
            raise Transient("not yet")
        case 3, _:
            raise Transient("never")
    output = Output(["file", "mini_batch", "attempt"])
    for index, file in enumerate(mini_batch):
        if file_name(file).startswith("bad"):
            output.fail(index, "it is called bad")
        else:
            output.push((file_name(file), context.mini_batch(), context.attempt()))
    return output


def own_files(mini_batch: list[str]) -> list[str]:
    """A file of JSON lines for each input, in a folder: a line for each of its lines."""
    folder = output_folder() / "lines"
    folder.mkdir(exist_ok=True)
    for file in mini_batch:
        lines = Path(file).read_text("utf-8").splitlines()
        counts = [{"line": number, "words": len(line.split())} for number, line in enumerate(lines, 1)]
        (folder / f"{Path(file).stem}.jsonl").write_text("".join(json.dumps(count) + "\n" for count in counts))
    return names(mini_batch)


def once_more(mini_batch: list[str]) -> list[str]:
    """Writes a file, named by mini-batch and attempt; the first attempt at each fails, and all attempts at the second."""
    number, attempt = context.mini_batch(), context.attempt()
    (output_folder() / f"{number}.{attempt}.txt").write_text("written")
    if number == 1 or attempt == 1:
        raise Transient("once more")
    return names(mini_batch)


def texts(mini_batch: list[str]) -> Output:
    """A row for each text of a table, and how many characters it has."""
    output = Output(["file", "text", "characters"])
    for file in mini_batch:
        for batch in Table.open(file).batches(2):
            for text in batch.column("text"):
                output.push((file_name(file), text, None if text is None else len(text)))
    return output


def scored(file: str):
    """The records of a table with a prediction each, some at a time, column by column."""
    model = Model.open()
    for batch in Table.open(file).batches(2):
        predictions = model.predict(batch.tensor(["height", "width"])).floats()
        yield {**batch.columns(), "prediction": list(predictions)}


def rows(mini_batch: list[str]) -> Output:
    """Each record of the tables, with its file and its prediction."""
    output = None
    for file in mini_batch:
        for columns in scored(file):
            output = output or Output(["file", *columns])
            for row in zip(*columns.values()):
                output.push((file_name(file), *row))
    return output or Output([])


def parquet(mini_batch: list[str]) -> list[str]:
    """A Parquet file for each table: its records with their predictions."""
    for file in mini_batch:
        with Writer.create(f"{Path(file).stem}.parquet") as writer:
            for columns in scored(file):
                writer.write(columns)
    return names(mini_batch)


def partitions(mini_batch: list[str]) -> list[str]:
    """A file for each class and mini-batch, in folders of classes."""
    classes: dict[str, list[tuple]] = {}
    for file in mini_batch:
        for columns in scored(file):
            for number, prediction in zip(columns["id"], columns["prediction"]):
                classes.setdefault("high" if prediction >= 3 else "low", []).append((number, prediction))
    for name, members in classes.items():
        with Writer.create(f"class={name}/part-{context.mini_batch()}.csv") as writer:
            writer.write({"id": [member[0] for member in members], "prediction": [member[1] for member in members]})
    return names(mini_batch)


def written_once_more(mini_batch: list[str]) -> list[str]:
    """As `once_more`, with files that the host writes; one of them is never finished."""
    number, attempt = context.mini_batch(), context.attempt()
    for name, finished in ((f"{number}.{attempt}.jsonl", True), (f"{number}.{attempt}.open.jsonl", False)):
        writer = Writer.create(name)
        writer.write({"attempt": [attempt]})
        if finished:
            writer.finish()
    if number == 1 or attempt == 1:
        raise Transient("once more")
    return names(mini_batch)


def output_folder() -> Path:
    """Where the script writes files of its own."""
    return Path(os.environ["SCOREHOST_OUTPUT_DIR"])


def names(mini_batch: list[str]) -> list[str]:
    """The files' names alone: a row each, of which a job counts and drops the rows."""
    return [file_name(file) for file in mini_batch]


SCENARIOS = {
    "words": words,
    "cells": cells,
    "failures": failures,
    "own-files": own_files,
    "once-more": once_more,
    "texts": texts,
    "rows": rows,
    "parquet": parquet,
    "partitions": partitions,
    "written-once-more": written_once_more,
}
