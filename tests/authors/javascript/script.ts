// A script that behaves as the tag `behave` says; tests/authors.rs says what each must lead to.

import { byFile, context, fileName, float32, Model, Output, Permanent, setting, Tensor, Transient } from "scorehost";

import { name } from "./shapes";

export function init() {
  console.log("init was called");
  if (setting("behave") === "fail_init") throw new Permanent("not today");
}

export function run(miniBatch: string[]): unknown {
  return BEHAVIOURS[setting("behave", "")]!(miniBatch);
}

const BEHAVIOURS: Record<string, (miniBatch: string[]) => unknown> = {
  raise_error() {
    console.log("before it");
    return (undefined as any).missing;
  },
  transient(miniBatch) {
    if (context.attempt() === 1) throw new Transient("busy");
    return miniBatch.map((file) => [fileName(file), BigInt(context.attempt())]);
  },
  recurse(miniBatch) {
    return [BEHAVIOURS.recurse!(miniBatch)];
  },
  regex_without_end() {
    return /^(a+)+$/.test("a".repeat(64) + "b");
  },
  loop() {
    for (;;);
  },
  memory() {
    const held = [];
    for (;;) held.push(new Uint8Array(16 << 20));
  },
  by_files(miniBatch) {
    const size = (file: string) => {
      if (file.endsWith("001.txt")) throw new RangeError("odd");
      if (file.endsWith("002.txt")) throw new Permanent("bad file");
      return file.length;
    };
    return byFile(miniBatch, { file: "text", length: "integer" }, size, (file, length) => [fileName(file), length]);
  },
  wrong_width: (miniBatch) => byFile(miniBatch, ["a", "b"], () => ["one"]),
  plain_values: (miniBatch) => miniBatch.map((_, index) => BigInt(index)),
  dicts: (miniBatch) =>
    miniBatch.map((file, index) => ({ file: fileName(file), [index % 2 ? "odd" : "even"]: BigInt(index) })),
  whole_numbers: (miniBatch) => miniBatch.map((file) => ({ file: fileName(file), 2: "second", 1: "first" })),
  mixed: (miniBatch) => [1, "one", ...miniBatch.slice(2)],
  kinds(miniBatch) {
    const output = new Output({
      empty: "text", boolean: "boolean", integer: "integer", number: "number", score: "number", text: "text",
    });
    miniBatch.forEach((_, index) => {
      const number = index % 2 ? index : index / 8;
      const score = float32(Tensor.fromFloats([1], [0.1]).floats()[0]!);
      const text = index === 1 ? null : `é "${index}"`;
      output.push([null, index === 0, 2n ** 62n + BigInt(index), number, score, text]);
    });
    return output;
  },
  too_large: (miniBatch) => byFile(miniBatch, { a: "integer" }, () => [2n ** 63n]),
  fraction: (miniBatch) => byFile(miniBatch, { a: "integer" }, () => [0.5]),
  no_rows: () => 5,
  async asynchronous() {},
  draw: (miniBatch) => miniBatch.map((file, index) => [fileName(file), Math.random(), name(index)]),
  many_tensors(miniBatch) {
    let tensor;
    for (let index = 0; index < 150_000; index++) tensor = Tensor.fromFloats([1], [index]);
    return miniBatch.map(() => tensor!.floats()[0]);
  },
  logged(miniBatch) {
    console.debug("no");
    console.warn("careful", { a: 1n });
    console.error("printed");
    return miniBatch.map(() => true);
  },
  settings: (miniBatch) =>
    byFile(miniBatch, { 0: "integer", 1: "number", 2: "boolean", 3: "text" }, () => [
      setting("whole", 1), setting("half", 0.25), setting("flag", false), setting("absent", "so"),
    ]),
  wrong_setting: () => setting("behave", 1),
  no_model: () => Model.open("none.onnx"),
  half_a_character: (miniBatch) => miniBatch.map(() => "\ud800"),
  wrong_argument: () => Tensor.fromFloats("no" as unknown as number[], [1]),
};
