// Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).
// One row a file: its name, the most likely class, that class's probability.

import { fileName, images, Model, Output, Recipe, setting } from "scorehost";

let model: Model;
let recipe: Recipe;
let deviceBatching: number;

export function init() {
  model = Model.open();
  recipe = Recipe.forModel(model);
  deviceBatching = Math.max(setting("device_batching", Infinity), 1);
}

export function run(miniBatch: string[]) {
  const output = new Output({ file: "text", class: "integer", probability: "number" });
  const { pictures, failed } = images.load(miniBatch, recipe);
  output.failAll(failed);
  const bad = new Set(failed.map(({ index }) => index));
  const good = miniBatch.filter((_, index) => !bad.has(index));
  // Every batch is handed over before the first result is read, so that the device never waits for the script.
  const scored = [];
  for (let start = 0; start < good.length; start += deviceBatching) {
    const files = good.slice(start, start + deviceBatching);
    const batch = pictures.slice(start, files.length);
    scored.push({ files, probabilities: model.predict(batch).softmax() });
  }
  for (const { files, probabilities } of scored) {
    const best = probabilities.bestOfRows();
    files.forEach((file, row) => output.push([fileName(file), ...best[row]!]));
  }
  return output;
}
