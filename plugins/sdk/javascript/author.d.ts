// The author's script, as the build puts it in this place.

declare module "scorehost:author" {
  export const init: (() => unknown) | undefined;
  export const run: (miniBatch: string[]) => unknown;
}
