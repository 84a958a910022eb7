/**
 * Part 1 of an etcd that is a unit of this node (kubespray, KubeKey): files of it that are lost, or have expired, are
 * made. While it lives it is not stopped for that: it reads certificate and key at each handshake
 * (client/pkg/transport/listener.go), and so do the API servers. It reads its CA at its start: for a new one it is
 * stopped, its data is copied, and it starts again.
 */
import { basename, dirname } from "node:path";
import { $ } from "zx/core";
import { noteStop } from "../as-if.ts";
import { isByKit, pairsToIssue } from "../etcd-location/etcd-home.ts";
import { idsOf, textOf } from "../etcd-location/etcd-unit.ts";
import { hostOf, memberHosts } from "../etcd-location/reach-etcd.ts";
import { processStart } from "../etcd-location/static-pod-here.ts";
import { TRUST_STORES } from "../facts/evidence.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { Fail, Refused } from "../fail.ts";
import { copyLargeTree, copyToRescue } from "../files/file-tree.ts";
import {
  exists,
  giveTo,
  list,
  type Ownership,
  readText,
  removeFile,
  stat,
  writeTogether,
} from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { mainPid } from "../node/started-with.ts";
import type { PkiAction } from "../pki/actions.ts";
import { type Names, names } from "../pki/addresses.ts";
import { certInfo, day, infoOf, isValidNow, shareCertificate, signedBy } from "../pki/certificate.ts";
import type { Cert, EtcdCa, EtcdClientFiles, UnitFile } from "../pki/certs.ts";
import { issueLeaf, type Pair } from "../pki/issue.ts";
import { renewLeaf } from "../pki/renew.ts";
import { act, mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished } from "../this-run.ts";
import { sayWhile } from "../wait-for.ts";
import { proveUnit } from "./own-etcd.ts";
import { ownEtcdRefuses, ownEtcdShows, peersOf } from "./peers.ts";
import { ASK_UNIT } from "./unheard.ts";

/**
 * Its proof; where some of its files are to be made first, what they are. Returns whether part 1 stops and starts it.
 * Errors: as `proveUnit`.
 */
export async function lookAtUnit(cp: ControlPlaneNode, actions: readonly PkiAction[]): Promise<boolean> {
  const { toMake = [] } = cp.facts.externalEtcd!;
  const etcdsCa = actions.find(({ row }) => row?.name === "etcd-ca");
  // it has read the one that has expired
  const changesCa = etcdsCa?.todo === "make" || etcdsCa?.remedy?.do === "renew";
  const restarts = changesCa || (await mustStart(cp));
  const when = restarts ? "in 1.5" : "in 1.3";
  for (const { cert, renewal, copy } of toMake) {
    const how = copy ? "is lost, and becomes a copy of etcd's own" : "is lost, and is issued again";
    say(`${cert}: ${renewal ? "has expired, and is renewed" : how} ${when}`);
  }
  const { etcdCa } = cp.facts;
  // what this repair has started may still wait for other members: 1.7 proves it
  const isStarted = etcdCa && isByKit(etcdCa.pairs[0]!.cert);
  if (!restarts && toMake.length === 0 && !isStarted) await proveUnit(cp);
  return restarts;
}

/**
 * It does not run: for want of these files, or as a run that was cut off has not started it yet. Or it runs since before
 * the CA that this kit has put there was made. Its maker starts it some seconds after the CA of its own.
 */
async function mustStart(cp: ControlPlaneNode): Promise<boolean> {
  const { externalEtcd, etcdCa } = cp.facts;
  const isIssued = externalEtcd!.toMake?.some(({ issue }) => issue);
  if (!etcdCa || (!isIssued && !isByKit(etcdCa.pairs[0]!.cert) && !isByKit(etcdCa.cert))) return false;
  if ((await ownEtcdShows(cp)) === "nothing") return true;
  const pid = await mainPid("etcd");
  const began = pid > 0 ? processStart(pid) : undefined;
  const ca = infoOf(readable(etcdCa.cert));
  return isByKit(etcdCa.cert) && began !== undefined && ca !== undefined && ca.notBefore > began;
}

export async function stopUnit() {
  noteUnfinished(
    "etcd",
    "etcd is stopped: run the same line again, which starts it. Or: systemctl start etcd",
  );
  await systemctlEtcd("stop");
  noteStop("etcd", "etcd.service");
}

/** Does not wait for it: it is ready when enough members run. */
export async function startUnit() {
  await systemctlEtcd("restart");
  noteUnfinished("etcd", undefined);
}

