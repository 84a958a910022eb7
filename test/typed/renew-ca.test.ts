/** renew-ca as operators run it: what it refuses, what it writes and takes back, and a worker that needs no secret. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { certInfo } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { caIn } from "../../shared/pki/kubeconfigs.ts";
import { renewCa } from "../../shared/pki/renew.ts";
import { clusterObjects, FACTS, healthyCp, heardUntil, otherCa, write } from "../pretend/cluster.ts";
import { ofCompany, renewedByCompany } from "../pretend/company-ca.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { servePart2 } from "../pretend/in-part2.ts";
import { LEASE, serve } from "../pretend/joining.ts";
import { LONG_LIFE, longLives } from "../pretend/long-lives.ts";
import { POD_UID, podRecord, pretendProcess } from "../pretend/memory.ts";
import { pretendNode, SHOWN_ADDRESS } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const PKI = "/etc/kubernetes/pki";
const FILES = ["ca", "etcd/ca", "front-proxy-ca"].map((name) => `${PKI}/${name}.crt`);
const CONFIGS = ["admin", "controller-manager", "scheduler", "kubelet"].map(
  (name) => `/etc/kubernetes/${name}.conf`,
);
async function controlPlane(etcd = longLives) {
  const node = here(await pretendNode({ kind: "healthy control plane node", etcd }));
  const [etcds, api] = [serveEtcd(node.root, sameEtcd(node.stored)), servePart2(node)];
  return Object.assign(node, {
    api,
    renew: (words = "") => node.run(`renew-ca ${words}`.trim()),
    end() {
      api[Symbol.dispose]();
      etcds[Symbol.dispose]();
      node[Symbol.dispose]();
    },
  });
}

type Renewing = Awaited<ReturnType<typeof controlPlane>>;

const texts = (node: Pick<Renewing, "read">, paths: readonly string[]) =>
  paths.map((path) => node.read(path));

test("each CA's certificate is renewed where it stands, kubeconfigs too, and nothing else; run again it changes no byte; --undo brings all back", async () => {
  const node = await controlPlane();
  try {
    const before = node.fingerprint();
    const [cas, configs] = [texts(node, FILES), texts(node, CONFIGS)];
    expect(await node.renew("--dry-run")).toMatchObject({ exitCode: 0 });
    expect(node.fingerprint()).toEqual(before);

    const { exitCode, stderr } = await node.renew();
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    const renewed = texts(node, FILES);
    for (const [i, pem] of renewed.entries()) {
      const [was, is] = [certInfo(cas[i]!), certInfo(pem)];
      expect(is).toMatchObject({
        publicKeyHash: was.publicKeyHash,
        subject: was.subject,
        notBefore: was.notBefore,
      });
      expect(is.notAfter.getTime() - was.notAfter.getTime()).toBe(LONG_LIFE * 3_600_000);
    }
    for (const [i, text] of texts(node, CONFIGS).entries()) {
      expect(caIn(text)).toBe(renewed[0]!);
      expect(text.replace(/certificate-authority-data: .*/, "")).toBe(
        configs[i]!.replace(/certificate-authority-data: .*/, ""),
      );
    }
    // the lines for people's copies: as a file has it, and a kubeconfig in base64
    const has = (pem: string) => (word: string) => pem.includes(word) || btoa(pem).includes(word);
    const words = new Set(Array.from(stderr.matchAll(/ -e (\S+)/g), ([, word]) => word!));
    expect(words.size).toBe(6);
    for (const word of words) {
      expect(cas.filter((pem) => has(pem)(word))).toHaveLength(1);
      expect(renewed.filter((pem) => has(pem)(word))).toEqual([]);
    }
    const info = node.api.objects.get("/api/v1/namespaces/kube-public/configmaps/cluster-info");
    expect(info.data).toEqual({ kubeconfig: "old", "jws-kubeconfig-abcdef": "old" });
    const [rescue] = readdirSync(`${node.root}/root`).filter((name) => name.startsWith("kube-pki-repair-"));
    expect(node.read(`/root/${rescue}/aside${FILES[1]}`)).toBe(cas[1]!);

    const after = node.fingerprint();
    expect((await node.renew()).stderr).toContain("all files have the renewed CAs already");
    expect(node.fingerprint()).toEqual(after);

    expect(await node.renew("--undo")).toMatchObject({ exitCode: 0 });
    expect(texts(node, FILES)).toEqual(cas);
    expect(texts(node, CONFIGS)).toEqual(configs);
    expect((await node.renew("--undo")).stderr).toContain("unchanged: no valid older one is here");
  } finally {
    node.end();
  }
});

