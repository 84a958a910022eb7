/** What takes the place of a CA's certificate: proved by its own key, and in each text that holds it. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setRoot } from "../../../shared/files/files.ts";
import { csrCommand } from "../../../shared/pki/actions.ts";
import { certInfo, certificatesIn, publicPem } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { kubeconfigRow, kubeconfigText } from "../../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../../shared/pki/renew.ts";
import {
  type CaName,
  dueCas,
  isDue,
  renewalOf,
  renewedIn,
  renewedText,
  successorOf,
  unlikeOld,
} from "../../../shared/renew/renewal.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { ofCompany } from "../../pretend/company-ca.ts";
import { testFacts } from "../../pretend/facts.ts";
import { olderOf } from "../../pretend/renewed.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const HOUR = 3_600_000;
const LIFE = 1000;

/** A CA that was made so many hours ago, for `LIFE` hours. */
async function caOf(hoursAgo: number, key?: Pair["key"]): Promise<Pair> {
  const own = key === undefined ? {} : { key: { key, pub: publicPem(key) } };
  const facts = testFacts({ caValidityHours: LIFE });
  return await issueCa(certRow("ca"), facts, { ...own, now: new Date(Date.now() - hoursAgo * HOUR) });
}

const old = await caOf(900);
const renewed = renewCa(old.cert, old.key, { hours: LIFE, signed: [] });
const other = await caOf(10);
const now = certInfo(old.cert);
const next = certInfo(renewed);

test.each([
  [900, true],
  [501, true],
  [499, false],
  [1, false],
] as const)("a CA of 1000 hours is due in the second half of its life: after %i hours %p", (age, due) => {
  expect(isDue({ notAfter: new Date(Date.now() + (LIFE - age) * HOUR) }, LIFE)).toBe(due);
});

test("a certificate is one that takes the old one's place by key, name, issuer and key id, and is a CA's", async () => {
  const leaf = (await issueLeaf(certRow("apiserver"), old, testFacts())).cert;
  const named = (
    await issueCa(certRow("etcd-ca"), testFacts(), { key: { key: old.key, pub: publicPem(old.key) } })
  ).cert;
  expect(unlikeOld(old.cert, renewed)).toEqual([]);
  expect(unlikeOld(old.cert, other.cert)).toEqual(["key", "key id"]);
  expect(unlikeOld(old.cert, named)).toEqual(["name", "issuer"]);
  expect(unlikeOld(old.cert, leaf)).toContain("CA:TRUE");
});

test("of several the one that ends last; never one of another key, one that has expired, or one whose signature is not that key's", () => {
  const from = "somewhere";
  const later = renewCa(renewed, old.key, {
    hours: LIFE,
    signed: [],
    now: new Date(Date.now() + 1500 * HOUR),
  });
  expect(successorOf(now, [{ pem: renewed, from }])?.pem).toBe(next.pem);
  expect(successorOf(now, [{ pem: old.cert + renewed + later, from }])?.pem).toBe(certInfo(later).pem);
  expect(successorOf(now, [{ pem: other.cert, from }])).toBe(undefined);
  expect(successorOf(next, [{ pem: old.cert, from }])).toBe(undefined);
  expect(successorOf(now, [{ pem: "nothing", from }])).toBe(undefined);
  expect(successorOf(now, [{ pem: forged(renewed), from }])).toBe(undefined);
});

test.each([
  ["begins later", -2],
  ["has expired, too", LIFE + 1],
])("one of its key that ends later and %s takes no place", async (_, hoursAgo) => {
  const [before, later] = [await caOf(LIFE + 500, old.key), await caOf(hoursAgo, old.key)];
  expect(certInfo(later.cert).notAfter > certInfo(before.cert).notAfter).toBe(true);
  expect(successorOf(certInfo(before.cert), [{ pem: later.cert, from: "a file" }])).toBe(undefined);
  const good = await caOf(1, old.key);
  expect(successorOf(certInfo(before.cert), [{ pem: good.cert, from: "a file" }])?.pem).toBe(good.cert);
});

/** The same with another end, and the signature as it was: nobody without the key makes more of it. */
function forged(pem: string): string {
  const der = Buffer.from(pem.replace(/-----.*-----|\s/g, ""), "base64");
  const [, year] = /until (\d\d)/.exec(`until ${certInfo(pem).notAfter.toISOString().slice(2)}`)!;
  const end = `${certInfo(pem)
    .notAfter.toISOString()
    .replace(/\.\d+|[-:T]/g, "")
    .slice(2)}`;
  const at = der.indexOf(end);
  der.write(String(Number(year) + 1), at);
  return `-----BEGIN CERTIFICATE-----\n${der
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n")}\n-----END CERTIFICATE-----\n`;
}

test("in a text the renewed one stands where the old one stood, once; others stay", () => {
  expect(renewedIn(old.cert, next)).toBe(renewed);
  expect(renewedIn(renewed, next)).toBe(renewed);
  expect(renewedIn(other.cert, next)).toBe(other.cert);
  expect(renewedIn(`# ours\n${old.cert}# theirs\n${other.cert}`, next)).toBe(
    `# ours\n${renewed}# theirs\n${other.cert}`,
  );
  expect(certificatesIn(renewedIn(old.cert + other.cert + renewed, next))).toEqual(
    certificatesIn(renewed + other.cert),
  );
  expect(certificatesIn(renewedIn(renewed + old.cert, next))).toEqual(certificatesIn(renewed));
  expect(renewedIn(old.cert.replaceAll("\n", "\r\n"), next)).toBe(renewed);
});

