/**
 * Clusters that differ in who signs in how, by the scripts beside parts 0 to 5: what no flag reads is looked for, packed
 * and asked for by none of them.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync } from "node:fs";
import type { Drill } from "../../shared/drill/drill.ts";
import { write } from "../pretend/cluster.ts";
import { runsHere } from "../pretend/typed-here.ts";
import { unlike } from "../pretend/unlike.ts";
import { PKI } from "../pretend/unlike-edits.ts";
import { TRUST } from "../pretend/unlike-trust.ts";

setDefaultTimeout(300_000);

/** The usual cluster's: each drill names it. */
const POLICY = "/etc/kubernetes/audit/policy.yaml";
/** What else it names: files that only a copy brings back, and what comes back in kubeadm's form. */
const DRILLED: { of: RegExp; copies?: string[]; ownFiles?: string[] }[] = [
  { of: /^kubelets have a CA/, copies: [`${PKI}/kubelet-ca.crt`, `${PKI}/kubelet-ca.key`] },
  { of: /^the ports of kubelets/, copies: [`${PKI}/kubelet-serving-ca.crt`] },
  { of: /no certificate at all$/, ownFiles: ["/etc/kubernetes/kubelet.conf"] },
];
const [OFF] = TRUST as [(typeof TRUST)[number]];

test("without an aggregation layer, all lost: its CA is no lost key, and no search looks for it", async () => {
  using cluster = await unlike(OFF, runsHere, true);
  const { stdout } = await cluster.run("00-assess --json");
  expect(JSON.parse(stdout).lost).toEqual(["ca.key", "etcd/ca.key", "sa.key"]);
  expect(stdout).not.toContain("front-proxy");
  expect((await cluster.run("00-salvage memory")).stderr).not.toContain("front-proxy");
});

test("hand-over packs and unpacks the other keys there, and says that this one is not among them", async () => {
  using from = await unlike(OFF, runsHere);
  write(`${from.node.root}/root/pass`, "three-words-and-more\n");
  const said = /^ +front-proxy-ca +not in it: no API server has an aggregation layer/m;
  const packed = await from.run("hand-over pack --passphrase-file pass --out keys.age");
  expect(packed).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(said) });
  using to = await unlike(OFF, runsHere, true);
  for (const file of ["pass", "keys.age"])
    cpSync(`${from.node.root}/root/${file}`, `${to.node.root}/root/${file}`);
  const unpacked = await to.run("hand-over unpack keys.age --passphrase-file pass");
  expect(unpacked).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(said) });
  const here = ["ca.key", "front-proxy-ca.key", "etcd/ca.key", "sa.key"].map((file) =>
    to.node.exists(`/etc/kubernetes/pki/${file}`),
  );
  expect(here).toEqual([true, false, true, true]);
});

test.each(TRUST.map((row) => [row.name, row] as const))(
  "a drill finds what would come back where %s",
  async (name, row) => {
    const { copies = [], ownFiles = [] } = DRILLED.find(({ of }) => of.test(name)) ?? {};
    using cluster = await unlike(row, runsHere);
    write(`${cluster.node.root}/root/pass`, "three-words-and-more\n");
    expect((await cluster.run("hand-over pack --passphrase-file pass --out /root/keys.age")).exitCode).toBe(
      0,
    );
    const { exitCode, stdout, changed } = await cluster.run("drill --json");
    const { files, lost } = JSON.parse(stdout) as Drill;
    const differ = files.filter(({ differences }) => differences.length > 0).map(({ path }) => path);
    expect({ changed, exitCode, differ }).toEqual({ changed: [], exitCode: 2, differ: ownFiles });
    expect(lost.map(({ path }) => path)).toEqual([POLICY, ...copies]);
  },
);
