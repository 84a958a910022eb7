/** What an operator reads where etcd's data cannot be read. */
import { expect, test } from "bun:test";
import { explain } from "../../../shared/etcd-data/directory.ts";
import { Damaged } from "../../../shared/etcd-data/protobuf.ts";
import { Fail } from "../../../shared/fail.ts";

const of = (code: string) => Object.assign(new Error("no"), { code });

test.each<[string, unknown, { isWritten?: boolean }, string, string]>([
  [
    "damaged",
    new Damaged("no root"),
    {},
    'etcd\'s data in "/d" is damaged: no root',
    "If etcd's data is damaged",
  ],
  [
    "damaged, while etcd writes",
    new Damaged("no root"),
    { isWritten: true },
    'Cannot read the etcd data in "/d", which is being written to: no root',
    "run the same line again",
  ],
  ["a bad disk", of("EIO"), {}, 'Cannot read the etcd data in "/d": EIO', "dmesg"],
  ["no right", of("EACCES"), {}, 'Cannot read the etcd data in "/d": EACCES', "as root"],
  [
    "no right, of another kind",
    of("EPERM"),
    { isWritten: true },
    'Cannot read the etcd data in "/d": EPERM',
    "as root",
  ],
])("%s", (_, cause, at, message, hint) => {
  const fail = explain(cause, { dir: "/d", ...at }) as Fail;
  expect(fail).toBeInstanceOf(Fail);
  expect(fail.message).toBe(message);
  expect(fail.hint).toContain(hint);
});

test.each([of("ENOENT"), new Error("a bug"), "text"])("%s stays what it is", (cause) => {
  expect(explain(cause, { dir: "/d" })).toBe(cause);
});
