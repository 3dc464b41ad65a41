"""Write a Scorehost scoring script in Python: a plain `init` and `run` in `script.py`.

    from scorehost import Image, Model, Recipe, by_file, file_name

    def init():
        global model, recipe
        model = Model.open()
        recipe = Recipe.for_model(model)

    def run(mini_batch):
        return by_file(mini_batch, ["file", "class"], score)

    def score(file):
        logits = model.predict(Image.open(file).tensor(recipe))
        return file_name(file), logits.best()[0]

`init` is called once per instance, before its first mini-batch, and may be left out. `run` gets the paths of a
mini-batch's files, and returns an `Output`, or rows as a list of tuples, of dicts or of plain values, or nothing.

Raising `Transient` asks for another attempt; any other exception fails the mini-batch for good, with its type and text.
What is printed is in the log, and `open` reads files of the input and of the model. Modules are imported when the
script is built: an import inside a function finds only what something imported before.
"""

from . import context, images, log
from .context import setting
from .failures import Failure, Permanent, Transient
from .images import Image, Recipe
from .models import Model, Port
from .output import Cell, FailedFile, Output, Row, by_file, file_name
from .tables import Batch, Table, Writer, by_table
from .tensors import Largest, Tensor, concatenate, float32, stack

__all__ = [
    "Batch", "Cell", "FailedFile", "Failure", "Image", "Largest", "Model", "Output", "Permanent", "Port", "Recipe",
    "Row", "Table", "Tensor", "Transient", "Writer", "by_file", "by_table", "concatenate", "context", "file_name", "float32",
    "images", "log", "setting", "stack",
]
