/** A command of this kit is one word on the screen, its sub-command with it. */
import { expect, test } from "bun:test";
import { command } from "../../shared/again.ts";
import { kitCommand, wrapped } from "../../shared/screen-width.ts";
import { kitSources } from "../repo/sources.ts";

const printed = (await kitSources()).flatMap(({ text }) =>
  [...text.matchAll(/\bcommand\("([\w-]+ [a-z]+)["` ]/g)].map(([, words]) => command(words!)),
);

test.each([...new Set(printed)])("%s is one word, whatever follows", (line) => {
  expect(kitCommand(`${line} on each control plane node`)).toBe(line);
  expect(wrapped(`type ${line} on each control plane node`, 2, 20)).toContain(`  ${line}`);
});

test("there are such commands", () => {
  expect(printed.length).toBeGreaterThan(20);
});

test.each([
  ["./bunw scripts/01-etcd.ts --new-cas on each control plane node", "./bunw scripts/01-etcd.ts --new-cas"],
  ["./bunw scripts/03-workers.ts close --force later", "./bunw scripts/03-workers.ts close --force"],
  ["./bunw scripts/plan.ts --lost cp3 on cp1", "./bunw scripts/plan.ts --lost cp3"],
  [
    "./bunw scripts/renew-ca.ts --dry-run --only ca,etcd-ca first",
    "./bunw scripts/renew-ca.ts --dry-run --only ca,etcd-ca",
  ],
])("a prose word behind an option without a value is no part of the command: %s", (text, line) => {
  expect(kitCommand(text)).toBe(line);
});
