/**
 * An etcd that kubeadm did not make lives while it is read, proved and copied: a real one, with TLS and a name of its
 * own. Its snapshot says what its folder says, has the ids and members that no snapshot has, and a snapshot of another
 * cluster is refused and leaves nothing behind.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { $ } from "zx/core";
import { proveSameEtcd } from "../../../shared/etcd/identity.ts";
import { copyBySnapshot } from "../../../shared/etcd/own-etcd.ts";
import type { EtcdData } from "../../../shared/etcd-data/data.ts";
import { EtcdClient } from "../../../shared/etcd-location/client.ts";
import { readFolders, readRescued } from "../../../shared/etcd-location/etcd-folders.ts";
import { etcdElsewhere } from "../../../shared/etcd-location/living-etcd.ts";
import { readCluster } from "../../../shared/facts/cluster.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import { list, setRoot } from "../../../shared/files/files.ts";
import type { Node } from "../../../shared/node/node.ts";
import { newRescue, rescuedEtcd } from "../../../shared/node/rescue-folder.ts";
import { type CertInfo, certInfo, isValidNow } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../../shared/pki/issue.ts";
import { renewLeaf } from "../../../shared/pki/renew.ts";
import { acceptsClientCertificate, fetchDirectly, servedPem, trusting } from "../../../shared/pki/served.ts";
import { run } from "../../../shared/run.ts";
import { clusterObjects, FACTS } from "../../pretend/cluster.ts";
import { external } from "../../pretend/etcd-as-unit.ts";
import { agedText, YEAR_MS } from "../../pretend/expired.ts";
import { freePort, startProgram } from "../machine/program.ts";
import { onEachRelease } from "./etcd-releases.ts";

const DIR = "/var/lib/etcd";
const START = 120;

async function main() {
  await onEachRelease(async ({ etcd, folder }) => await check(etcd, folder));
}

async function check(etcd: string, folder: string): Promise<string[]> {
  const facts = { ...FACTS, advertiseAddress: "127.0.0.1" };
  const ca = await issueCa(certRow("etcd-ca"), facts);
  const pair = await issueLeaf(certRow("etcd-server"), ca, facts);
  const tls = { ca: ca.cert, ...pair };
  for (const path of ["pki", "root"]) mkdirSync(`${folder}/${path}`, { mode: 0o700 });
  for (const [name, pem] of Object.entries(tls)) writeFileSync(`${folder}/pki/${name}`, pem, { mode: 0o600 });
  const [url, peer] = [freePort(), freePort()].map((port) => `https://127.0.0.1:${port}`) as [string, string];
  const program = startProgram("etcd", [etcd, ...flags(folder, url, peer)], `${folder}/etcd.log`);
  try {
    const client = new EtcdClient(url, tls);
    const leads = () =>
      client.status().then(
        ({ leaderId }) => leaderId !== "0",
        () => false,
      );
    await program.until("etcd to lead", leads, START);
    const put = putter(url, tls);
    const objects = clusterObjects(ca.cert);
    external(objects, "kubespray");
    for (const [key, object] of Object.entries(objects))
      await put(`/registry/${key}`, JSON.stringify(object));
    setRoot(folder);
    return [
      ...(await copied(client, put)),
      await refused(client),
      ...(await elsewhere(folder, url, ca)),
      await renewed(folder, url, { ca, pair }),
      await renewedByLines(folder, url, { ca, pair }),
      alive(program.pid),
    ];
  } finally {
    await program.kill();
  }
}

function flags(folder: string, url: string, peer: string): string[] {
  const files = ["trusted-ca-file=ca", "cert-file=cert", "key-file=key"].map(
    (one) => one.split("=") as [string, string],
  );
  const named = (prefix: string) => files.map(([flag, file]) => `--${prefix}${flag}=${folder}/pki/${file}`);
  return [
    ...["--name=etcd1", `--data-dir=${folder}${DIR}`, "--log-level=warn"],
    ...[`--listen-client-urls=${url}`, `--advertise-client-urls=${url}`, "--client-cert-auth"],
    ...[
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=etcd1=${peer}`,
    ],
    ...["--peer-client-cert-auth", ...named(""), ...named("peer-")],
  ];
}

function putter(url: string, { ca, cert, key }: { ca: string; cert: string; key: string }) {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return async (name: string, value: string) => {
    const body = JSON.stringify({ key: base64(name), value: base64(value) });
    const answer = await fetchDirectly(`${url}/v3/kv/put`, {
      method: "POST",
      body,
      tls: { cert, key, ...trusting(ca) },
    });
    if (!answer.ok) throw new Error(`put ${name}: HTTP ${answer.status}`);
  };
}

type Put = ReturnType<typeof putter>;

/** What was written after the data was read is in the copy as well. */
async function copied(client: EtcdClient, put: Put): Promise<string[]> {
  using data = readFolders({ dir: DIR, wal: undefined });
  const cluster = readCluster(data);
  await put("/registry/configmaps/default/later", "{}");
  const { proofs } = await proveSameEtcd(client, { data, cluster, facts: FACTS });
  const rescue = newRescue();
  await copyBySnapshot(client, { data, cluster }, rescuedEtcd(rescue));
  using copy = readRescued(rescue, undefined);
  using now = readFolders({ dir: DIR, wal: undefined });
  const [wanted, found] = [now, copy].map(allOf);
  if (!Bun.deepEquals(wanted, found))
    throw new Fail(`The copy differs: ${JSON.stringify(found)}`, { hint: "look at both" });
  return [
    proofs[1]!,
    `a copy of ${copy.keyCount} keys at revision ${copy.revision}, all equal, of member ${copy.members[0]!.name}`,
  ];
}

