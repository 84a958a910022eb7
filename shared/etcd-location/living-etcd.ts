/**
 * The data of an etcd on other machines: its snapshot, by its own API, in memory without a name: nothing is left of it,
 * however this process ends. Asked with a client pair of this node; who answers shows a certificate of that pair's CA, and
 * holds the cluster whose CA signed this kubelet's certificate: several clusters may have one etcd, and anybody may have
 * typed an address. Reads only.
 */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { command } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, attemptLater, Fail, Refused } from "../fail.ts";
import { megabytes, NEED, refuseNoMemory } from "../files/file-system.ts";
import { exists, list, readText, writeAt } from "../files/files.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { foldersWithData } from "../node/rescue-folder.ts";
import { hostAndPort, isServer } from "../pki/addresses.ts";
import { day, infoOf, isValidNow, keyMatches, signedBy } from "../pki/certificate.ts";
import type { EtcdClientFiles } from "../pki/certs.ts";
import { shownSoon } from "../pki/served.ts";
import { shell } from "../shell-line.ts";
import { EtcdClient, type EtcdStatus } from "./client.ts";
import { type EtcdFolders, isKnown, type LivingEtcd, readFolders, readRescued } from "./etcd-folders.ts";
import { ETCD_SSL, type EtcdHome, etcdHome } from "./etcd-home.ts";
import { hostOf } from "./reach-etcd.ts";
import { BESIDE_CA, MAKE_PAIR, RENEW_OWN } from "./renew-by-hand.ts";

interface Here {
  node: Node;
  all?: readonly Container[] | undefined;
  apiServer: EtcdFolders["apiServer"];
  dataDir: string;
  /** Whether the cluster's CA in this data signed the kubelet's certificate. */
  caFits(data: EtcdData, node: Node): "yes" | "no" | "unknown";
}

/** Its data, or why that cannot be read; undefined if etcd is of this node, or nothing shows where it is. */
export async function etcdElsewhere(
  { dataDir, ...here }: Here,
  typedUrls: readonly string[],
): Promise<Pick<EtcdFolders, "living" | "unreached"> | undefined> {
  const { node, all = [], apiServer } = here;
  const now = etcdHome({ node, dataDir, all, apiServer });
  const isOpen = typedUrls.length === 0 && now.servers.length === 0;
  const home = (isOpen && attempt(() => homeBefore({ node, dataDir, all }), undefined)) || now;
  if (typedUrls.length === 0 && home.runs !== "elsewhere") return undefined;
  const urls = typedUrls.length > 0 ? typedUrls : home.servers;
  const living = await attemptLater(() => reach(urls, home, here));
  return living instanceof Fail ? { unreached: living } : { living };
}

/**
 * As this repair's copy tells it: once the kubelet has started, no container of an API server names etcd, and its
 * manifest comes in part 2.
 */
function homeBefore(input: Parameters<typeof etcdHome>[0]): EtcdHome | undefined {
  const [rescue] = foldersWithData();
  if (!rescue) return undefined;
  using data = readRescued(rescue, undefined);
  return data.elsewhere && { ...etcdHome({ ...input, data }), runs: "elsewhere" };
}

/** Errors: Refused with the way, if it cannot be reached, or is not this cluster's. */
async function reach(
  urls: readonly string[],
  { client }: EtcdHome,
  { node, apiServer, caFits }: Omit<Here, "dataDir">,
): Promise<LivingEtcd> {
  const hosts = urls.filter((url) => hostOf(url) !== "" && isServer(url));
  if (hosts.length === 0) throw unknownPlace();
  const pairs = pairsHere(client);
  const valid = pairs.filter(({ cert }) => isValidNow(infoOf(readText(cert))!));
  const answer = valid.length > 0 ? await firstAnswer(hosts, valid) : undefined;
  if (!answer || answer instanceof Fail) throw await whyUnread(hosts, { client, pairs, silence: answer });
  const { endpoint, files, etcd, status } = answer;
  const members = await etcd.members();
  const fd = await inMemory(etcd, status);
  const about = {
    ...{ clusterId: status.clusterId, memberId: "", members },
    elsewhere: { members, addresses: node.addresses, name: node.name },
  };
  const living = { endpoint, ...files, file: `/proc/self/fd/${fd}`, size: fs.fstatSync(fd).size, about };
  using data = readFolders({ dir: endpoint, wal: undefined, apiServer, living });
  refuseOtherCluster(caFits(data, node), node, endpoint);
  return living;
}

type Answer = { endpoint: string; files: EtcdClientFiles; etcd: EtcdClient; status: EtcdStatus };

