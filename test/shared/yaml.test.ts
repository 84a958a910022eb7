/**
 * YAML as Kubernetes reads it. Go's own answers; test/lab/checks/yaml-equal.ts compares thousands of words
 * with the library itself.
 */
import { expect, spyOn, test } from "bun:test";
import { readFirstYaml, readYaml, yamlText } from "../../shared/yaml.ts";

/** What sigs.k8s.io/yaml 1.6.0 makes of each plain word. */
// biome-ignore format: a table
const WORDS: [string, unknown][] = [
  ["yes", true], ["On", true], ["y", true], ["TRUE", true], ["no", false], ["off", false], ["N", false],
  ["~", null], ["", null], ["Null", null],
  ["1_000", 1000], ["017", 15], ["0o7", 7], ["0x1F", 31], ["0x_1F", 31], ["0b11", 3], ["-0b11", -3], ["+1", 1], ["09", 9],
  [".5", 0.5], [".5_0", 0.5], ["1.", 1], ["1e3", 1000], ["1_0.5", 10.5],
  ["12:30:45", "12:30:45"], ["190:20:30.15", "190:20:30.15"], ["2026-01-01", "2026-01-01"], ["1e999", "1e999"], ["0o8", "0o8"],
  ["yEs", "yEs"], ["=", "="], ["_1", "_1"], ["127.0.0.1", "127.0.0.1"], ["--v=4", "--v=4"],
];

test.each(WORDS)("%p is read as Kubernetes reads it", (word, value) => {
  expect(readYaml(`a: ${word}\n`)).toEqual({ a: value });
});

test("text stays text for Kubernetes, whatever it looks like", () => {
  for (const [word] of WORDS)
    expect([word, readYaml(yamlText({ [word]: [word] }))]).toEqual([word, { [word]: [word] }]);
  const plain = ["0o8", "yEs", "=", "_1", "127.0.0.1", "--v=4"];
  expect(yamlText(plain)).toBe(plain.map((word) => `- ${word}\n`).join(""));
  expect(yamlText({ command: ["yes", "1_000", "off", "12:30:45", "2026-01-01", "<<"] })).toBe(
    'command:\n- "yes"\n- "1_000"\n- "off"\n- "12:30:45"\n- "2026-01-01"\n- "<<"\n',
  );
  expect(yamlText("a\u2028b\u0085\x7f")).toBe('"a\\u2028b\\u0085\\u007f"\n');
  expect(yamlText("\t\n x")).toBe('"\\t\\n x"\n');
});

test("what a manifest has as null is written as null, and a field that is not set is not written", () => {
  const metadata = { creationTimestamp: null, name: "etcd", labels: undefined };
  expect(yamlText({ metadata, list: [null] })).toBe(
    "metadata:\n  creationTimestamp: null\n  name: etcd\nlist:\n- null\n",
  );
});

test("of two equal keys the last one counts, and a merge key is one", () => {
  expect(readYaml("a: 1\na: 2\n")).toEqual({ a: 2 });
  expect(readYaml("base: &base {a: 1}\nall: {<<: *base, b: 2}\n")).toEqual({
    base: { a: 1 },
    all: { a: 1, b: 2 },
  });
});

test("readFirstYaml() reads the first of several documents; an empty text has none", () => {
  expect(readFirstYaml("a: on\n---\nb: 1\n")).toEqual({ a: true });
  expect(readFirstYaml("# nothing\n")).toBeUndefined();
  expect(() => readFirstYaml("{ a: [")).toThrow();
});

/** Each line is twice the one before it. */
const LAUGHS = (word: string) =>
  Array.from({ length: 30 }, (_, i) => `a${i}: &a${i} [${i ? `*a${i - 1}, *a${i - 1}` : word}]\n`).join("");

test.each([
  ["keys in keys", "? ? ? a\n", /^A key is a list or a mapping at line 1, column 3$/],
  ["a mapping as a key", "a: 1\n{b: c}: d\n", /^A key is a list or a mapping at line 2, column 1$/],
  ["a list as a key in a flow", "a: {[b]: c}\n", /^A key is a list or a mapping at line 1, column 5$/],
  [
    "an alias to a list as a key",
    "a: &a [b]\n*a : c\n",
    /^A key is a list or a mapping at line 2, column 1$/,
  ],
  [
    "lists in lists without end",
    "[".repeat(100_000),
    /^More than 100 levels of lists and mappings at line 1, /,
  ],
  ["items in items", "- ".repeat(50_000), /^More than 100 levels of lists and mappings at line 1, /],
  [
    "an alias to nothing",
    "a: b\nc: *c\n",
    /^No node before this alias has the anchor "c" at line 2, column 4$/,
  ],
  [
    "an alias inside its own list",
    "a: &a\n- b\n- *a\n",
    /^The alias "a" is inside of what it stands for at line 3, column 3$/,
  ],
  ["a billion laughs", LAUGHS("ha"), /^The aliases stand for more than 10000 values at line 12, column 18$/],
  [
    "as many that say nothing",
    LAUGHS(""),
    /^The aliases stand for more than 10000 values at line 13, column 12$/,
  ],
  [
    "lists in lists by aliases",
    Array.from({ length: 101 }, (_, i) => `a${i}: &a${i} [${i ? `*a${i - 1}` : ""}]\n`).join(""),
    /^More than 100 levels of lists and mappings at line 100, column 12$/,
  ],
  ["a merge of a number", "a: &a 1\nb:\n  <<: *a\n", /^Only mappings can be merged at line 3, column 7$/],
  ["several documents", "a: 1\n---\nb: 1\n", /^The text has several documents/],
])("a text with %s is refused, as Kubernetes does, and the library prints nothing", (_, text, why) => {
  using warned = spyOn(process, "emitWarning");
  expect(() => readYaml(text)).toThrow(why);
  expect(warned).not.toHaveBeenCalled();
});

test("what people write is read: a hundred levels, an alias to a text as a key, and a key after a question mark", () => {
  const deep = `${"[".repeat(100)}a${"]".repeat(100)}`;
  expect(JSON.stringify(readYaml(deep))).toBe(deep.replace("a", '"a"'));
  expect(readYaml("a: &a b\n*a : c\n? d\n: e\n")).toEqual({ a: "b", b: "c", d: "e" });
});
