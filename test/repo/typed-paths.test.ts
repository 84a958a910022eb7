/**
 * A new option with a value has to say here, or in its script, whether it is a path. Then nobody else chooses
 * what is read there, or where something is written: test/scripts/typed-paths-links.test.ts.
 */
import { expect, test } from "bun:test";
import { PATHS, tables } from "./typed-paths.ts";

/** Options with a value that is no path. */
const NO_PATH = [
  "endpoint",
  "user",
  "kid",
  "pid",
  "server",
  "to",
  "ca-hash",
  "address",
  "kubernetes",
  "arch",
  "as",
];
const NO_PATH_IN: Record<string, string[]> = {
  "00-assess.ts": ["manifest"],
  "00-salvage.ts": ["from"],
  "join-again.ts": ["lost"],
  // a path of the nodes, which a plan there judges
  "repair.ts": ["etcd-data"],
};

test.each(tables)(
  "$script: an option with a value says whether it is a path, and for what",
  ({ script, options }) => {
    const unsaid = Object.entries(options).filter(
      ([, option]) =>
        option.type === "string" && !["number", "oneOf", "list", "path", "file"].some((key) => key in option),
    );
    const named = [...NO_PATH, ...(NO_PATH_IN[script] ?? [])];
    expect(unsaid.map(([name]) => name).filter((name) => !named.includes(name))).toEqual([]);
  },
);

test("the paths are found: an output, a secret, a folder, a word after the command", () => {
  const lines = PATHS.map(({ line, use }) => `${line}: ${use}`);
  for (const known of [
    "03-workers open --token-file: written",
    "05-verify --metrics: public",
    "hand-over unpack FILE --identity: secret",
    "00-salvage --backup: trusted",
    "hand-over identity: written",
    "plan: written",
    "05-verify --etcd-data: proved",
  ])
    expect(lines).toContain(known);
});
