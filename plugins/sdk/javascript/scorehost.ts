// Write a Scorehost scoring script in TypeScript or JavaScript: a plain `init` and `run` in `script.ts` or `script.js`.
//
//     import { byFile, fileName, Image, Model, Recipe } from "scorehost";
//
//     let model: Model, recipe: Recipe;
//
//     export function init() {
//       model = Model.open();
//       recipe = Recipe.forModel(model);
//     }
//
//     export function run(miniBatch: string[]) {
//       return byFile(miniBatch, { file: "text", class: "integer" }, (file) => {
//         const logits = model.predict(Image.open(file).tensor(recipe));
//         return [fileName(file), logits.best()[0]];
//       });
//     }
//
// `init` is called once per instance, before its first mini-batch, and may be left out. `run` gets the paths of a
// mini-batch's files, and returns an `Output`, or rows as an array of arrays, of objects or of plain values, or nothing.
//
// Throwing `Transient` asks for another attempt; any other error fails the mini-batch for good, with its type and text.
// `console` writes to the log. There is no network, no file system, no timer and no module of Node: tables are read with
// `Table`, pictures with `Image`.

export * as context from "./context";
export { setting } from "./context";
export { Failure, Permanent, Transient } from "./failures";
export * as images from "./images";
export { Image, Recipe } from "./images";
export { Model, type Port } from "./models";
export { byFile, type Cell, type Columns, type FailedFile, fileName, type Kind, Output, type Row } from "./output";
export { Batch, byTable, Table, Writer } from "./tables";
export { concatenate, float32, type Largest, stack, Tensor } from "./tensors";
