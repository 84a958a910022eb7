/** The kubelet's clientCAFile with a new cluster CA, and its serving certificates of another CA. */
import { expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import { exists } from "../../../shared/files/files.ts";
import {
  dropClientPems,
  dropForeignServing,
  trustsOldCa,
  withOtherCas,
} from "../../../shared/node/credentials.ts";
import { certInfo, certificatesIn } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueClient, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { listenToRun, type RunEvent, startRunEvents } from "../../../shared/this-run.ts";
import { pretendApi } from "../../pretend/api.ts";
import { write } from "../../pretend/cluster.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { leadingTo } from "../../pretend/endpoint.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const facts = testFacts();
const made = (cn: string) => issueCa({ ...certRow("ca"), cn }, facts);
const [BEFORE, TODAY, OTHER, THIRD] = [
  await made("kubernetes"),
  await made("kubernetes"),
  await made("monitoring"),
  await made("third"),
] as const;
const own = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, BEFORE, facts);

test.each<[string, Pair[], { conf?: Pair; client?: true }, string[]]>([
  ["nothing", [], {}, []],
  ["the CA before alone", [BEFORE], { client: true }, []],
  ["one CA that nothing names", [BEFORE], {}, []],
  [
    "the CA before, which kubelet.conf has, and a monitoring's",
    [BEFORE, OTHER],
    { conf: BEFORE },
    ["monitoring"],
  ],
  [
    "the CA before, which has signed its certificate, and a monitoring's",
    [OTHER, BEFORE],
    { client: true },
    ["monitoring"],
  ],
  ["today's already, and others", [TODAY, OTHER, THIRD], { conf: TODAY }, ["monitoring", "third"]],
])(
  "with a new CA a kubelet's clientCAFile keeps the others, where it had %s",
  (_, bundle, { conf, client }, kept) => {
    using box = sandbox();
    const at = (path: string) => box.dir + path;
    write(at(NODE.kubelet.clientCaFile), bundle.map(({ cert }) => cert).join(""));
    if (conf) write(at(NODE.kubelet.kubeconfig), leadingTo("https://10.0.0.1:6443", conf.cert));
    if (client) write(at(NODE.kubelet.clientPem), own.cert + own.key);
    const content = certificatesIn(withOtherCas(NODE, TODAY.cert)).map((pem) => pem.trim());
    const others = [OTHER, THIRD].slice(0, kept.length).map(({ cert }) => cert.trim());
    expect(content).toEqual([TODAY.cert.trim(), ...others]);
    expect(box.said).toEqual(kept.map((name) => expect.stringContaining(`another CA, CN=${name}`)));
  },
);

test.each<[string, boolean, Pair | undefined, boolean]>([
  ["of another CA, where the cluster's CA signs them, is moved aside", true, BEFORE, true],
  ["of the current CA stays", true, TODAY, false],
  ["that the kubelet signs itself stays", false, BEFORE, false],
  ["that is not there needs nothing", true, undefined, false],
])("a serving certificate %s", async (_, serverTlsBootstrap, by, isMoved) => {
  using box = sandbox();
  const { serverPem } = NODE.kubelet;
  const pair = by && (await issueClient({ cn: "system:node:m1" }, by, facts));
  if (pair) write(box.dir + serverPem, pair.cert + pair.key);
  const node = { ...NODE, kubelet: { ...NODE.kubelet, serverTlsBootstrap } };
  expect(dropForeignServing(node, TODAY.cert, "/aside")).toBe(isMoved);
  expect([exists(serverPem), exists(`/aside${serverPem}`)]).toEqual([by !== undefined && !isMoved, isMoved]);
});

test("what had expired says so where it is moved aside, its link, too; what has not says nothing", async () => {
  using box = sandbox();
  const YEARS = 2 * 8760 * 3600_000;
  const old = await issueClient({ cn: "system:node:m1", o: "system:nodes" }, BEFORE, facts, {
    now: new Date(Date.now() - YEARS),
  });
  const folder = dirname(NODE.kubelet.clientPem);
  write(`${box.dir}${folder}/kubelet-client-1.pem`, old.cert + old.key);
  write(`${box.dir}${folder}/kubelet-client-2.pem`, own.cert + own.key);
  symlinkSync("kubelet-client-1.pem", box.dir + NODE.kubelet.clientPem);
  const heard: RunEvent[] = [];
  startRunEvents({ what: "run", script: "01-etcd", version: "0", args: [] });
  listenToRun((event) => heard.push(event));
  try {
    dropClientPems(NODE, "/root/aside");
  } finally {
    listenToRun(undefined);
  }
  const whys = heard.flatMap((event) => (event.what === "file" ? [[basename(event.path), event.why]] : []));
  const until = certInfo(old.cert).notAfter.toISOString().slice(0, 10);
  expect(whys.sort()).toEqual([
    ["kubelet-client-1.pem", `expired: it was valid until ${until}`],
    ["kubelet-client-2.pem", undefined],
    ["kubelet-client-current.pem", `expired: it was valid until ${until}`],
  ]);
});

const FACTS = testFacts({ advertiseAddress: "127.0.0.1" });
const PATH = "/etc/cni/net.d/calico-kubeconfig";

/** A CA of this name, and a certificate for a server at 127.0.0.1. */
async function caOf(cn: string) {
  const ca = await issueCa({ ...certRow("ca"), cn }, FACTS);
  const { cert, key } = await issueLeaf(certRow("apiserver"), ca, FACTS);
  return { pem: ca.cert, tls: { cert, key } };
}

const [today, old, company] = [await caOf("kubernetes"), await caOf("kubernetes"), await caOf("company")];

/** `trusted`: the CA in the file; `shown`: of whom the server's certificate is, none where nobody answers. */
async function judged(trusted: string, shown?: { cert: string; key: string }): Promise<boolean> {
  using box = sandbox();
  using server = pretendApi(shown ? { tls: shown } : {});
  const at = shown ? server.url : "https://127.0.0.1:1";
  const cluster = { server: at, "certificate-authority-data": btoa(trusted) };
  write(box.dir + PATH, JSON.stringify({ clusters: [{ name: "local", cluster }] }));
  return await trustsOldCa(PATH, today.pem);
}

test.each([
  ["the old CA, and today's API server answers", old.pem, today.tls, true],
  ["the old CA, and nobody answers", old.pem, undefined, true],
  ["the old CA, and a server of that CA still answers: it works", old.pem, old.tls, false],
  ["a company's CA, and its proxy answers", company.pem, company.tls, false],
  ["a company's CA, and nobody answers", company.pem, undefined, false],
  ["the old CA, and a stranger answers: that proves nothing", old.pem, company.tls, false],
  ["the current CA beside the old one", old.pem + today.pem, today.tls, false],
])("%s", async (_, trusted, shown, isOld) => {
  expect(await judged(trusted, shown)).toBe(isOld);
});
