// Pictures, decoded and resized by the host, many at once. Their pixels never enter the script unless it asks.

import * as host from "scorehost:script/images@0.2.0";
import { call, counted, Permanent, size, text } from "./failures";
import type { Model } from "./models";
import type { FailedFile } from "./output";
import { Tensor } from "./tensors";

/** How pixels are weighed when a picture is resized. */
export type Filter = host.Filter;
/** The order of a picture's dimensions. */
export type Layout = host.Layout;
type Channels = [number, number, number];

/**
 * How a picture becomes numbers. As made: stretched to width × height, bicubic and antialiased as Pillow does it, RGB
 * floats in [0, 255], channels first. Each method changes what later calls do, and returns the recipe.
 */
export class Recipe {
  /** For the SDK. */
  readonly handle: host.Recipe;

  /** Sizes outside 1 to 16,384 fail at the first use. */
  constructor(width: number, height: number) {
    this.handle = new host.Recipe(size(width), size(height));
  }

  /**
   * What a picture model's only input asks for: its size and layout, bytes where it takes bytes, and else floats in
   * [0, 1].
   */
  static forModel(model: Model): Recipe {
    const inputs = model.inputs;
    const [input] = inputs;
    if (input === undefined || inputs.length !== 1) {
      throw new Permanent(`the model has ${inputs.length} inputs, not one`);
    }
    const [, a, b, c] = input.shape;
    const isFirst = a === 3 && b != null && c != null;
    const [width, height] = isFirst ? [c, b] : [b, a];
    if (input.shape.length !== 4 || width == null || height == null || !(isFirst || c === 3)) {
      throw new Permanent(`the model's input \`${input.name}\` is not a batch of RGB pictures: ${input.shape}`);
    }
    const recipe = new Recipe(width, height).layout(isFirst ? "channels-first" : "channels-last");
    if (input.element === "float") return recipe.normalize(1 / 255);
    if (input.element === "unsigned-byte") return recipe.bytes();
    throw new Permanent(`the model's input \`${input.name}\` takes integers, not pictures`);
  }

  /** `antialias` false gives TensorFlow's and OpenCV's numbers. */
  resizeFilter(filter: Filter, antialias = true): this {
    if (!["nearest", "bilinear", "bicubic", "lanczos"].includes(filter)) throw new RangeError(`no filter is ${filter}`);
    this.handle.resizeFilter(filter, Boolean(antialias));
    return this;
  }

  /** Resize the shorter side to this many pixels and cut the centre, instead of stretching. */
  shorterSide(pixels: number): this {
    this.handle.shorterSide(size(pixels));
    return this;
  }

  /** `(pixel × scale − mean) ÷ deviation`, by channel. */
  normalize(scale: number, mean: Channels = [0, 0, 0], deviation: Channels = [1, 1, 1]): this {
    this.handle.normalize(Number(scale), channels(mean), channels(deviation));
    return this;
  }

  /** The order of dimensions. */
  layout(layout: Layout): this {
    if (!["channels-first", "channels-last"].includes(layout)) throw new RangeError(`no layout is ${layout}`);
    this.handle.layout(layout);
    return this;
  }

  /** BGR instead of RGB. */
  blueFirst(): this {
    this.handle.blueFirst();
    return this;
  }

  /** Keep bytes as they are, for models that take them; not together with `normalize`. */
  bytes(): this {
    this.handle.bytes();
    return this;
  }

  /** Turn the picture as its EXIF orientation says; without it, pixels are taken as stored. */
  upright(): this {
    this.handle.upright();
    return this;
  }
}

/** What the host knows a recipe by; it would end the instance over anything else. */
function handleOfRecipe(recipe: Recipe): host.Recipe {
  if (!(recipe instanceof Recipe)) throw new TypeError("a Recipe is wanted");
  return recipe.handle;
}

/** Three numbers, one for each channel. */
function channels(values: Channels): Channels {
  if (!Array.isArray(values) || values.length !== 3) throw new TypeError("three numbers are wanted, one for each channel");
  return values.map(Number) as Channels;
}

/** One picture of the mini-batch. Pixels are decoded when something needs them. */
export class Image {
  /** For the SDK: scripts call `Image.open`. */
  constructor(readonly handle: host.Image) {
    counted(handle);
  }

  /** Reads the header of a file of the mini-batch. */
  static open(file: string): Image {
    return new Image(call(() => host.Image.open(text(file))));
  }

  /** Pixels, as stored. */
  get width(): number {
    return this.handle.width();
  }

  /** Pixels, as stored. */
  get height(): number {
    return this.handle.height();
  }

  /** A region of the stored pixels; fails if it leaves the picture. */
  crop(left: number, top: number, width: number, height: number): Image {
    return new Image(call(() => this.handle.crop(size(left), size(top), size(width), size(height))));
  }

  /** One picture, without a batch dimension: channels × height × width, or as the recipe lays it out. */
  tensor(recipe: Recipe): Tensor {
    return new Tensor(call(() => this.handle.tensor(handleOfRecipe(recipe))));
  }

  /** Hands it back before the engine does, for `using`. */
  [Symbol.dispose](): void {
    this.handle[Symbol.dispose]();
  }
}

/** One row of `pictures` per file that could be decoded, in order; the others in `failed`, by their index. */
export type Loaded = { pictures: Tensor; failed: FailedFile[] };

/** Files of the mini-batch to one tensor, all at once. */
export function load(files: string[], recipe: Recipe): Loaded {
  const { pictures, failed } = call(() => host.load(files.map(text), handleOfRecipe(recipe)));
  return { pictures: new Tensor(pictures), failed };
}
