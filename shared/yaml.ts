/**
 * YAML as Kubernetes reads it: sigs.k8s.io/yaml, and below it go.yaml.in/yaml/v2 (its resolve.go is the
 * source of the table here). It is neither YAML 1.1 nor 1.2: `on`, `y` and `1_000` are no strings, but
 * `12:30:45` and `2026-01-01` are. Written text is quoted if either of these would see more than a string. Go
 * reads a document's values as JSON; of two equal keys it takes the last one.
 */
import { type ParseOptions, type ScalarTag, type SchemaOptions, stringify, YAMLParseError } from "yaml";
import { Refused } from "./fail.ts";
import { memo } from "./memo.ts";
import { documentsOf } from "./yaml-documents.ts";

const tag = (name: string) => `tag:yaml.org,2002:${name}`;

const NULLS: ScalarTag = {
  tag: tag("null"),
  default: true,
  identify: (value) => value === null || value === undefined,
  test: /^(?:~|null|Null|NULL)?$/,
  resolve: () => null,
  stringify: () => "null",
};

const BOOLEANS: ScalarTag = {
  tag: tag("bool"),
  default: true,
  identify: (value) => typeof value === "boolean",
  test: /^(?:[yY]|yes|Yes|YES|true|True|TRUE|on|On|ON|[nN]|no|No|NO|false|False|FALSE|off|Off|OFF)$/,
  resolve: (text) => /^(?:[yt]|on)/i.test(text),
};

/** strconv.ParseInt with base 0, after all underscores are taken out; a sign or a digit comes first. */
const INTEGERS: ScalarTag = {
  tag: tag("int"),
  default: true,
  identify: (value) => typeof value === "number",
  test: /^(?=[-+\d])[-+]?_*(?:0_*x_*[\da-f][\da-f_]*|0_*b_*[01][01_]*|0_*o_*[0-7][0-7_]*|0[0-7_]*|[1-9][\d_]*)$/i,
  resolve: (text) => {
    const [, sign, digits = ""] = /^([-+]?)(.*)$/.exec(text.replaceAll("_", ""))!;
    return (sign === "-" ? -1 : 1) * Number(/^0\d/.test(digits) ? `0o${digits}` : digits);
  },
};

/** resolve.go's yamlStyleFloat, and strconv.ParseFloat, to which a number beyond its range is none. */
const FLOATS: ScalarTag = {
  tag: tag("float"),
  default: true,
  test: /^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|\.(?!.*__)\d[\d_]*(?<!_)(?:e[-+]?\d+)?|(?=[-+\d])[-+]?_*(?:\._*\d[\d_]*|\d[\d_]*(?:\.[\d_]*)?)(?:e_*(?:[-+]_*)?\d[\d_]*)?)$/i,
  resolve: (text) => {
    if (/[a-z]{3}$/i.test(text))
      return text.endsWith("n") || text.endsWith("N")
        ? Number.NaN
        : Number(`${text[0]}Infinity`.replace(".", ""));
    const number = Number(text.replaceAll("_", ""));
    return Number.isFinite(number) ? number : text;
  },
};

/**
 * Characters that Go reads as line breaks or a byte order mark, or refuses (readerc.go): only an escape keeps
 * them.
 */
const ESCAPED = /[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g;

/**
 * The library's own strings, but quoted on one line if Go would lose a letter, or the blanks before the first
 * line.
 */
function quoting(strings: ScalarTag): ScalarTag {
  return {
    ...strings,
    stringify: (item, ...rest) => {
      const text = String(item.value);
      if (text.search(ESCAPED) < 0 && !/^[ \t\n].*\n|^\n/s.test(text))
        return strings.stringify!(item, ...rest);
      return JSON.stringify(text).replaceAll(
        ESCAPED,
        (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
      );
    },
  };
}

const SCALARS = [NULLS, BOOLEANS, INTEGERS, FLOATS];

const READ: SchemaOptions & ParseOptions = {
  schema: "failsafe",
  customTags: (failsafe) => [...failsafe, ...SCALARS, "merge"],
  uniqueKeys: false,
};

const WRITE: SchemaOptions = {
  schema: "failsafe",
  customTags: (failsafe) => [
    ...failsafe.map((one) =>
      typeof one === "object" && one.tag === tag("str") ? quoting(one as ScalarTag) : one,
    ),
    ...SCALARS,
  ],
  compat: ["merge", "timestamp", "intTime", "floatTime"],
};

/**
 * The only document of a text. Errors: YAMLParseError (also if it is too deep, a key is a list, an alias leads to
 * nothing, or the aliases stand for too much).
 */
export function readYaml(text: string): unknown {
  return onlyDocument(text).toJS();
}

/** Paths of fields, "networking.podSubnet", and the type of each if it exists. */
export type Shape = Readonly<Record<string, "string" | "list" | "mapping">>;

/**
 * The fields of a text that people may have written. Errors: Refused with its line and column, or with the
 * field of another type; `what`: the file or object, as a sentence begins; `hint`: how to correct it.
 */
export function readMapping(
  text: string,
  what: string,
  { hint, shape }: { hint: string; shape: Shape },
): Record<string, unknown> {
  const fail = (why: string, cause?: unknown) => new Refused(`${what} ${why}`, { hint, cause });
  let value: unknown;
  try {
    value = readYaml(text);
  } catch (cause) {
    // "…, at line 1, column 26:", then the line itself
    const [why = ""] = String((cause as Error).message).split("\n");
    throw fail(`is no YAML: ${why.replace(/:$/, "")}`, cause);
  }
  if (!isMapping(value)) throw fail(value === null ? "is empty" : "has no fields");
  for (const [path, kind] of Object.entries(shape)) {
    const found =
      path.split(".").reduce<unknown>((of, name) => (isMapping(of) ? of[name] : undefined), value) ??
      undefined;
    const isTexts = Array.isArray(found) && found.every((one) => typeof one === "string");
    const matches = isTexts
      ? "list"
      : isMapping(found)
        ? "mapping"
        : Array.isArray(found)
          ? "list of other than texts"
          : typeof found;
    if (found !== undefined && matches !== kind) throw fail(`has ${path} as a ${matches}, not a ${kind}`);
  }
  return value;
}

/** The first of several documents of a text, whatever comes behind it. Errors: as `readYaml`. */
export function readFirstYaml(text: string): unknown {
  return firstDocument(text).toJS() ?? undefined;
}

/** Parsed once for each text; `toJS` makes new values each time. */
const firstDocument = memo((text) => documentsOf(text, READ).next().value!);
const onlyDocument = memo((text) => {
  const [first, second] = documentsOf(text, READ).take(2).toArray();
  if (second) throw new YAMLParseError([0, 1], "MULTIPLE_DOCS", "The text has several documents");
  return first!;
});

/** Writes YAML as sigs.k8s.io/yaml does: lines of any length, lists not indented. */
export function yamlText(value: unknown): string {
  return stringify(value, { ...WRITE, lineWidth: 0, indentSeq: false });
}

/** Whether what was read is an object with fields. */
export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The list; an empty one if the value is something else. */
export function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
