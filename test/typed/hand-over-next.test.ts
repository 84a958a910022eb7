/** hand-over pack: what it prints as next, by what its file is for. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { MEMBERS, three } from "../pretend/plan.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const RUN = "/run/kube-pki-repair";
const MARK = "/etc/kubernetes/.kube-pki-repair-backup";

/** One of three control plane nodes, with the kit's folder in memory. */
async function ofThree() {
  const node = here(await pretendNode({ kind: "healthy control plane node", etcd: three, members: MEMBERS }));
  write(`${node.root}/root/passphrase`, "nine trees by the river\n");
  write(`${node.root}/proc/self/mountinfo`, `23 22 0:30 / ${RUN} rw,nosuid,nodev - tmpfs tmpfs rw\n`);
  mkdirSync(`${node.root}${RUN}`, { recursive: true });
  return node;
}

test("as a backup: move it away, and its mark to the other control plane nodes; nothing is unpacked there", async () => {
  using node = await ofThree();
  const { exitCode, stdout, stderr } = await node.run(
    "hand-over pack --passphrase-file passphrase --out /root/keys.age",
  );
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stdout.split("\n").filter(Boolean)).toEqual(
    ["m2", "m3"].map((name) => `scp -p ${MARK} root@${name}:/etc/kubernetes/`),
  );
  expect(stderr).toMatch(
    /\ndone\. {2}next: move \/root\/keys\.age away; so that the others know of it, its mark goes there, which holds no key:\n$/,
  );
});

test("for the other control plane nodes: the lines that carry it, and on stdout the line for there alone", async () => {
  using node = await ofThree();
  const out = `${RUN}/shared-keys.age`;
  const { exitCode, stdout, stderr } = await node.run(
    `hand-over pack --passphrase-file passphrase --out ${out}`,
  );
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stdout).toMatch(
    /^\.\/bunw scripts\/hand-over\.ts unpack --passphrase-file passphrase --ca-hash \S+ \S+shared-keys\.age\n$/,
  );
  for (const name of ["m2", "m3"])
    expect(stderr).toContain(`  scp -p ${out} passphrase root@${name}:${RUN}/\n`);
});