function allOf(data: EtcdData) {
  const { clusterId, memberId, members, revision } = data;
  const values = data.keys("").map((key) => [key, Buffer.from(data.get(key)!.value).toString("base64")]);
  return [clusterId, memberId, members, revision, values];
}

async function refused(client: EtcdClient): Promise<string> {
  using data = readFolders({ dir: DIR, wal: undefined });
  const cluster = { ...readCluster(data), kubeSystemUid: "another" };
  const rescue = newRescue();
  const fail = await failOf(() => copyBySnapshot(client, { data, cluster }, rescuedEtcd(rescue)));
  const left = list(rescue.dir);
  if (!/of another cluster/.test(fail?.message ?? "") || left.length > 0)
    throw new Fail(`A snapshot of another cluster was taken: ${fail?.message}, ${left}`, {
      hint: "look at it",
    });
  return "a snapshot of another cluster is refused, and nothing is left of it";
}

/** This machine as a control plane node without etcd; only what names files of it. */
const NODE = {
  name: "m1",
  addresses: ["10.0.0.1"],
  kubelet: {
    staticPodPath: "/etc/kubernetes/manifests",
    podsDir: "/var/lib/kubelet/pods",
    clientCaFile: "/etc/kubernetes/pki/ca.crt",
    clientPem: "/var/lib/kubelet/pki/kubelet-client-current.pem",
  },
} as unknown as Node;

/** Etcd on another machine: the line that is printed makes a pair by which it is read; a stranger's CA proves nothing. */
async function elsewhere(folder: string, url: string, ca: Pair): Promise<string[]> {
  const look = () =>
    etcdElsewhere({ node: NODE, apiServer: undefined, dataDir: "/nowhere", caFits: () => "yes" }, [url]);
  const without = (await look())?.unreached;
  const make = /\(umask 077; .* -out client\.crt\)/.exec(without?.hint ?? "")?.[0];
  if (!make) throw new Fail(`No line is printed: ${without?.message}`, { hint: "look at the hint" });
  const host = `${folder}/host`;
  mkdirSync(host);
  for (const [name, text] of Object.entries({ "ca.crt": ca.cert, "ca.key": ca.key }))
    writeFileSync(`${host}/${name}`, text);
  await $({ cwd: host, quiet: true })`bash -c ${make}`;
  const pki = `${folder}/etc/kubernetes/pki`;
  mkdirSync(`${pki}/etcd`, { recursive: true });
  const put = (ca: string) => {
    for (const [name, text] of Object.entries({ "etcd/ca.crt": ca, ...madePair(host) }))
      writeFileSync(`${pki}/${name}`, text);
  };
  const stranger = await issueCa(certRow("etcd-ca"), FACTS);
  put(stranger.cert);
  const silent = (await look())?.unreached?.message ?? "it was believed";
  if (!silent.includes("does not answer")) throw new Fail(`A stranger: ${silent}`, { hint: "look at it" });
  put(ca.cert);
  const { living, unreached } = (await look())!;
  if (!living) throw unreached!;
  using read = readFolders({ dir: living.endpoint, wal: undefined, living });
  using disk = readFolders({ dir: DIR, wal: undefined });
  const keysOf = (data: EtcdData) => data.keys("").map((key) => [key, String(data.get(key)!.value)]);
  if (!Bun.deepEquals(keysOf(read), keysOf(disk)))
    throw new Fail("What is read by its API differs from its disk", { hint: "look at both" });
  return [
    "the printed lines make a client pair, and without its own CA's certificate nobody is believed",
    `by its API ${read.keyCount} keys, all as on its disk, of ${read.elsewhere!.members[0]!.name}`,
  ];
}