async function systemctlEtcd(verb: "stop" | "restart") {
  const words = verb === "stop" ? ["stop", "etcd"] : ["restart", "--no-block", "etcd"];
  await act(verb, "etcd.service", async () => {
    const turn = () => $({ quiet: true, nothrow: true })`systemctl ${words}`;
    const { exitCode, stderr } = await sayWhile(shell`systemctl ${words}`, ASK_UNIT, turn);
    if (exitCode !== 0)
      throw new Fail(`${shell`systemctl ${words}`} exited ${exitCode}: ${stderr.trim().split("\n").at(-1)}`, {
        hint: ASK_UNIT,
      });
  });
}

/** Folders in which some of them are made, as they were. */
export async function keepUnitFiles({ cp, unitRestarts }: UnitInput) {
  const { toMake = [] } = cp.facts.externalEtcd ?? {};
  const pairs = unitRestarts ? cp.facts.etcdCa!.pairs : [];
  const folders = new Set([...toMake, ...pairs].map(({ cert }) => dirname(cert)));
  for (const folder of folders)
    if (exists(folder)) await copyLargeTree(folder, `${cp.rescue.dir}/before${folder}`);
}

interface UnitInput {
  cp: ControlPlaneNode;
  unitRestarts: boolean;
}

/**
 * An etcd that runs on is asked afterwards. Errors: as `proveUnit`; Refused if it was started with another CA: then
 * what was issued is gone again.
 */
export async function makeUnitFiles({ cp, unitRestarts }: UnitInput) {
  const { externalEtcd, etcdCa } = cp.facts;
  const files = externalEtcd?.toMake ?? [];
  const isPlanned = ({ cert }: EtcdClientFiles) => files.some(({ issue }) => issue?.cert === cert);
  const hasEnded = ({ cert }: EtcdClientFiles) => !isValidNow(certInfo(readText(cert)!));
  const open = unitRestarts || files.some((file) => file.issue) ? pairsToIssue(etcdCa!) : [];
  // its CA was renewed just now
  const isOpen = (pair: EtcdClientFiles) => open.includes(pair) || (isPlanned(pair) && hasEnded(pair));
  const issued = etcdCa?.pairs.filter(isOpen) ?? [];
  for (const file of files) if (!issued.some(({ cert }) => cert === file.cert)) make(file);
  const written = issued.length > 0 ? await issue(cp, issued) : [];
  const isOld = (path: string) => exists(path) && !shareCertificate(textOf(path), textOf(etcdCa!.cert));
  for (const path of issued.length > 0 ? TRUST_STORES.filter(isOld) : [])
    say(`unchanged ${path}: it has another CA of etcd, and no part of the cluster reads it`);
  if (unitRestarts || mode.dryRun || files.length === 0) return;
  if (issued.length > 0) await refuseOtherCa(cp, written);
  await proveUnit(cp);
}

function make({ cert, renewal, copy }: UnitFile) {
  const read = (path: string) => readText(path) ?? "";
  if (renewal) {
    const ca = { cert: read(renewal.ca), key: read(renewal.caKey) };
    const content = renewLeaf(read(cert), ca);
    writeTogether([{ path: cert, content, note: "as it was, with its key; until later" }]);
  }
  if (!copy) return;
  // a key before its certificate
  const [ca, own, key] = copy.map(({ from, to }) => ({ path: to, content: read(from), folderMode: 0o755 }));
  writeTogether([
    { ...key!, mode: 0o600, note: "etcd's own: any certificate of its CA will do" },
    ...(copy[0]!.from === copy[0]!.to ? [] : [{ ...ca!, mode: 0o644 }]),
    { ...own!, mode: 0o644 },
  ]);
}

