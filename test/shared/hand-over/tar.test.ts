/**
 * One rule for names of both ways: what the reader refuses is never written, and what is written is read,
 * here and by the machine's own tar.
 */
import { expect, test } from "bun:test";
import { readTar } from "../../../shared/hand-over/tar.ts";
import { strangersTar, tarOf } from "../../pretend/hand-over.ts";

const fileOf = (name: string) => ({ name, mode: 0o600, bytes: Buffer.from("x") });
const written = (name: string) => tarOf([fileOf(name)]);

test.each(["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "..", ".", "", "a\\b", "a\nb", "a\u001b[2J"])(
  "%j is neither written nor read",
  (name) => {
    expect(() => written(name)).toThrow("is no name for a file of a tar");
    if (name !== "")
      expect(() => readTar(strangersTar([fileOf(name)]))).toThrow("is no name for a file of a tar");
  },
);

test.each([
  "./kube-pki-repair-20260501T100000/runs/1.txt",
  "package/bin/bun",
  "a..b",
  `${"d".repeat(150)}/${"n".repeat(100)}`,
])("%s is read as it was written", (name) => {
  expect(readTar(written(name)).map((file) => file.name)).toEqual([name]);
  expect(Bun.spawnSync(["tar", "-t"], { stdin: written(name) }).stdout.toString()).toBe(`${name}\n`);
});

test.each([
  ["its last part is too long", "n".repeat(101)],
  ["a part of it fits in no field", `d/${"n".repeat(101)}`],
  ["all before its last slash is too long", `${"d".repeat(156)}/n`],
])("a name that no header holds is refused, not shortened: %s", (_, name) => {
  expect(() => written(name)).toThrow("too long a name for this tar");
});
