/** A stale, cut or missing ca.crt beside the right ca.key comes back; a key that is not the cluster's is none to sign with. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readEvidence } from "../../../shared/facts/evidence.ts";
import { type ActionOptions, actionsFor, keysToMake } from "../../../shared/pki/actions.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { examine } from "../../../shared/pki/examine.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { FACTS, healthyCp } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const { root: healthy, ca } = await healthyCp();
const data = await pretendData();
const row = (name: string) => CERTS.find((cert) => cert.name === name)!;
const early = { now: new Date(Date.now() - 2 * 8760 * 3600_000) };
const [older, olderEtcd] = [await issueCa(row("ca"), FACTS, early), await issueCa(row("etcd-ca"), FACTS, early)];
const evidence = () => readEvidence({ data, node: NODE, certificatesDir: FACTS.certificatesDir });

/** A healthy control plane node whose pki/ is changed. */
function damaged(change: (pki: string) => void) {
  const box = sandbox();
  cpSync(`${healthy}/etc`, `${box.dir}/etc`, { recursive: true });
  cpSync(`${healthy}/var`, `${box.dir}/var`, { recursive: true, verbatimSymlinks: true });
  const pki = `${box.dir}/etc/kubernetes/pki`;
  change(pki);
  return Object.assign(box, { file: (name: string) => readFileSync(`${pki}/${name}`, "utf8") });
}

const SHARED = { certs: CERTS.filter((cert) => cert.shared), serviceAccountKey: true };
const made = (options: ActionOptions) => keysToMake(actionsFor(SHARED, FACTS, options));

const ensure = (newCas?: "all") => ensureMany({ certs: CERTS, serviceAccountKey: true }, FACTS, { asideDir: "/aside", newCas, evidence });

test.each([
  ["missing", (pki: string) => rmSync(`${pki}/ca.crt`)],
  ["cut off", (pki: string) => writeFileSync(`${pki}/ca.crt`, ca.cert.slice(0, 300))],
  ["empty", (pki: string) => writeFileSync(`${pki}/ca.crt`, "")],
  ["of an earlier rotation", (pki: string) => writeFileSync(`${pki}/ca.crt`, older.cert)],
])("a ca.crt that is %s comes back byte for byte, also with newCas, and nothing else is written", async (_, change) => {
  for (const newCas of [undefined, "all"] as const) {
    using box = damaged(change);
    expect((await ensure(newCas)).written).toEqual(["ca"]);
    expect([box.file("ca.crt"), box.file("ca.key")]).toEqual([ca.cert, ca.key]);
  }
});

test("etcd's ca.crt, which nothing names, is made again from its key where that signed etcd's certificates", async () => {
  for (const cert of ["garbage", olderEtcd.cert]) {
    using box = damaged((pki) => writeFileSync(`${pki}/etcd/ca.crt`, cert));
    const key = box.file("etcd/ca.key");
    expect((await ensure()).written).toEqual(["etcd-ca"]);
    expect([box.file("etcd/ca.key"), examine(row("etcd-server"), FACTS).state]).toEqual([key, "ok"]);
  }
});

test.each([
  ["another ca.key beside the right ca.crt", ["ca.key"], older.key],
  ["another etcd/ca.key beside the right certificate", ["etcd/ca.key"], olderEtcd.key],
  ["another etcd/ca.key alone", ["etcd/ca.key", "etcd/ca.crt"], olderEtcd.key],
  ["another ca.key alone", ["ca.key", "ca.crt"], older.key],
])("%s counts as lost", (_, [file, ...gone], key) => {
  using _box = damaged((pki) => {
    writeFileSync(`${pki}/${file}`, key);
    for (const name of gone) rmSync(`${pki}/${name}`);
  });
  expect(() => made({ evidence })).toThrow(/is needed and cannot be used/);
});

test("a key that signed none of the pods' tokens is not made the service-account key", async () => {
  const other = await keyPair("ECDSA-P256");
  const kid = serviceAccountKeyId(readFileSync(`${healthy}/etc/kubernetes/pki/sa.pub`, "utf8"));
  using _box = damaged((pki) => writeFileSync(`${pki}/sa.key`, other.key));
  expect(() => made({ evidence: () => ({ texts: [], tokens: [{ kid }] }) })).toThrow(
    "sa.key is needed and cannot be used: does not match its key",
  );
});
