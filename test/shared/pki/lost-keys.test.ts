/**
 * A stale, cut or missing ca.crt beside the right ca.key comes back; a key that is not the cluster's is none
 * to sign with.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readEvidence } from "../../../shared/facts/evidence.ts";
import {
  type ActionOptions,
  actionsFor,
  CLUSTER_CA_SOURCE,
  type Evidence,
  keysToMake,
} from "../../../shared/pki/actions.ts";
import { certInfo, certificatesIn } from "../../../shared/pki/certificate.ts";
import { CERTS } from "../../../shared/pki/certs.ts";
import { ensureMany } from "../../../shared/pki/ensure.ts";
import { examine } from "../../../shared/pki/examine.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { keyPair } from "../../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../../shared/pki/sa-keys.ts";
import { FACTS, healthyCp } from "../../pretend/cluster.ts";
import { NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { agedText, YEAR_MS } from "../../pretend/expired.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const { root: healthy, ca } = await healthyCp();
const data = await pretendData();
const row = (name: string) => CERTS.find((cert) => cert.name === name)!;
const early = { now: new Date(Date.now() - 2 * 8760 * 3600_000) };
const [older, olderEtcd] = [
  await issueCa(row("ca"), FACTS, early),
  await issueCa(row("etcd-ca"), FACTS, early),
];
const EXPIRED = (await agedText(ca.cert, ca.key, 11 * YEAR_MS))!;
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

const ensure = (newCas?: "all", known: () => Evidence = evidence) =>
  ensureMany({ certs: CERTS, serviceAccountKey: true }, FACTS, {
    asideDir: "/aside",
    newCas,
    evidence: known,
  });

test.each([
  ["good", "ok", () => undefined],
  ["expired", "expired", (pki: string) => writeFileSync(`${pki}/ca.crt`, EXPIRED)],
] as const)(
  "an external CA whose certificate is %s: its row says so, and that nobody has to look for its key here",
  async (_, state, change) => {
    using _box = damaged((pki) => {
      rmSync(`${pki}/ca.key`);
      change(pki);
    });
    const found = examine(row("ca"), { ...FACTS, externalCa: true });
    expect(found.state).toBe(state);
    expect(found.detail).toMatch(/until .*; an external CA: its key is not on the control plane nodes$/);
    expect(examine(row("ca"), FACTS).state).toBe("key missing");
  },
);

test.each([
  ["missing", (pki: string) => rmSync(`${pki}/ca.crt`)],
  ["cut off", (pki: string) => writeFileSync(`${pki}/ca.crt`, ca.cert.slice(0, 300))],
  ["empty", (pki: string) => writeFileSync(`${pki}/ca.crt`, "")],
  ["of an earlier rotation", (pki: string) => writeFileSync(`${pki}/ca.crt`, older.cert)],
])(
  "a ca.crt that is %s comes back byte for byte, also with newCas, and nothing else is written",
  async (_, change) => {
    for (const newCas of [undefined, "all"] as const) {
      using box = damaged(change);
      expect((await ensure(newCas)).written).toEqual(["ca"]);
      expect([box.file("ca.crt"), box.file("ca.key")]).toEqual([ca.cert, ca.key]);
    }
  },
);

test("etcd's ca.crt, which nothing names, is made again from its key where that signed etcd's certificates", async () => {
  for (const cert of ["garbage", olderEtcd.cert]) {
    using box = damaged((pki) => writeFileSync(`${pki}/etcd/ca.crt`, cert));
    const key = box.file("etcd/ca.key");
    expect((await ensure()).written).toEqual(["etcd-ca"]);
    expect([box.file("etcd/ca.key"), examine(row("etcd-server"), FACTS).state]).toEqual([key, "ok"]);
  }
});

describe("a CA that has expired", () => {
  const files = { ca: "ca", "front-proxy-ca": "front-proxy-ca", "etcd-ca": "etcd/ca" };
  /** What it was ten years and a day ago. */
  const expire = async (pki: string, file: string) => {
    const key = readFileSync(`${pki}/${file}.key`, "utf8");
    const text = await agedText(readFileSync(`${pki}/${file}.crt`, "utf8"), key, 3651 * 86_400_000);
    writeFileSync(`${pki}/${file}.crt`, text!);
  };

  test.each(Object.entries(files))(
    "%s is renewed with its own key, on each node alike, and what it signed stays",
    async (name, file) => {
      const made: string[] = [];
      for (const newCas of [undefined, "all"] as const) {
        using box = damaged(() => {});
        await expire(`${box.dir}/etc/kubernetes/pki`, file);
        const [old, key] = [box.file(`${file}.crt`), box.file(`${file}.key`)];
        const known = {
          texts: [{ ca: "ca" as const, from: CLUSTER_CA_SOURCE, text: box.file("ca.crt") }],
          tokens: [],
        };
        expect((await ensure(newCas, () => known)).written).toEqual([name]);
        expect([box.file(`${file}.key`), certInfo(box.file(`${file}.crt`)).publicKeyHash]).toEqual([
          key,
          certInfo(old).publicKeyHash,
        ]);
        expect(readFileSync(`${box.dir}/aside${FACTS.certificatesDir}/${file}.crt`, "utf8")).toBe(old);
        expect(box.said.join("\n")).toContain("renewed with its own key");
        made.push(box.file(`${file}.crt`));
      }
      expect(made[0]).toBe(made[1]!);
    },
  );

  test("whose file has another CA beside it keeps that", async () => {
    using box = damaged(() => {});
    await expire(`${box.dir}/etc/kubernetes/pki`, "etcd/ca");
    writeFileSync(`${box.dir}/etc/kubernetes/pki/etcd/ca.crt`, box.file("etcd/ca.crt") + olderEtcd.cert);
    expect((await ensure()).written).toEqual(["etcd-ca"]);
    expect(certificatesIn(box.file("etcd/ca.crt"))[1]).toBe(olderEtcd.cert);
  });

  test("is none of the cluster's where the cluster knows another, and a company's own is not ours to renew", async () => {
    using box = damaged((pki) => {
      writeFileSync(`${pki}/ca.key`, older.key);
      writeFileSync(`${pki}/ca.crt`, older.cert);
    });
    await expire(`${box.dir}/etc/kubernetes/pki`, "ca");
    expect(() => made({ evidence })).toThrow("none that the cluster is known by");
    using _company = damaged(() => {});
    const path = `${_company.dir}/etc/kubernetes/pki/etcd/ca.crt`;
    writeFileSync(path, (await agedText(_company.file("etcd/ca.crt"), older.key, 3651 * 86_400_000))!);
    expect(() => made({ evidence })).toThrow(
      /etcd\/ca\.crt cannot be used: it was valid until 20.*; CN=etcd-ca has signed it/,
    );
  });
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
