// Scores pictures one at a time: decode, resize as Pillow does, scale to [0, 1], predict, softmax.
// One row a file: its name, the most likely class, that class's probability.

import { byFile, fileName, Image, Model, Recipe, type Tensor } from "scorehost";

let model: Model;
let recipe: Recipe;

export function init() {
  model = Model.open();
  recipe = Recipe.forModel(model);
}

export function run(miniBatch: string[]) {
  // Results are read once all files are on their way, so that the model never waits for the script.
  return byFile(miniBatch, { file: "text", class: "integer", probability: "number" }, predict, read);
}

function predict(file: string): Tensor {
  const pixels = Image.open(file).tensor(recipe);
  return model.predict(pixels).softmax();
}

function read(file: string, probabilities: Tensor) {
  return [fileName(file), ...probabilities.best()];
}
