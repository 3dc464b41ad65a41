// Models of the deployment.

import * as host from "scorehost:script/models@0.2.0";
import { call, text } from "./failures";
import { handleOf, Tensor } from "./tensors";

/** An input or an output. A size that is `null` is free, as a batch dimension is. */
export type Port = host.Port;

/** A model that the host has opened, once for all instances. */
export class Model {
  /** For the SDK: scripts call `Model.open`. */
  constructor(readonly handle: host.Model) {}

  /** A file below the model folder; without a path, the folder's only model. */
  static open(path?: string): Model {
    return new Model(call(() => host.Model.open(path === undefined ? null : text(path))));
  }

  /** What it takes. */
  get inputs(): Port[] {
    return this.handle.inputs();
  }

  /** What it gives. */
  get outputs(): Port[] {
    return this.handle.outputs();
  }

  /**
   * The first output for the only input. A picture without a batch dimension is taken as a batch of one. Returns before
   * the result is there; what reads the result waits.
   */
  predict(input: Tensor): Tensor {
    return new Tensor(call(() => this.handle.predict(handleOf(input))));
  }

  /** Every output by name, for inputs by name. */
  predictNamed(inputs: Record<string, Tensor>): Record<string, Tensor> {
    const named = Object.entries(inputs).map(([name, tensor]): [string, Tensor["handle"]] => [text(name), handleOf(tensor)]);
    const outputs = call(() => this.handle.predictNamed(named));
    return Object.fromEntries(outputs.map(([name, handle]) => [name, new Tensor(handle)]));
  }
}