test("a namespace that keeps the old CA, and a token Secret of another CA, hold nobody up", async () => {
  const node = await controlPlane();
  try {
    const { cert, key } = node.ca;
    const renewed = renewCa(cert, key, { hours: LONG_LIFE, signed: [] });
    for (const [namespace, pem] of [
      ["kube-system", renewed],
      ["bank", cert],
    ] as const) {
      node.api.objects.set(`/api/v1/namespaces/${namespace}`, {
        metadata: { name: namespace },
        status: { phase: "Active" },
      });
      const metadata = { name: "kube-root-ca.crt", namespace };
      node.api.objects.set(`/api/v1/namespaces/${namespace}/configmaps/${metadata.name}`, {
        metadata,
        data: { "ca.crt": pem },
      });
    }
    node.api.objects.set("/api/v1/namespaces/bank/secrets/by-hand", {
      metadata: { name: "by-hand", namespace: "bank" },
      type: "kubernetes.io/service-account-token",
      data: { "ca.crt": btoa((await otherCa()).cert) },
    });
    const { exitCode, stderr } = await node.renew();
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("kube-root-ca.crt: the current CA in every namespace but bank: ");
    expect(stderr).not.toContain("by-hand");
  } finally {
    node.end();
  }
});

test("token Secrets that cannot be read are not called renewed", async () => {
  const node = await controlPlane();
  try {
    node.api.objects.set("/api/v1/namespaces/bank/secrets/odd", {
      metadata: { name: "odd", namespace: "bank" },
      type: "kubernetes.io/service-account-token",
      data: { "ca.crt": 7 },
    });
    const { exitCode, stderr } = await node.renew();
    expect(exitCode).toBe(1);
    expect(stderr).not.toContain("token Secrets: the renewed CA");
  } finally {
    node.end();
  }
});

test("--only renews one; a CA in the first half of its life is kept", async () => {
  const node = await controlPlane();
  try {
    const [ca, etcd] = texts(node, FILES);
    expect(await node.renew("--only front-proxy-ca")).toMatchObject({ exitCode: 0 });
    expect(texts(node, FILES).slice(0, 2)).toEqual([ca!, etcd!]);
    expect((await node.renew("--only front-proxy-ca,ca-of-etcd")).stderr).toContain(
      'No CA is called "ca-of-etcd"\nhint: use one of these names: front-proxy-ca, etcd-ca, ca',
    );
  } finally {
    node.end();
  }
  const young = await controlPlane(() => undefined);
  try {
    const before = young.fingerprint();
    const { exitCode, stderr } = await young.renew();
    expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/05-verify.ts\n");
    expect({ exitCode, kept: stderr.match(/\.crt: unchanged, until /g)?.length }).toEqual({
      exitCode: 0,
      kept: 3,
    });
    expect(young.fingerprint()).toEqual(before);
  } finally {
    young.end();
  }
});

