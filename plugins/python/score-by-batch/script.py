"""Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).

One row a file: its name, the most likely class, that class's probability.
"""

import sys

from scorehost import Model, Output, Recipe, file_name, images, setting

model: Model
recipe: Recipe
device_batching: int


def init():
    global model, recipe, device_batching
    model = Model.open()
    recipe = Recipe.for_model(model)
    device_batching = max(setting("device_batching", sys.maxsize), 1)


def run(mini_batch: list[str]):
    output = Output(["file", "class", "probability"])
    loaded = images.load(mini_batch, recipe)
    output.fail_all(loaded.failed)
    bad = {failed.index for failed in loaded.failed}
    good = [file for index, file in enumerate(mini_batch) if index not in bad]
    # Every batch is handed over before the first result is read, so that the device never waits for the script.
    scored = []
    for start in range(0, len(good), device_batching):
        files = good[start : start + device_batching]
        batch = loaded.pictures.slice(start, len(files))
        scored.append((files, model.predict(batch).softmax()))
    for files, probabilities in scored:
        for file, (label, probability) in zip(files, probabilities.best_of_rows()):
            output.push((file_name(file), label, probability))
    return output
