/**
 * A judge of a value by a JSON Schema (draft 2020-12), for the words that scripts/answers.schema.json has; another word is
 * an error, so that none is without effect.
 */

type Schema = Record<string, unknown>;

const SAYS_NOTHING = ["$schema", "$id", "$defs", "title", "description"];

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const TYPES: Record<string, (value: unknown) => boolean> = {
  object: isObject,
  array: Array.isArray,
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: Number.isInteger,
  boolean: (value) => typeof value === "boolean",
};

/** RFC 3339, in UTC; a pretend node shows it as TIME. */
const DATE_TIME = /^(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|TIME)$/;

/** The faults, each with its place: "/checks/3/notAfter: …"; [] if it fits. */
export function faultsBy(root: Schema, schema: Schema, value: unknown, at = ""): string[] {
  const deeper = (own: unknown, one: unknown, name: string | number) =>
    faultsBy(root, own as Schema, one, `${at}/${name}`);
  const words: Record<string, (said: never) => string[]> = {
    $ref: (path: string) => faultsBy(root, find(root, path), value, at),
    allOf: (all: Schema[]) => all.flatMap((one) => faultsBy(root, one, value, at)),
    anyOf: (all: Schema[]) =>
      all.some((one) => faultsBy(root, one, value, at).length === 0) ? [] : [`${at}: is none of these`],
    type: (type: string) => (TYPES[type]!(value) ? [] : [`${at}: is no ${type}: ${JSON.stringify(value)}`]),
    const: (wanted: unknown) =>
      value === wanted ? [] : [`${at}: is not ${wanted}: ${JSON.stringify(value)}`],
    enum: (all: unknown[]) => (all.includes(value) ? [] : [`${at}: is none of ${all}: ${value}`]),
    minimum: (least: number) => (Number(value) >= least ? [] : [`${at}: is less than ${least}: ${value}`]),
    format: () => (DATE_TIME.test(String(value)) ? [] : [`${at}: is no date: ${value}`]),
    required: (names: string[]) =>
      isObject(value)
        ? names.flatMap((name) => (Object.hasOwn(value, name) ? [] : [`${at}/${name}: is missing`]))
        : [],
    properties: (all: Record<string, Schema>) =>
      isObject(value)
        ? Object.entries(all).flatMap(([name, own]) =>
            value[name] === undefined ? [] : deeper(own, value[name], name),
          )
        : [],
    items: (own: Schema) => (Array.isArray(value) ? value.flatMap((one, i) => deeper(own, one, i)) : []),
  };
  return Object.entries(schema).flatMap(([word, said]) => {
    if (SAYS_NOTHING.includes(word)) return [];
    return words[word]?.(said as never) ?? [`${at}: the schema has "${word}", which nobody judges`];
  });
}

/** "#/$defs/check" */
export function find(root: Schema, path: string): Schema {
  return path
    .split("/")
    .slice(1)
    .reduce<unknown>((one, name) => (one as Schema)[name], root) as Schema;
}