test("nothing is changed where a file is not sound, where a key is away, and where what was brought is another CA's", async () => {
  const node = await controlPlane();
  try {
    write(`${node.root}/root/new/etcd/ca.crt`, (await otherCa()).cert);
    let before = node.fingerprint();
    const refused = async (words: string, exit: number, says: string) => {
      const { exitCode, stderr } = await node.renew(words);
      expect({ exitCode, stderr }).toEqual({ exitCode: exit, stderr: expect.stringContaining(says) });
      expect(node.fingerprint()).toEqual(before);
    };
    await refused(
      "--from /root/new",
      1,
      '"/root/new/etcd/ca.crt" cannot take the place of "CN=etcd-ca": it has another key',
    );
    rmSync(`${node.root}${PKI}/etcd/ca.key`);
    before = node.fingerprint();
    await refused("--only etcd-ca", 3, `The key of "${PKI}/etcd/ca.crt" is not here`);
    writeFileSync(`${node.root}${PKI}/front-proxy-client.crt`, "half of one");
    before = node.fingerprint();
    await refused("", 3, `Not all files here are valid: "${PKI}/front-proxy-client.crt" (unreadable)`);
  } finally {
    node.end();
  }
});

const CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const OTHER_UID = POD_UID.replace(/^./, "f");

/** A worker whose cluster has its CA renewed. */
async function worker() {
  const node = here(await pretendNode({ kind: "worker" }));
  const { cert, key } = node.ca;
  const renewed = renewCa(cert, key, { hours: LONG_LIFE, signed: [] });
  const api = await serve(node.ca);
  api.objects.get(LEASE).spec.renewTime = new Date(Date.now() + 3_600_000).toISOString();
  return Object.assign(node, {
    renewed,
    api,
    renew: (words = "") => node.run(`renew-ca ${words}`.trim()),
    end() {
      api[Symbol.dispose]();
      node[Symbol.dispose]();
    },
  });
}

test("a worker takes the renewed CA from a file that its key proves, never another one", async () => {
  const node = await worker();
  try {
    const before = [node.read(`${PKI}/ca.crt`), node.read("/etc/kubernetes/kubelet.conf")];
    write(`${node.root}/root/new/ca.crt`, (await otherCa()).cert);
    expect((await node.renew("--from /root/new")).stderr).toContain("it has another key, another key id");
    expect(node.read(`${PKI}/ca.crt`)).toBe(before[0]!);
    write(`${node.root}/root/new/ca.crt`, node.renewed);
    expect(await node.renew("--from /root/new")).toMatchObject({ exitCode: 0 });
    expect(node.read(`${PKI}/ca.crt`)).toBe(node.renewed);
    expect(caIn(node.read("/etc/kubernetes/kubelet.conf"))).toBe(node.renewed);
    expect(await node.renew("--undo")).toMatchObject({ exitCode: 0 });
    expect([node.read(`${PKI}/ca.crt`), node.read("/etc/kubernetes/kubelet.conf")]).toEqual(before);
  } finally {
    node.end();
  }
});

test("of several CAs that a worker trusts, its kubelet's own is renewed and comes back, though another one is first and has expired", async () => {
  const node = await worker();
  try {
    const ended = new Date(Date.now() - 3_600_000);
    const both = (await issueCa(certRow("ca"), FACTS, { now: new Date(+ended - 876_000 * 3_600_000) })).cert;
    const paths = [`${PKI}/ca.crt`, "/etc/kubernetes/kubelet.conf"];
    write(node.root + paths[0]!, both + node.ca.cert);
    const conf = node.read(paths[1]!);
    write(node.root + paths[1]!, conf.replace(btoa(node.ca.cert), btoa(both + node.ca.cert)));
    write(`${node.root}/root/new/ca.crt`, node.renewed);
    expect(await node.renew("--from /root/new")).toMatchObject({ exitCode: 0 });
    expect([node.read(paths[0]!), caIn(node.read(paths[1]!))]).toEqual([
      both + node.renewed,
      both + node.renewed,
    ]);
    expect(await node.renew("--undo")).toMatchObject({ exitCode: 0 });
    expect(node.read(paths[0]!)).toBe(both + node.ca.cert);
  } finally {
    node.end();
  }
});

