/**
 * What a module keeps at its top level, from one run to the next: a script on a node begins with modules that
 * are new. In tests modules are loaded once, as compiling them takes longer than most runs; so what they keep
 * gets its first value back before each run.
 */

/** Where a module that is loaded puts how its state begins anew. */
const RESETS = "resetsOfModules";

/** `let name: Type = value;` in a line; an annotation has no " = " of its own. */
const VARIABLE = /^(?:export )?let (\w+)(?::.*?)?(?: = (.*))?;$/gm;
const COLLECTION = /^(?:export )?const (\w+)(?::.*?)? = new (?:Map|Set)(?:<.*>)?\(\);$/gm;
const LITERAL = /^(?:export )?const (\w+) = (\{.*\});$/gm;
/** Made for one run; a constant there. */
const MADE = /^const (\w+) = (new AbortController\(\));$/gm;

/**
 * The module's text, and how its state begins anew. Errors: a variable at the top level that is not in one
 * line: nobody would reset it.
 */
export function resettable(text: string, path: string): string {
  const variables = [...text.matchAll(VARIABLE)];
  if (variables.length < (text.match(/^(?:export )?(?:let|var) /gm) ?? []).length)
    throw new Error(`${path}: a variable at the top level has to be in one line, or no test resets it`);
  const resets = [
    ...variables.map(([, name, value]) => `${name} = ${value}`),
    ...[...text.matchAll(COLLECTION)].map(([, name]) => `${name}.clear()`),
    ...[...text.matchAll(LITERAL)].map(([, name, value]) => `Object.assign(${name}, ${value})`),
    ...[...text.matchAll(MADE)].map(([, name, value]) => `${name} = ${value}`),
  ];
  if (resets.length === 0) return text;
  const add = `(globalThis.${RESETS} ??= []).push(() => { ${resets.join("; ")} });`;
  return `${text.replace(MADE, "let $1 = $2;")}\n// @ts-ignore\n${add}\n`;
}

/** All modules that are loaded are as they were before any run. */
export function resetModules() {
  const resets = (globalThis as { [RESETS]?: (() => void)[] })[RESETS] ?? [];
  for (const reset of resets) reset();
}