test("of a kubeconfig nothing but the CA's data changes, in each cluster of it that has this CA", async () => {
  const user = await issueLeaf(certRow("apiserver-kubelet-client"), old, testFacts());
  const text = kubeconfigText(kubeconfigRow("admin"), testFacts(), { ca: old.cert, user });
  const base64 = (pem: string) => Buffer.from(pem).toString("base64");
  const two = `# by hand\n${text}${text.replace(base64(old.cert), base64(other.cert))}`;
  expect(renewedText(two, next)).toBe(two.replaceAll(base64(old.cert), base64(renewed)));
  expect(renewedText(two, next)).toContain(base64(other.cert));
  const json = (pem: string) => JSON.stringify({ cluster: { "certificate-authority-data": base64(pem) } });
  expect(renewedText(json(old.cert), next)).toBe(json(renewed));
});

/** A node with this CA, whose key may be away. */
async function renewalHere(
  { cert, key }: { cert: string; key?: string },
  sources: Partial<Parameters<typeof renewalOf>[2]> = {},
  name: CaName = "ca",
) {
  const root = mkdtempSync(join(tmpdir(), "renewal-"));
  setRoot(root);
  try {
    write(`${root}/etc/kubernetes/pki/ca.crt`, cert);
    if (key) write(`${root}/etc/kubernetes/pki/ca.key`, key);
    const facts = testFacts({ caValidityHours: LIFE });
    return renewalOf(name, facts, { candidates: [], brought: undefined, leaves: [], ...sources });
  } finally {
    setRoot("/");
    rmSync(root, { recursive: true });
  }
}

test("what was brought counts first, then what the cluster has in use, then its own key", async () => {
  const seen = [{ pem: renewed, from: "kube-root-ca.crt" }];
  expect((await renewalHere(old)).next.pem).toBe(next.pem);
  expect(await renewalHere({ cert: old.cert }, { candidates: seen })).toMatchObject({
    note: "in use already: kube-root-ca.crt",
  });
  const brought = { pem: renewed, from: "/root/new/ca.crt" };
  expect(await renewalHere({ cert: old.cert }, { brought })).toMatchObject({ next: { pem: next.pem } });
  expect(await renewalHere({ cert: renewed }, { brought })).toMatchObject({ next: { pem: next.pem } });
  expect(await renewalHere({ cert: renewed, key: old.key })).toMatchObject({
    next: { pem: next.pem },
    note: expect.stringMatching(/^unchanged, until /),
  });
});

test("an expired CA, one without its key, and another one that was brought are refused, with the next command", async () => {
  const ended = await caOf(1100);
  const hint = (text: string) => expect.objectContaining({ hint: expect.stringContaining(text) });
  await expect(renewalHere(ended)).rejects.toThrow('"/etc/kubernetes/pki/ca.crt" has expired');
  await expect(renewalHere({ cert: old.cert })).rejects.toThrow(
    'The key of "/etc/kubernetes/pki/ca.crt" is not here',
  );
  await expect(renewalHere({ cert: old.cert })).rejects.toEqual(
    hint("to FOLDER/ca.crt here. Then: --from FOLDER"),
  );
  const brought = { pem: other.cert, from: "/root/new/ca.crt" };
  await expect(renewalHere(old, { brought })).rejects.toThrow("it has another key, another key id");
  await expect(renewalHere({ cert: renewed }, { brought: { ...brought, pem: old.cert } })).rejects.toThrow(
    "it is valid from",
  );
  await expect(renewalHere(old, { brought: { ...brought, pem: "" } })).rejects.toThrow(
    "it holds no certificate",
  );
});

test.each(["RSA-2048", "ECDSA-P256", "ECDSA-P384"] as const)(
  "the line for a company's CA makes a CSR of this CA's key and name, without its key: %s",
  async (keyAlgorithm) => {
    const { cert, key } = await issueCa(certRow("ca"), testFacts({ keyAlgorithm }));
    const openssl = (line: string, input: string) =>
      Bun.spawnSync(["openssl", ...line.split(" ")], { stdin: Buffer.from(input) });
    using box = sandbox();
    write(`${box.dir}/ca's.crt`, cert);
    write(`${box.dir}/ca.key`, key);
    const line = csrCommand(`${box.dir}/ca's.crt`, `${box.dir}/ca.key`);
    const made = Bun.spawnSync(["sh", "-c", line]).stdout.toString();
    const request = openssl("req -verify -noout -subject -pubkey", made);
    const certificate = openssl("x509 -noout -subject -pubkey", cert);
    const lines = ({ stdout }: typeof request) => new Set(stdout.toString().split("\n"));
    expect([request.exitCode, lines(certificate).size]).toEqual([0, lines(request).size]);
    expect(lines(certificate)).toEqual(lines(request));
    expect(made).not.toContain("PRIVATE");
  },
);

test("a CA that a company has signed is due in the second half of its own life, however long this cluster's are, and is none of those that this cluster renews", async () => {
  const age = Date.now() - now.notBefore.getTime();
  const of = async (left: number) => ({
    cert: await ofCompany(old.cert, new Date(Date.now() + age * left)),
    key: old.key,
  });
  expect(await renewalHere(await of(1.1))).toMatchObject({
    note: expect.stringMatching(/^unchanged, until /),
  });
  await expect(renewalHere(await of(0.9))).rejects.toThrow("and only that can renew it");
  using box = sandbox();
  const facts = testFacts({ caValidityHours: 10 * LIFE });
  for (const [cert, files] of [
    [(await of(0.9)).cert, undefined],
    [old.cert, ["ca.crt"]],
    // a repair renews it
    [await olderOf((await healthyCp()).root, "ca", -1), undefined],
  ] as const) {
    write(`${box.dir}${facts.certificatesDir}/ca.crt`, cert, 0o644);
    expect(dueCas(facts)?.files).toEqual(files as string[] | undefined);
  }
});