/** Each with a new key; what is damaged goes to the rescue folder. Returns the paths that were not there before. */
async function issue(cp: ControlPlaneNode, pairs: readonly EtcdClientFiles[]): Promise<string[]> {
  const etcdCa = cp.facts.etcdCa!;
  const ca = { cert: readText(etcdCa.cert)!, key: readText(etcdCa.key)! };
  const all = await namesFor(cp, ca.cert);
  const written: string[] = [];
  for (const pair of pairs) {
    const { cert, key } = await issued(pair, { cp, ca, all });
    const note = `until ${day(certInfo(cert).notAfter)}, signed by ${certInfo(ca.cert).cn}`;
    const copy = pair.ca === etcdCa.cert ? [] : [{ path: pair.ca, content: ca.cert }];
    const changes = [{ path: pair.key, content: key }, { path: pair.cert, content: cert, note }, ...copy];
    for (const { path } of changes) if (exists(path)) copyToRescue(path, cp.asideDir);
    written.push(...changes.flatMap(({ path }) => (exists(path) ? [] : path)));
    const fitted = changes.map((one) => ({ ...one, ...ownerOf(one.path, etcdCa), folderMode: 0o755 }));
    writeTogether(fitted);
    for (const { path, ...owner } of fitted) if (!mode.dryRun) giveTo(path, owner);
  }
  // one that only this kit has filled
  const folder = dirname(etcdCa.cert);
  if (!mode.dryRun && list(folder).every((name) => isByKit(`${folder}/${name}`)))
    giveTo(folder, { ...idsOf(etcdCa.user)!, mode: 0o700 });
  return written;
}

interface Issuing {
  cp: ControlPlaneNode;
  ca: Pair;
  all: Names;
}

/** As its installer makes it: RSA 2048, for servers and clients, for all members, as long as its CA. Its name decides nothing. */
async function issued({ cert }: EtcdClientFiles, { cp, ca, all }: Issuing): Promise<Pair> {
  const file = basename(cert).replace(/\.\w+$/, "");
  const row: Cert = { name: file, file, cn: `etcd-${file}`, usages: ["server", "client"], names: () => all };
  const certificateValidityHours = Math.floor(
    (certInfo(ca.cert).notAfter.getTime() - Date.now()) / 3_600_000,
  );
  return await issueLeaf(row, ca, { ...cp.facts, keyAlgorithm: "RSA-2048", certificateValidityHours });
}

/**
 * Addresses of all members, names of their nodes, the Service's; and those that certificates of this CA still have: in
 * this folder, and shown by other members.
 */
async function namesFor({ data, node, cluster, facts }: ControlPlaneNode, caPem: string): Promise<Names> {
  const folder = dirname(facts.etcdCa!.cert);
  const shown = (await peersOf({ data, node, facts })).map(({ servedPem }) => servedPem);
  const texts = list(folder).map((name) =>
    /\.(pem|crt)$/.test(name) ? readable(`${folder}/${name}`) : undefined,
  );
  const hashes = [...shown, ...texts].flatMap((pem) => {
    const info = infoOf(pem);
    return info && !info.isCa && signedBy(info.pem, caPem) ? [...info.sans.dns, ...info.sans.ips] : [];
  });
  const nodes = cluster.nodes.flatMap(({ name, controlPlane }) => (controlPlane ? name : []));
  const service = [
    "etcd",
    "etcd.kube-system",
    "etcd.kube-system.svc",
    `etcd.kube-system.svc.${facts.dnsDomain}`,
  ];
  const hosts = data.members.flatMap(memberHosts);
  const own = [facts.advertiseAddress, hostOf(facts.externalEtcd!.server)];
  return names(["localhost", "127.0.0.1", "::1", ...nodes, ...service, ...hosts, ...own, ...hashes]);
}

const isKey = (path: string) => /key(\.\w+)?$/.test(path);

/** As the file had it, or one of its kind beside it; else only root and etcd's user read a key. */
function ownerOf(path: string, { user }: EtcdCa): Ownership {
  const folder = dirname(path);
  const alike = list(folder).filter((name) => isKey(name) === isKey(path) && /\.(pem|crt|key)$/.test(name));
  const like = [path, ...alike.map((name) => `${folder}/${name}`)].find((one) => exists(one));
  const {
    uid,
    gid,
    mode: bits,
  } = (like && stat(like)) || { uid: 0, gid: 0, mode: isKey(path) ? 0o600 : 0o644 };
  const own = idsOf(user)!;
  return { ...(uid === 0 && own.uid !== 0 ? own : { uid, gid }), mode: bits };
}

/** Errors: Refused if this etcd takes no certificate of this CA, which it has read at its start. */
async function refuseOtherCa(cp: ControlPlaneNode, written: readonly string[]) {
  if (!(await ownEtcdRefuses(cp))) return;
  for (const path of written) removeFile(path);
  throw new Refused(
    `etcd here was started with another CA than the one in ${cp.facts.etcdCa!.cert}: nothing of it is left in use`,
    {
      hint: `bring the CA that etcd has from another control plane node: ./bunw scripts/hand-over.ts pack there, unpack here. If all members get this one: systemctl stop etcd; then run the same line again`,
    },
  );
}
