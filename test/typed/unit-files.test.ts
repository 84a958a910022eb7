/**
 * An etcd that is a unit of this node, some of whose files this kit can make: certificates that have expired, if the
 * key of their CA is here, and the API server's lost pair.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, rmSync, statSync } from "node:fs";
import { certInfo, isValidNow, keyMatches, signedBy } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { FACTS, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveUnit } from "../pretend/etcd.ts";
import { ETCD_PKI, external, nodeOf, UNIT_MEMBER } from "../pretend/etcd-as-unit.ts";
import { agedText, YEAR_MS } from "../pretend/expired.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const SSL = "/etc/ssl/etcd/ssl";
const NAMES = ["member-m1", "node-m1"];
const ENDED = (await agedText(ETCD_PKI.cert, ETCD_PKI.caKey, 2 * YEAR_MS))!;

/** Its certificates have expired; kubespray up to 2.29 gives its files the mode 0700. */
async function expiredNode(caKey = ETCD_PKI.caKey) {
  const node = here(await nodeOf("KubeKey 3"));
  for (const name of NAMES) write(`${node.root}${SSL}/${name}.pem`, ENDED);
  write(`${node.root}${SSL}/ca-key.pem`, caKey);
  for (const name of NAMES) chmodSync(`${node.root}${SSL}/${name}.pem`, 0o700);
  return node;
}

const serving = (stored: Map<string, string>) =>
  serveUnit(ETCD_PKI, { ...sameEtcd(stored), members: [UNIT_MEMBER] });

test("etcd's expired certificates are renewed with their own keys, names and modes; then etcd is proved and copied", async () => {
  using node = await expiredNode();
  const dry = node.fingerprint();
  using _etcd = serving(node.stored);
  const planned = await node.run("01-etcd --dry-run");
  expect({ code: planned.exitCode, after: node.fingerprint() }).toEqual({ code: 0, after: dry });
  const { stderr, exitCode } = await node.run("01-etcd");
  expect(stderr).toContain(`${SSL}/member-m1.pem: has expired, and is renewed in 1.3`);
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("saved a snapshot of etcd"),
  });
  for (const name of NAMES) {
    const pem = node.read(`${SSL}/${name}.pem`);
    const [now, was] = [pem, ETCD_PKI.cert].map(certInfo) as [
      ReturnType<typeof certInfo>,
      ReturnType<typeof certInfo>,
    ];
    expect(isValidNow(now)).toBe(true);
    expect([now.subject, now.sans, now.usages, now.publicKeyHash]).toEqual([
      was.subject,
      was.sans,
      was.usages,
      was.publicKeyHash,
    ]);
    expect(now.notAfter.getTime() - now.notBefore.getTime()).toBe(
      was.notAfter.getTime() - was.notBefore.getTime(),
    );
    expect(signedBy(pem, ETCD_PKI.ca) && keyMatches(pem, node.read(`${SSL}/${name}-key.pem`))).toBe(true);
    expect(statSync(`${node.root}${SSL}/${name}.pem`).mode & 0o777).toBe(0o700);
  }
  const again = await node.run("01-etcd");
  expect(again.stderr).not.toContain("is renewed");
});

test.each(["another CA's", "nowhere"])(
  "etcd's expired certificates stay as they are where the key of its CA is %s, until a new CA is asked for",
  async (whose) => {
    const other = await issueCa(certRow("etcd-ca"), FACTS);
    using node = await expiredNode(other.key);
    if (whose === "nowhere") rmSync(`${node.root}${SSL}/ca-key.pem`);
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run("01-etcd");
    expect(stderr).toMatch(
      /ca\.pem is needed and cannot be used: (key missing|does not match its key)[\s\S]*--new-internal-cas/,
    );
    expect({ exitCode, after: node.fingerprint() }).toEqual({ exitCode: 1, after: before });
    const planned = await node.run("01-etcd --new-internal-cas --dry-run");
    expect(planned).toMatchObject({
      exitCode: 0,
      stderr: expect.stringContaining("would restart etcd.service"),
    });
  },
);

test("a CA of etcd's that has expired is renewed with its own key: etcd starts again with it, and gets new certificates", async () => {
  using node = await expiredNode();
  write(`${node.root}${SSL}/ca.pem`, (await agedText(ETCD_PKI.ca, ETCD_PKI.caKey, 11 * YEAR_MS))!);
  const planned = await node.run("01-etcd --dry-run");
  expect(planned).toMatchObject({ exitCode: 0 });
  expect(planned.stderr).toMatch(
    /ca\.pem \(until DATE, expired on DATE, renewed with its own key\)[\s\S]*would write \S+member-m1\.pem[\s\S]*would restart etcd\.service/,
  );
});

test("a certificate that another CA has signed is not renewed, though it lies there and has expired", async () => {
  using node = await expiredNode();
  const stranger = await issueCa(certRow("etcd-ca"), FACTS);
  write(`${node.root}${SSL}/node-m1.pem`, (await agedText(ETCD_PKI.cert, stranger.key, 2 * YEAR_MS))!);
  const before = node.fingerprint();
  const { exitCode } = await node.run("01-etcd");
  expect({ exitCode, after: node.fingerprint() }).toEqual({ exitCode: 3, after: before });
});

test("00-assess names what has expired and part 1, and so does the plan", async () => {
  using node = await expiredNode();
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(
      /\nnext\n {2}\.\/bunw scripts\/01-etcd\.ts\n[\s\S]*member-m1\.pem +!EXPIRED! /,
    ),
  });
  const plan = await node.run("plan");
  expect(plan).toMatchObject({ exitCode: 2, stdout: expect.stringContaining("scripts/01-etcd.ts") });
});

test("a host of etcd that is no control plane node gets no pair of an API server", async () => {
  using node = here(await nodeOf("KubeKey", { wiped: true, etcd: asWorker }));
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(stderr).toContain("is missing, and no script makes it");
  expect({ exitCode, after: node.fingerprint() }).toEqual({ exitCode: 3, after: before });
});

/** No API server has ever run here. */
function asWorker(objects: Objects) {
  external(objects, "KubeKey");
  delete objects["pods/kube-system/kube-apiserver-m1"];
}
