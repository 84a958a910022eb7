/**
 * Aliases of a YAML text are written out at once, and counted: for the library each costs a walk over all nodes, those of empty
 * lists stand for any number of values, and what is nested by aliases is as deep as a text is long. An object of Kubernetes has
 * few or none.
 */
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type Pair,
  YAMLParseError,
} from "yaml";

/** Levels of lists and mappings. The schema of a CustomResourceDefinition has about forty. */
export const DEEPEST = 100;

/** Values for which all aliases of a text stand together. */
const MOST = 10_000;

/** A node without aliases: its values, itself among them, and its levels. */
interface Plain {
  node: unknown;
  values: number;
  levels: number;
}

const errorAt = (offset: number, code: YAMLParseError["code"], message: string) =>
  new YAMLParseError([offset, offset + 1], code, message);

export const tooDeepAt = (offset: number) =>
  errorAt(offset, "RESOURCE_EXHAUSTION", `More than ${DEEPEST} levels of lists and mappings`);

/**
 * Puts what each alias stands for in its place: afterwards there is none. Errors: YAMLParseError for an alias to nothing or
 * inside its own node, for too many values or levels, and for keys and merges that Kubernetes does not take either.
 */
export function writeOutAliases(document: Document): void {
  document.contents = new Anchors().plain(document.contents, 0).node as typeof document.contents;
}

class Anchors {
  /** The last node of each name; undefined while it is read. */
  readonly #nodes = new Map<string, Plain | undefined>();
  #values = 0;

  /** `above`: the lists and mappings around it. */
  plain(node: unknown, above: number): Plain {
    if (isAlias(node)) return this.#meant(node.source, node.range?.[0] ?? 0, above);
    const { anchor } = (node ?? {}) as { anchor?: string };
    if (anchor) this.#nodes.set(anchor, undefined);
    const plain = this.#inside(node, above);
    if (anchor) this.#nodes.set(anchor, plain);
    return plain;
  }

  /** An alias stands for the last node before it that has its name. */
  #meant(name: string, offset: number, above: number): Plain {
    const meant = this.#nodes.get(name);
    if (!meant) {
      throw errorAt(
        offset,
        "BAD_ALIAS",
        this.#nodes.has(name)
          ? `The alias "${name}" is inside of what it stands for`
          : `No node before this alias has the anchor "${name}"`,
      );
    }
    if (above + meant.levels > DEEPEST) throw tooDeepAt(offset);
    this.#values += meant.values;
    if (this.#values > MOST)
      throw errorAt(offset, "RESOURCE_EXHAUSTION", `The aliases stand for more than ${MOST} values`);
    return meant;
  }

  #inside(node: unknown, above: number): Plain {
    const all = { node, values: 1, levels: 0 };
    const add = (part: unknown) => {
      const plain = this.plain(part, above + 1);
      all.values += plain.values;
      all.levels = Math.max(all.levels, plain.levels);
      return plain.node;
    };
    if (isSeq(node)) node.items = node.items.map(add);
    else if (isMap(node)) for (const pair of node.items) writeOutPair(pair, add);
    else return all;
    all.levels++;
    return all;
  }
}

/** Kubernetes makes JSON of a text (sigs.k8s.io/yaml), and there no key is a list or a mapping. */
function writeOutPair(pair: Pair, add: (part: unknown) => unknown) {
  const [atKey, atValue] = [pair.key, pair.value].map((part) => (isNode(part) && part.range?.[0]) || 0);
  const key = isCollection(pair.key) ? pair.key : add(pair.key);
  if (isCollection(key)) throw errorAt(atKey!, "NON_STRING_KEY", "A key is a list or a mapping");
  pair.key = key;
  pair.value = add(pair.value);
  if (isMerge(pair.key) && !isMap(pair.value) && !(isSeq(pair.value) && pair.value.items.every(isMap)))
    throw errorAt(atValue!, "BAD_ALIAS", "Only mappings can be merged");
}

/** Decides as the YAML library does: `<<` without quotes is a merge key. */
function isMerge(key: unknown): boolean {
  if (!isScalar(key)) return false;
  return typeof key.value === "symbol" || (key.value === "<<" && (!key.type || key.type === "PLAIN"));
}
