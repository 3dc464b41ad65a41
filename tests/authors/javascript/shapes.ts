/** From a module beside the script. */
export const name = (index: number): string => ["round", "square"][index % 2]!;
