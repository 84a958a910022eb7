/** What ends next: by day, with what renews it. */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { Checks } from "../../../shared/checks/check.ts";
import { type Ending, endingsHere, firstEnd, forecast, goodUntil } from "../../../shared/checks/forecast.ts";
import { hostPath, writeFile } from "../../../shared/files/files.ts";
import { certInfo } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueClient } from "../../../shared/pki/issue.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const NOW = new Date("2026-11-26T12:00:00Z");
const inDays = (days: number) => new Date(NOW.getTime() + days * 86_400_000);

/** Valid for `of` days in all, `left` of them left. */
function ending(kind: Ending["kind"], file: string, left: number, of = 365): Ending {
  return { kind, path: `/etc/kubernetes/pki/${file}`, notBefore: inDays(left - of), notAfter: inDays(left) };
}

async function said(endings: Ending[]) {
  const checks = new Checks();
  await checks.add(forecast(endings, NOW));
  return checks.all.map(({ id, what, result, severity, detail }) =>
    [id, what, result, severity, detail].join(" | "),
  );
}

test("leaf certificates 90 days ahead, CAs a year ahead, one row for a kind, the first one first", async () => {
  expect(
    await said([
      ending("ca", "ca.crt", 364, 3650),
      ending("ca", "etcd/ca.crt", 366, 3650),
      ending("certificate", "apiserver.crt", 89),
      ending("certificate", "front-proxy-client.crt", 91),
      ending("kubeconfig", "admin.conf", 89),
      ending("certificate", "etcd/server.crt", 3),
    ]),
  ).toEqual([
    "expiry-certificate | server.crt | warning | soon | until 2026-11-29, 3 days from now; then apiserver.crt, admin.conf until 2027-02-23",
    "expiry-ca | ca.crt | warning | soon | until 2027-11-25, 364 days from now",
  ]);
});

test("a kubelet renews its own: it is named only where it should have done that by now", async () => {
  expect(await said([ending("kubelet", "kubelet-client-current.pem", 37)])).toEqual([
    "expiry-next | what expires in the next 90 days | ok |  | none; the first is kubelet-client-current.pem, on 2027-01-02",
  ]);
  expect(await said([ending("kubelet", "kubelet-client-current.pem", 36)])).toEqual([
    "expiry-kubelet | kubelet-client-current.pem | warning | soon | until 2027-01-01, 36 days from now",
  ]);
});

test("a kubelet's certificate that was cut short by its CA's end stands beside that: nothing newer can be signed", async () => {
  expect(
    await said([
      ending("ca", "ca.crt", 30, 3650),
      ending("kubelet", "kubelet-client-current.pem", 30),
      ending("certificate", "apiserver.crt", 30),
    ]),
  ).toEqual([
    "expiry-ca | ca.crt, kubelet-client-current.pem | warning | soon | until 2026-12-26, 30 days from now",
    "expiry-certificate | apiserver.crt | warning | soon | until 2026-12-26, 30 days from now",
  ]);
});

test("what has ended has its own check, and where nothing can be read nothing is said", async () => {
  const all = [ending("certificate", "apiserver.crt", -1), ending("certificate", "etcd/peer.crt", 200)];
  expect(await said(all)).toEqual([
    "expiry-next | what expires in the next 90 days | ok |  | none; the first is peer.crt, on 2027-06-14",
  ]);
  expect(await said([])).toEqual([]);
});

test("the first end is that of a certificate in use, not of a CA", () => {
  const all = [ending("ca", "ca.crt", 5), ending("kubelet", "a.pem", 40), ending("certificate", "b.crt", -2)];
  expect(firstEnd(all, NOW)).toEqual(inDays(40));
  expect(firstEnd([ending("ca", "ca.crt", 5)], NOW)).toBeUndefined();
});

test("a repair ends with the date of what expires first, a kubelet's own left out", () => {
  const endings = [
    ending("kubelet", "kubelet-client-current.pem", 20),
    ending("certificate", "apiserver.crt", 300),
  ];
  const day = new Date(NOW.getTime() + 300 * 86_400_000).toISOString().slice(0, 10);
  expect(goodUntil(endings, NOW)).toBe(
    `good until ${day} (apiserver.crt). To be warned in time: RUNBOOK-MORE.md, "Watch it"`,
  );
  expect(goodUntil([], NOW)).toBeUndefined();
});

test("on a worker the kubelet's own certificate is the next one, and not its CA, which is good for ten years", async () => {
  const worker = [ending("ca", "ca.crt", 3600, 3650), ending("kubelet", "kubelet-client-current.pem", 300)];
  const until = "2027-09-22";
  expect(goodUntil(worker, NOW)).toBe(
    `good until ${until} (kubelet-client-current.pem, which the kubelet renews before that). To be warned in time: RUNBOOK-MORE.md, "Watch it"`,
  );
  expect(await said(worker)).toEqual([
    `expiry-next | what expires in the next 90 days | ok |  | none; the first is kubelet-client-current.pem, on ${until}`,
  ]);
  // a CA that ends before that ends it, too
  expect(goodUntil([ending("ca", "ca.crt", 200, 3650), worker[1]!], NOW)).toStartWith(
    "good until 2027-06-14 (ca.crt). ",
  );
});

test("a kubelet that keeps its certificate (rotateCertificates: false) is named as any other file, 90 days before", async () => {
  const kept = (left: number): Ending => ({ ...ending("kubelet", "kubelet.conf", left), isKept: true });
  const others = [ending("certificate", "apiserver.crt", 300)];
  expect(goodUntil([kept(200), ...others], NOW)).toStartWith("good until 2027-06-14 (kubelet.conf). ");
  expect(await said([kept(89), ...others])).toEqual([
    "expiry-kubelet | kubelet.conf | warning | soon | until 2027-02-23, 89 days from now",
  ]);
});

test("the CA that signs ends, and not another one that stands before it in its file: that of a worker, the one that has signed its kubelet's certificate", async () => {
  using _ = sandbox();
  const folder = "/etc/kubernetes/pki";
  const own = await issueCa(certRow("ca"), testFacts({ caValidityHours: 24 }));
  const { cert: older } = await issueCa(certRow("ca"), testFacts());
  writeFile(`${folder}/ca.crt`, older + own.cert);
  writeFile(`${folder}/ca.key`, own.key);
  const client = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, own, testFacts());
  const kubelet = { clientPem: "/k/client.pem", serverPem: "/none", clientCaFile: `${folder}/ca.crt` };
  writeFile(kubelet.clientPem, client.cert + client.key);
  for (const dir of [folder, undefined]) {
    const ca = endingsHere({ kubelet } as never, dir).find(({ kind }) => kind === "ca");
    expect(ca?.notAfter).toEqual(certInfo(own.cert).notAfter);
    rmSync(hostPath(`${folder}/ca.key`), { force: true });
  }
});
