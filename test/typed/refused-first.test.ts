/**
 * A sample of test/soak/refused-first.test.ts: what can refuse comes before the first write, and what a first screen
 * promises to write is what is written.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { expectRefusedFirst, LOST_KEYS, LOST_MEMBERS, nameOf } from "../pretend/lost-keys.ts";
import { expectPromiseKept, PROMISING } from "../pretend/promised-files.ts";

setDefaultTimeout(300_000);

/** Each loss of one key, where the control plane runs: the last copy of the key may be in its memory. */
const ROWS = LOST_KEYS.filter(
  ({ files, line, alive }) => alive && files.length === 1 && /^0[12]-[a-z-]+$|^renew-ca$/.test(line),
);

test.each(ROWS.map((row) => [nameOf(row), row] as const))("%s", (_, row) => expectRefusedFirst(row));

/** Part 2 takes a lost member out of etcd, which is for good. */
const WITHOUT_MEMBER = LOST_MEMBERS.filter(
  ({ files, line, alive, commands }) =>
    line === "02-control-plane --lost m2" && alive && (commands || files.length === 1),
);

test.each(WITHOUT_MEMBER.map((row) => [nameOf(row), row] as const))("%s", (_, row) =>
  expectRefusedFirst(row),
);

test("part 2 leaves every member in etcd where it refuses for a missing image, and takes the lost one out where it does not", async () => {
  const row = { files: [], line: "02-control-plane --lost m2", alive: true, isMemberLost: true } as const;
  const { exitCode, changed } = await expectRefusedFirst(row);
  expect({ exitCode, changed }).toEqual({
    exitCode: 0,
    changed: expect.arrayContaining(["etcd: a member was taken out"]),
  });
});

test("part 2 without ca.key leaves the controller-manager alone that has it in memory, and promises nothing", async () => {
  const { exitCode, stderr, changed } = await expectRefusedFirst({
    ...{ files: ["ca.key"], line: "02-control-plane", alive: true },
  });
  expect({ exitCode, changed }).toEqual({ exitCode: 1, changed: [] });
  expect(stderr).toContain("ca.crt is needed and cannot be used: key missing");
  expect(stderr).not.toContain("will write");
});

test("renew-ca without sa.key and sa.pub restarts nothing: only the servers that run still know the key", async () => {
  const { exitCode, stderr, changed } = await expectRefusedFirst({
    ...{ files: ["sa.key", "sa.pub"], line: "renew-ca", alive: true },
  });
  expect({ exitCode, changed }).toEqual({ exitCode: 3, changed: [] });
  expect(stderr).toContain('Not all files here are valid: "/etc/kubernetes/pki/sa.key" (missing)');
});

/**
 * Losses that a line repairs: with new keys, with the certificates of keys that are here, and part 2 after part 1. A part 1
 * that leaves etcd alone restarts the kubelet that has lost its own file.
 */
const PROMISES = PROMISING.filter(
  ({ files, line, after, alive, also }) =>
    also !== undefined ||
    (alive && files.join() === "../kubelet.conf") ||
    (["ca.key,ca.crt", "ca.crt,sa.pub", "../scheduler.conf,../manifests/kube-scheduler.yaml"].includes(
      files.join(),
    ) &&
      (after || !/^01-etcd$|internal/.test(line))),
);

test.each(PROMISES.map((row) => [nameOf(row), row] as const))(
  "the first screen names what is written and stopped: %s",
  (_, row) => expectPromiseKept(row),
);
