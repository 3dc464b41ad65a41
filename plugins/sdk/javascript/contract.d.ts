// The host's side of the contract, wit/, as componentize-qjs hands it to JavaScript: names in camel case, a variant as
// an object with tag and val, an absent option as null, and a failed call as a thrown object with the failure in
// `payload`. Lists of numbers may be handed over as typed arrays, and come as arrays.

type Numbers<T> = number[] | T;

declare module "scorehost:script/types@0.2.0" {
  export type Failure = { tag: "transient" | "permanent"; val: string };
  export type Cells =
    | { tag: "booleans"; val: boolean[] }
    | { tag: "integers"; val: Numbers<BigInt64Array> }
    | { tag: "numbers"; val: Numbers<Float64Array> }
    | { tag: "texts"; val: string[] };
  export type Column = { name: string; cells: Cells; nulls: Numbers<Uint32Array> };
  export type FailedFile = { index: number; reason: string };
  export type Output = { columns: Column[]; failed: FailedFile[] };
}

declare module "scorehost:script/context@0.2.0" {
  export function job(): string;
  export function miniBatch(): number;
  export function attempt(): number;
  export function deployment(): string;
  export function setting(key: string): string | null;
  export function remainingMs(): number;
  export function retire(): void;
}

declare module "scorehost:script/log@0.2.0" {
  export function write(level: "debug" | "info" | "warning" | "error", message: string): void;
}

declare module "scorehost:script/tensors@0.2.0" {
  export type Element = "unsigned-byte" | "integer" | "float";
  export type Largest = { width: number; indices: number[]; scores: number[] };
  export class Tensor {
    private constructor();
    static fromFloats(shape: Numbers<Uint32Array>, data: Numbers<Float32Array>): Tensor;
    static fromBytes(shape: Numbers<Uint32Array>, data: Numbers<Uint8Array>): Tensor;
    static fromIntegers(shape: Numbers<Uint32Array>, data: Numbers<BigInt64Array>): Tensor;
    shape(): number[];
    element(): Element;
    floats(): number[];
    integers(): number[];
    slice(start: number, count: number): Tensor;
    softmax(): Tensor;
    top(k: number): Largest;
    [Symbol.dispose](): void;
  }
  export function stack(parts: Tensor[]): Tensor;
  export function concatenate(parts: Tensor[]): Tensor;
}

declare module "scorehost:script/images@0.2.0" {
  import type { FailedFile } from "scorehost:script/types@0.2.0";
  import type { Tensor } from "scorehost:script/tensors@0.2.0";
  export type Filter = "nearest" | "bilinear" | "bicubic" | "lanczos";
  export type Layout = "channels-first" | "channels-last";
  export type Loaded = { pictures: Tensor; failed: FailedFile[] };
  export class Recipe {
    constructor(width: number, height: number);
    resizeFilter(filter: Filter, antialias: boolean): void;
    shorterSide(pixels: number): void;
    normalize(scale: number, mean: [number, number, number], deviation: [number, number, number]): void;
    layout(layout: Layout): void;
    blueFirst(): void;
    bytes(): void;
    upright(): void;
  }
  export class Image {
    private constructor();
    static open(file: string): Image;
    width(): number;
    height(): number;
    crop(left: number, top: number, width: number, height: number): Image;
    tensor(recipe: Recipe): Tensor;
    [Symbol.dispose](): void;
  }
  export function load(files: string[], recipe: Recipe): Loaded;
}

declare module "scorehost:script/models@0.2.0" {
  import type { Element, Tensor } from "scorehost:script/tensors@0.2.0";
  export type Port = { name: string; shape: (number | null)[]; element: Element };
  export class Model {
    private constructor();
    static open(path: string | null): Model;
    inputs(): Port[];
    outputs(): Port[];
    predict(input: Tensor): Tensor;
    predictNamed(inputs: [string, Tensor][]): [string, Tensor][];
  }
}

declare module "scorehost:script/tables@0.2.0" {
  import type { Column } from "scorehost:script/types@0.2.0";
  import type { Tensor } from "scorehost:script/tensors@0.2.0";
  export type Kind = "boolean" | "integer" | "number" | "text";
  export type Field = { name: string; kind: Kind };
  export class Batch {
    private constructor();
    rows(): number;
    columns(): Column[];
    column(name: string): Column;
    tensor(columns: string[]): Tensor;
    [Symbol.dispose](): void;
  }
  export class Table {
    private constructor();
    static open(file: string): Table;
    fields(): Field[];
    next(rows: number): Batch | null;
    [Symbol.dispose](): void;
  }
  export class Writer {
    private constructor();
    static create(file: string): Writer;
    write(columns: Column[]): void;
    finish(): void;
    [Symbol.dispose](): void;
  }
}
