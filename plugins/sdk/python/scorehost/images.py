"""Pictures, decoded and resized by the host, many at once. Their pixels never enter the script unless it asks."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from wit_world.imports import images as host

from .failures import Permanent, call, size, text
from .models import Model
from .output import FailedFile
from .tensors import Tensor

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Layout = Literal["channels-first", "channels-last"]

FILTERS: dict[Filter, host.Filter] = {
    "nearest": host.Filter.NEAREST,
    "bilinear": host.Filter.BILINEAR,
    "bicubic": host.Filter.BICUBIC,
    "lanczos": host.Filter.LANCZOS,
}
LAYOUTS: dict[Layout, host.Layout] = {
    "channels-first": host.Layout.CHANNELS_FIRST,
    "channels-last": host.Layout.CHANNELS_LAST,
}


def _named[T](all: Mapping[Any, T], name: str) -> T:
    if name not in all:
        raise ValueError(f"`{name}` is none of {', '.join(all)}")
    return all[name]


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


class Recipe:
    """How a picture becomes numbers. As made: stretched to width × height, bicubic and antialiased as Pillow does it,
    RGB floats in [0, 255], channels first. Each method changes what later calls do, and returns the recipe.
    """

    __slots__ = ("_recipe",)

    def __init__(self, width: int, height: int) -> None:
        """Sizes outside 1 to 16,384 fail at the first use."""
        self._recipe = host.Recipe(size(width), size(height))

    @classmethod
    def for_model(cls, model: Model) -> Self:
        """What a picture model's only input asks for: its size and layout, bytes where it takes bytes, and else floats
        in [0, 1].
        """
        inputs = model.inputs
        if len(inputs) != 1:
            raise Permanent(f"the model has {len(inputs)} inputs, not one")
        port = inputs[0]
        match port.shape:
            case (_, 3, int(height), int(width)):
                layout: Layout = "channels-first"
            case (_, int(height), int(width), 3):
                layout = "channels-last"
            case _:
                raise Permanent(f"the model's input `{port.name}` is not a batch of RGB pictures: {port.shape}")
        recipe = cls(width, height).layout(layout)
        match port.element:
            case "float":
                return recipe.normalize(1 / 255)
            case "unsigned-byte":
                return recipe.bytes()
            case _:
                raise Permanent(f"the model's input `{port.name}` takes integers, not pictures")

    def resize_filter(self, filter: Filter, antialias: bool = True) -> Self:
        """`antialias` false gives TensorFlow's and OpenCV's numbers."""
        self._recipe.resize_filter(_named(FILTERS, filter), bool(antialias))
        return self

    def shorter_side(self, pixels: int) -> Self:
        """Resize the shorter side to this many pixels and cut the centre, instead of stretching."""
        self._recipe.shorter_side(size(pixels))
        return self

    def normalize(
        self,
        scale: float,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        deviation: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Self:
        """`(pixel × scale − mean) ÷ deviation`, by channel."""
        self._recipe.normalize(float(scale), _channels(mean), _channels(deviation))
        return self

    def layout(self, layout: Layout) -> Self:
        """The order of dimensions."""
        self._recipe.layout(_named(LAYOUTS, layout))
        return self

    def blue_first(self) -> Self:
        """BGR instead of RGB."""
        self._recipe.blue_first()
        return self

    def bytes(self) -> Self:
        """Keep bytes as they are, for models that take them; not together with `normalize`."""
        self._recipe.bytes()
        return self

    def upright(self) -> Self:
        """Turn the picture as its EXIF orientation says; without it, pixels are taken as stored."""
        self._recipe.upright()
        return self


class Image:
    """One picture of the mini-batch. Pixels are decoded when something needs them."""

    __slots__ = ("_image",)

    def __init__(self, handle: host.Image) -> None:
        """For the SDK: scripts call `Image.open`."""
        self._image = handle

    @classmethod
    def open(cls, file: str) -> Self:
        """Reads the header of a file of the mini-batch."""
        return cls(call(host.Image.open, text(file)))

    @property
    def width(self) -> int:
        """Pixels, as stored."""
        return self._image.width()

    @property
    def height(self) -> int:
        """Pixels, as stored."""
        return self._image.height()

    def crop(self, left: int, top: int, width: int, height: int) -> "Image":
        """A region of the stored pixels; fails if it leaves the picture."""
        return Image(call(self._image.crop, size(left), size(top), size(width), size(height)))

    def tensor(self, recipe: Recipe) -> Tensor:
        """One picture, without a batch dimension: channels × height × width, or as the recipe lays it out."""
        return Tensor(call(self._image.tensor, recipe._recipe))


class Loaded(NamedTuple):
    """One row of `pictures` per file that could be decoded, in order; the others in `failed`."""

    pictures: Tensor
    failed: list[FailedFile]


def load(files: Sequence[str], recipe: Recipe) -> Loaded:
    """Files of the mini-batch to one tensor, all at once."""
    loaded = call(host.load, list(map(text, files)), recipe._recipe)
    return Loaded(Tensor(loaded.pictures), [FailedFile(f.index, f.reason) for f in loaded.failed])