/** All addresses at once with one pair, then with the next. */
async function firstAnswer(
  hosts: readonly string[],
  pairs: readonly EtcdClientFiles[],
): Promise<Answer | Fail> {
  let last = new Fail("nobody answers", { hint: WHERE_IT_RUNS });
  for (const files of pairs) {
    const [ca, cert, key] = [files.ca, files.cert, files.key].map((path) => readText(path)!);
    const clients = hosts.map((url) => new EtcdClient(url, { ca: ca!, cert: cert!, key: key! }));
    const all = await Promise.all(clients.map((etcd) => attemptLater(() => etcd.status())));
    const i = all.findIndex((one) => !(one instanceof Fail) && one.leaderId !== "0");
    const status = all[i];
    if (status && !(status instanceof Fail)) return { endpoint: hosts[i]!, files, etcd: clients[i]!, status };
    last = all.find((one) => one instanceof Fail) ?? new Fail("it has no leader", { hint: WHERE_IT_RUNS });
  }
  return last;
}

/** Client pairs that are whole: the API server's own, then kubespray's and KubeKey's. */
function pairsHere(client: readonly string[]): EtcdClientFiles[] {
  const [ca, cert, key] = client;
  const names = list(ETCD_SSL).filter((name) => name.endsWith("-key.pem") && name !== "ca-key.pem");
  const inSsl = names.toReversed().map((name) => ({
    ca: `${ETCD_SSL}/ca.pem`,
    cert: `${ETCD_SSL}/${name.replace("-key.pem", ".pem")}`,
    key: `${ETCD_SSL}/${name}`,
  }));
  const all = [...(ca && cert && key ? [{ ca, cert, key }] : []), ...inSsl];
  return all.filter((files) => {
    const fits = attempt(() => keyMatches(readText(files.cert) ?? "", readText(files.key) ?? ""), false);
    return fits && exists(files.ca);
  });
}

const O_TMPFILE = 0o20000000;

/** Returns an open file of a file system in memory, without a name. Errors: Fail if there is no room in memory. */
async function inMemory(client: EtcdClient, { size }: EtcdStatus): Promise<number> {
  refuseNoMemory("read etcd's data", { need: size + NEED });
  const rooms = ["/dev/shm", "/run"].filter((folder) => fs.existsSync(folder));
  const [room] = rooms.map(roomIn).sort((a, b) => b.bytes - a.bytes);
  if (!room || room.bytes < size)
    throw new Fail(`etcd's data of ${megabytes(size)} MB has no room in memory (/dev/shm, /run)`, {
      unchanged: true,
      hint: "make room there: df -h /dev/shm /run; mount -o remount,size=90% /dev/shm. Then run the same line again",
    });
  const { O_RDWR, O_DIRECTORY } = fs.constants;
  const file = fs.openSync(room.folder, O_RDWR | O_DIRECTORY | O_TMPFILE, 0o600);
  copies.add(file);
  await writeSnapshot(file, client);
  return file;
}

/** Open files, each as large as etcd's database. */
const copies = new Set<number>();

/** Between two looks of one run: closes all but this one. */
export function closeCopies(but: Pick<LivingEtcd, "file"> | undefined) {
  for (const fd of copies) if (!but?.file.endsWith(`/${fd}`) && copies.delete(fd)) fs.closeSync(fd);
}

function roomIn(folder: string) {
  const { bavail, bsize, type } = fs.statfsSync(folder);
  return { folder, bytes: type === TMPFS ? bavail * bsize : 0 };
}

/** statfs(2) */
const TMPFS = 0x01021994;

export async function writeSnapshot(
  file: number,
  client: EtcdClient,
  show = (_: number) => {},
): Promise<number> {
  let size = 0;
  for await (const piece of client.snapshot()) {
    writeAt(file, piece, size);
    size += piece.length;
    show(size);
  }
  return size;
}

function refuseOtherCluster(ca: ReturnType<Here["caFits"]>, node: Node, endpoint: string) {
  if (ca === "yes") return;
  const why =
    ca === "no"
      ? "its cluster's CA did not sign this kubelet's certificate"
      : `nothing here proves whose it is: no certificate of the kubelet in ${node.kubelet.clientPem}`;
  throw new Refused(`etcd at ${endpoint} is not proved to hold this cluster: ${why}`, {
    unchanged: true,
    hint: `${OTHER_PLACE}. Nothing of its data was used`,
  });
}

const WHERE_IT_RUNS =
  'repair it where it runs (systemctl status etcd, or crictl ps -a --name etcd; RUNBOOK-MORE "If etcd is external")';

const OTHER_PLACE = `name its members, if they are others: ${command("00-assess", { "etcd-data": "https://HOST:2379,https://HOST:2379" })}`;

