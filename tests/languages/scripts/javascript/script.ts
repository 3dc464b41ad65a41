// Does what the deployment's tag `scenario` says; tests/languages.rs runs it. Every language has this script, and gives the
// same bytes. JavaScript has no functions for files: what reads and writes them itself is left out.

import { type Columns, context, fileName, Model, Output, Permanent, setting, Table, Transient, Writer } from "scorehost";

export function run(miniBatch: string[]) {
  const scenario = SCENARIOS[setting("scenario", "")];
  if (scenario === undefined) throw new Permanent(`there is no scenario \`${setting("scenario")}\``);
  return scenario(miniBatch);
}

/** Cells of every kind, empty ones, and whole numbers among numbers. */
function cells(miniBatch: string[]) {
  const output = new Output({
    file: "text", whole: "integer", number: "number", maybe: "integer", flag: "boolean", text: "text", nothing: "integer",
  });
  for (const file of miniBatch.map(fileName)) {
    output.push([file, 1, 3, null, true, "plain", null]);
    output.push([file, -9007199254740993n, 0.1, 7, false, '"quotes", commas\nand lines', null]);
    output.push([file, 2n ** 63n - 1n, 1e300, undefined, null, "", null]);
  }
  return output;
}

/** A declared failure of each kind: one that stays, one that passes, one of a file. */
function failures(miniBatch: string[]) {
  const number = Number(context.miniBatch());
  const attempt = context.attempt();
  if (number === 1) throw new Permanent("not this one");
  if (number === 2 && attempt === 1) throw new Transient("not yet");
  if (number === 3) throw new Transient("never");
  const output = new Output({ file: "text", mini_batch: "integer", attempt: "integer" });
  miniBatch.forEach((file, index) => {
    if (fileName(file).startsWith("bad")) output.fail(index, "it is called bad");
    else output.push([fileName(file), number, attempt]);
  });
  return output;
}

/** A row for each text of a table, and how many characters it has. */
function texts(miniBatch: string[]) {
  const output = new Output({ file: "text", text: "text", characters: "integer" });
  for (const file of miniBatch) {
    for (const batch of Table.open(file).batches(2)) {
      for (const text of batch.column("text")) {
        output.push([fileName(file), text, typeof text === "string" ? [...text].length : null]);
      }
    }
  }
  return output;
}

/** The records of a table with a prediction each, some at a time, column by column. */
function* scored(table: Table) {
  const model = Model.open();
  for (const batch of table.batches(2)) {
    const predictions = model.predict(batch.tensor(["height", "width"])).floats();
    yield { ...batch.columns(), prediction: [...predictions] };
  }
}

/** What each column of a scored table holds. */
function kinds(table: Table): Exclude<Columns, readonly string[]> {
  return { ...Object.fromEntries(table.fields.map(({ name, kind }) => [name, kind])), prediction: "number" };
}

/** Each record of the tables, with its file and its prediction. */
function rows(miniBatch: string[]) {
  let output: Output | undefined;
  for (const file of miniBatch) {
    const table = Table.open(file);
    output ??= new Output({ file: "text", ...kinds(table) });
    for (const columns of scored(table)) {
      const values = Object.values(columns);
      columns.prediction.forEach((_, row) => output!.push([fileName(file), ...values.map((cells) => cells[row])]));
    }
  }
  return output;
}

/** A Parquet file for each table: its records with their predictions. */
function parquet(miniBatch: string[]) {
  for (const file of miniBatch) {
    const table = Table.open(file);
    const writer = Writer.create(fileName(file).replace(/\.csv$/, ".parquet"), kinds(table));
    for (const columns of scored(table)) writer.write(columns);
    writer.finish();
  }
  return miniBatch.map(fileName);
}

/** A file for each class and mini-batch, in folders of classes. */
function partitions(miniBatch: string[]) {
  const classes = new Map<string, { id: number[]; prediction: number[] }>();
  for (const file of miniBatch) {
    for (const columns of scored(Table.open(file))) {
      const { id, prediction } = columns as unknown as { id: number[]; prediction: number[] };
      prediction.forEach((value, row) => {
        const name = value >= 3 ? "high" : "low";
        const members = classes.get(name) ?? { id: [], prediction: [] };
        members.id.push(id[row]!);
        members.prediction.push(value);
        classes.set(name, members);
      });
    }
  }
  for (const [name, members] of classes) {
    const writer = Writer.create(`class=${name}/part-${context.miniBatch()}.csv`, { id: "integer", prediction: "number" });
    writer.write(members);
    writer.finish();
  }
  return miniBatch.map(fileName);
}

/** Writes files, named by mini-batch and attempt, one of which is never finished; the first attempt at each fails, and all
 * attempts at the second. */
function writtenOnceMore(miniBatch: string[]) {
  const number = Number(context.miniBatch());
  const attempt = context.attempt();
  for (const [ending, finished] of [["jsonl", true], ["open.jsonl", false]] as const) {
    const writer = Writer.create(`${number}.${attempt}.${ending}`, { attempt: "integer" });
    writer.write({ attempt: [attempt] });
    if (finished) writer.finish();
  }
  if (number === 1 || attempt === 1) throw new Transient("once more");
  return miniBatch.map(fileName);
}

const SCENARIOS: Record<string, (miniBatch: string[]) => unknown> = {
  cells,
  failures,
  texts,
  rows,
  parquet,
  partitions,
  "written-once-more": writtenOnceMore,
};