function madePair(host: string): Record<string, string> {
  return Object.fromEntries(
    ["crt", "key"].map((end) => [
      `apiserver-etcd-client.${end}`,
      readFileSync(`${host}/client.${end}`, "utf8"),
    ]),
  );
}

/** Its certificate expires while it runs, and is renewed: the next handshake shows that one. So with a client's. */
async function renewed(folder: string, url: string, { ca, pair }: { ca: Pair; pair: Pair }): Promise<string> {
  const port = Number(new URL(url).port);
  const ended = (await agedText(pair.cert, ca.key, 2 * YEAR_MS))!;
  const seen = async (cert: string) => {
    writeFileSync(`${folder}/pki/cert`, cert);
    const shown = isValidNow(certInfo(await servedPem("127.0.0.1", port)));
    return [shown, await acceptsClientCertificate({ host: "127.0.0.1", port }, { cert, key: pair.key })];
  };
  const before = await seen(ended);
  const after = await seen(renewLeaf(ended, ca));
  if (
    !Bun.deepEquals(
      [before, after],
      [
        [false, false],
        [true, true],
      ],
    )
  )
    throw new Fail(`Expired, then renewed: ${before}; ${after}`, { hint: "look at it" });
  return "an expired certificate, renewed with its key, counts at the next handshake, etcd's and a client's";
}

/** On other machines it has expired: that is said, and what is printed for its host renews it. */
async function renewedByLines(
  folder: string,
  url: string,
  { ca, pair }: { ca: Pair; pair: Pair },
): Promise<string> {
  // by a name that was not asked before: a connection that is open outlives the certificate
  const named = url.replace("127.0.0.1", "localhost");
  const look = () =>
    etcdElsewhere({ node: NODE, apiServer: undefined, dataDir: "/nowhere", caFits: () => "yes" }, [named]);
  const host = `${folder}/expired-host`;
  mkdirSync(host);
  const ended = (await agedText(pair.cert, ca.key, 2 * YEAR_MS))!;
  const files = { "ca.crt": ca.cert, "ca.key": ca.key, "server.crt": ended, "server.key": pair.key };
  for (const [name, text] of Object.entries(files)) writeFileSync(`${host}/${name}`, text);
  writeFileSync(`${folder}/pki/cert`, ended);
  const { unreached } = (await look())!;
  const line = /for c in .*?; rm -f ext new/.exec(unreached?.hint ?? "")?.[0];
  if (!line || !unreached?.message.includes("its own certificates have expired"))
    throw new Fail(`Expired, and not said so: ${unreached?.message}`, { hint: "look at it" });
  for (const shell of ["sh", "bash"]) await $({ cwd: host, quiet: true })`${shell} -c ${line}`;
  const renewed = readFileSync(`${host}/server.crt`, "utf8");
  writeFileSync(`${folder}/pki/cert`, renewed);
  const [was, is] = [ended, renewed].map(certInfo) as [CertInfo, CertInfo];
  const kept = ({ subject, sans, usages, publicKeyHash }: CertInfo) => [subject, sans, usages, publicKeyHash];
  if (!(await look())?.living || !isValidNow(is) || !Bun.deepEquals(kept(was), kept(is)))
    throw new Fail("The printed lines do not renew it", { hint: `look at ${host}` });
  return "on another machine it has expired, and the printed lines renew it with its key, names and usages";
}

function alive(pid: number): string {
  process.kill(pid, 0);
  return "etcd is the same process";
}

if (import.meta.main) await run(main);
