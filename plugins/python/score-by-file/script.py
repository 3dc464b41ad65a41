"""Scores pictures one at a time: decode, resize as Pillow does, scale to [0, 1], predict, softmax.

One row a file: its name, the most likely class, that class's probability.
"""

from scorehost import Image, Model, Recipe, Tensor, by_file, file_name

model: Model
recipe: Recipe


def init():
    global model, recipe
    model = Model.open()
    recipe = Recipe.for_model(model)


def run(mini_batch: list[str]):
    # Results are read once all files are on their way, so that the model never waits for the script.
    return by_file(mini_batch, ["file", "class", "probability"], predict, read)


def predict(file: str) -> Tensor:
    pixels = Image.open(file).tensor(recipe)
    return model.predict(pixels).softmax()


def read(file: str, probabilities: Tensor):
    return file_name(file), *probabilities.best()