test("a control plane node's CA that is the second in its file is renewed, and comes back", async () => {
  const node = await controlPlane();
  try {
    const path = FILES[2]!;
    const other = (await issueCa(certRow("front-proxy-ca"), FACTS)).cert;
    const before = other + node.read(path);
    write(node.root + path, before);
    expect(await node.renew("--only front-proxy-ca")).toMatchObject({ exitCode: 0 });
    expect(node.read(path)).toStartWith(other);
    expect(node.read(path)).not.toBe(before);
    expect(await node.renew("--only front-proxy-ca --undo")).toMatchObject({ exitCode: 0 });
    expect(node.read(path)).toBe(before);
  } finally {
    node.end();
  }
});

test("a worker takes the renewed CA from what the cluster has given to kube-system's pods there, or from cluster-info; a tenant's pod decides nothing", async () => {
  const node = await worker();
  try {
    const kept = (stderr: string) => expect(stderr).toContain("the cluster has none that expires later");
    const copy = (uid: string) =>
      `${node.root}/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~projected/kube-api-access/ca.crt`;
    const { stderr } = await node.renew();
    kept(stderr);
    expect(stderr).toContain(`cluster-info at https://${SHOWN_ADDRESS}:6443: `);
    podRecord(node.root, "bank", "web-x", OTHER_UID);
    write(copy(OTHER_UID), node.renewed);
    kept((await node.renew("--dry-run")).stderr);
    podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
    write(copy(POD_UID), node.renewed);
    expect((await node.renew("--dry-run")).stderr).toContain("(kube-system's pods on this node)");
    rmSync(copy(POD_UID));
    const config = {
      clusters: [{ name: "", cluster: { "certificate-authority-data": btoa(node.renewed), server: "x" } }],
    };
    node.api.objects.set(CLUSTER_INFO, { data: { kubeconfig: stringify(config) } });
    const { stderr: last } = await node.renew();
    expect(last).toContain(`(cluster-info at https://${SHOWN_ADDRESS}:6443)`);
    expect(node.read(`${PKI}/ca.crt`)).toBe(node.renewed);
  } finally {
    node.end();
  }
});

test("a company's CA that has expired is not ours to renew: a CSR is printed, and what comes back is put in place for parts 0 to 5", async () => {
  const node = await controlPlane();
  try {
    const path = `${node.root}${PKI}/ca.crt`;
    writeFileSync(path, await ofCompany(node.ca.cert, new Date(Date.now() - 60_000)));
    const { exitCode, stderr } = await node.renew();
    expect({ exitCode, stderr }).toEqual({
      exitCode: 3,
      stderr: expect.stringMatching(
        /is signed by "CN=company", and only that can renew it; it has expired on [\s\S]*openssl x509 -x509toreq -in /,
      ),
    });
    const back = await ofCompany(node.ca.cert);
    write(`${node.root}/root/new/ca.crt`, back);
    const placed = await node.renew("--only ca --from /root/new");
    expect(placed).toMatchObject({ exitCode: 0 });
    expect(placed.stderr).toEndWith("next: ./bunw scripts/00-assess.ts, then parts 0 to 5 with these CAs\n");
    expect(node.read(`${PKI}/ca.crt`)).toBe(back);
  } finally {
    node.end();
  }
});

test("files that were placed after the end, and kubelets that are silent since: nothing restarts but by parts 0 to 5", async () => {
  const ended = new Date(Date.now() - 3_600_000);
  const { ca } = await healthyCp();
  const expired = await ofCompany(ca.cert, ended);
  const node = await controlPlane((objects) =>
    Object.assign(objects, clusterObjects(expired), heardUntil("m1", ended)),
  );
  try {
    await renewedByCompany(node.root, ended);
    const args = ["etcd", `--trusted-ca-file=${FILES[1]}`];
    pretendProcess(node.root, { pid: 41, comm: "etcd", args, started: new Date(Date.now() - 86_400_000) });
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.renew();
    expect({ exitCode, stderr }).toEqual({
      exitCode: 3,
      stderr: expect.stringMatching(
        /they do not renew their Leases since[\s\S]*00-assess\.ts, then parts 0 to 5/,
      ),
    });
    expect(node.fingerprint()).toEqual(before);
  } finally {
    node.end();
  }
});