class UnknownPlace extends Refused {}

/** Nothing of etcd is here, and nothing shows where else it is: most likely a worker. */
export function isWithoutEtcd(
  place: Pick<EtcdFolders, "dir" | "living" | "isHosted" | "unreached">,
): boolean {
  return !isKnown(place) && (!place.unreached || place.unreached instanceof UnknownPlace);
}

function unknownPlace(): Refused {
  return new UnknownPlace("This cluster's etcd is external, and nothing here shows where it is", {
    unchanged: true,
    hint: `${OTHER_PLACE}: each script on this node remembers it`,
  });
}

interface Unread {
  client: readonly string[];
  /** Client pairs that are here, valid or not. */
  pairs: readonly EtcdClientFiles[];
  /** Unset: nobody was asked, as no pair is valid. */
  silence: Fail | undefined;
}

/** Certificates are lost or have expired: no API server here reaches etcd either. */
export class NoWayToEtcd extends Refused {
  /** Its hint as lines, each with a comment that says where it is typed. */
  steps: readonly string[] = [];
}

/** All that is to be made on etcd's hosts, at once: the API server, too, takes no certificate that has expired. */
async function whyUnread(hosts: readonly string[], { client, pairs, silence }: Unread): Promise<Refused> {
  const ended = await endedAt(hosts, pairs[0]?.ca);
  const at = hosts.join(", ");
  const found = [...(ended ? [ended] : []), ...(silence ? [] : [withoutPair(client, pairs[0]?.cert)])];
  if (found.length === 0)
    return new Refused(`This cluster's etcd is external, and does not answer at ${at}: ${silence!.message}`, {
      unchanged: true,
      hint: `${WHERE_IT_RUNS}, then run the same line again. ${OTHER_PLACE}`,
    });
  const words = `This cluster's etcd is external (${at}), and ${found.map(({ why }) => why).join("; ")}`;
  const hint = `${found.map(({ way }) => way).join(". ")}. Then run the same line again`;
  const steps = found.flatMap((one) => one.steps);
  return Object.assign(new NoWayToEtcd(words, { unchanged: true, hint }), { steps });
}

interface Trouble {
  why: string;
  way: string;
  steps: string[];
}

/** kubeadm's port for etcd's peers. Without a quorum etcd serves no client, and shows its certificate there. */
const PEERS = 2380;

/** Servers whose certificate has expired, of the CA in `ca`; with none here, what they show is enough to look there. */
export async function endedAt(
  hosts: readonly string[],
  ca: string | undefined,
): Promise<Trouble | undefined> {
  const shown = async (url: string) => {
    const { host, port } = hostAndPort(url);
    return (await shownSoon(host, port)) ?? (await shownSoon(host, PEERS));
  };
  const ended = await Promise.all(
    hosts.map(async (url) => {
      const pem = await shown(url);
      const info = infoOf(pem);
      const isIts = info && (ca === undefined || signedBy(pem!, readText(ca)!));
      return isIts && info.notAfter < new Date() ? [`${url} (${day(info.notAfter)})`] : [];
    }),
  );
  const all = ended.flat();
  if (all.length === 0) return undefined;
  return {
    why: `its own certificates have expired: ${all.join(", ")}`,
    way: `renew them on each of these hosts, ${BESIDE_CA}: ${RENEW_OWN}`,
    steps: [`${RENEW_OWN}   # on each host of etcd, ${BESIDE_CA}`],
  };
}

/** `ended`: a pair that has expired; unset: it is lost. */
function withoutPair([ca = "", cert = "", key = ""]: readonly string[], ended: string | undefined): Trouble {
  const lost = [ca, cert, key].filter((path) => !exists(path));
  const is = lost.length > 1 ? "are" : "is";
  const why = ended
    ? `the API server's certificate for it has expired (${day(infoOf(readText(ended))!.notAfter)})`
    : `no client pair for it is here: ${lost.length > 0 ? `${lost.join(", ")} ${is} missing` : `${key} is not the key of ${cert}`}`;
  const bring = `bring ca.crt to ${ca}, client.crt to ${cert}, client.key to ${key} (scp -p); the same pair does for each control plane node`;
  const folders = shell`mkdir -p ${dirname(ca)} ${dirname(cert)}`;
  return {
    why,
    way: `make a client pair on one etcd host, ${BESIDE_CA}: ${MAKE_PAIR}. Here: ${folders}, then ${bring}`,
    steps: [
      `${MAKE_PAIR}   # on one host of etcd, ${BESIDE_CA}`,
      `${folders}   # on this node; then ${bring}`,
    ],
  };
}
