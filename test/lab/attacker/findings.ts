/** The result of the attack: more questions at the end of a hostile scenario. */
import { createPublicKey, X509Certificate } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { certificatesIn, keyMatches, publicKeyHash, publicKeyOf } from "../../../shared/pki/certificate.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import type { Check, Step } from "../report/rehearsal.ts";
import { type Item, list } from "../report/snapshot.ts";
import { countValid } from "../report/verdict.ts";
import type { Scene } from "../scene/scene.ts";
import { type Attacker, attackerPki, TEAM } from "./attacker.ts";
import { OWNED } from "./folder.ts";
import { intruderAsked } from "./intruder.ts";
import { userFindings } from "./local-user.ts";
import { plays } from "./objects.ts";
import { PREFIX } from "./requests.ts";

const HOME = "/etc/kubernetes";

/** Hashes of the shared public keys, by control plane node and file. */
export type SharedPublicKeys = Record<string, Record<string, string>>;

const SHARED = ["ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.pub"];

export function sharedPublicKeys({ controlPlanes }: Lab): SharedPublicKeys {
  return Object.fromEntries(
    controlPlanes.map((node) => [
      node.name,
      Object.fromEntries(SHARED.map((file) => [file, publicHash(node, file)])),
    ]),
  );
}

function publicHash(node: Machine, file: string): string {
  const path = node.path(`${HOME}/pki/${file}`);
  return existsSync(path) ? publicKeyHash(publicKeyOf(readFileSync(path, "utf8"))) : "no such file";
}

export interface Played {
  attacker: Attacker;
  tokens: Record<string, string>;
  /** Before the damage. */
  keys: SharedPublicKeys;
}

export interface Expected {
  /** The CA and the service-account key must be the old ones. */
  oldKeys: boolean;
}

export async function findings(scene: Scene, attack: Played, { oldKeys }: Expected): Promise<Check[]> {
  const { lab } = scene;
  const ask = (name: string, question: () => Promise<Answer> | Answer) => answered(name, question);
  return [
    await ask("the CAs and the service-account key are the cluster's own", () =>
      keysAre(lab, attack, oldKeys),
    ),
    await ask("no file of the attacker's is below /etc/kubernetes", () =>
      nothingOfAttackers(lab, attack.attacker),
    ),
    await ask("each node has its static pods and no others", () => staticPods(scene)),
    await ask("the API accepts no token of the attacker's", () => tokensRefused(lab, attack.tokens)),
    await ask("the API accepts a new token of the cluster's", () => freshToken(lab)),
    await ask("no command hung", () =>
      none(scene.steps.filter(({ hung }) => hung).map(({ node, command }) => `${node}# ${command}`)),
    ),
    await ask("no escape sequence of the attacker's reaches the terminal", () =>
      none(scene.steps.filter(isRaw).map(({ node, command }) => `${node}# ${command}`)),
    ),
    await ask("no code of the attacker's ran as root", () => attackersCode(lab)),
    ...(plays("worker") ? await aboutRequests(scene) : []),
    ...(plays("user") ? await userFindings(scene) : []),
  ];
}

/** ok, and a detail. */
type Answer = [ok: boolean, detail: string];

async function answered(name: string, question: () => Promise<Answer> | Answer): Promise<Check> {
  try {
    const [ok, detail] = await question();
    return { name, ok, detail };
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    return { name, ok: false, detail: err.message };
  }
}

function none(found: string[], good = "none"): Answer {
  return [found.length === 0, found.slice(0, 6).join("; ") || good];
}

/**
 * The old keys where they could be saved, otherwise new ones, the same on every control plane node. Never the
 * attacker's.
 */
function keysAre(lab: Lab, { attacker, keys }: Played, oldKeys: boolean): Answer {
  const his = publicHashesOf(attacker);
  const now = sharedPublicKeys(lab);
  const irreplaceable = (file: string) => file === "ca.crt" || file === "sa.pub";
  const wrong = Object.entries(now).flatMap(([node, files]) =>
    Object.entries(files).flatMap(([file, hash]) => {
      if (his.has(hash)) return `${node}: ${file} is the attacker's`;
      // an etcd that kubeadm did not make has its CA elsewhere
      if (hash === "no such file") return keys[node]![file] === hash ? [] : `${node}: there is no ${file}`;
      if (oldKeys && irreplaceable(file) && hash !== keys[node]![file])
        return `${node}: ${file} is not the old one`;
      if (hash !== Object.values(now)[0]![file])
        return `${node}: ${file} differs from the first control plane node's`;
      // the key of an etcd's CA that kubeadm did not make is on etcd's own hosts
      const isMakers = file === "etcd/ca.crt" && hash === keys[node]![file] && !hasKey(lab, node, file);
      if (isMakers) return [];
      return pairFits(lab.controlPlanes.find(({ name }) => name === node)!, file)
        ? []
        : `${node}: ${file} does not match its key`;
    }),
  );
  return none(
    wrong,
    `${Object.keys(now).join(", ")}: ${oldKeys ? "ca and sa are the old ones" : "none is the attacker's"}`,
  );
}

function hasKey({ controlPlanes }: Lab, node: string, file: string): boolean {
  const machine = controlPlanes.find(({ name }) => name === node)!;
  return existsSync(machine.path(`${HOME}/pki/${file.replace(/\.\w+$/, ".key")}`));
}

function pairFits(node: Machine, file: string): boolean {
  const read = (name: string) => readFileSync(node.path(`${HOME}/pki/${name}`), "utf8");
  const keyFile = file.replace(/\.\w+$/, ".key");
  return existsSync(node.path(`${HOME}/pki/${keyFile}`)) && keyMatches(read(file), read(keyFile));
}

function publicHashesOf(attacker: Attacker): Set<string> {
  const texts = Object.entries(attackerPki(attacker)).filter(([name]) => !name.endsWith(".key"));
  return new Set(texts.map(([, text]) => publicKeyHash(createPublicKey(text))));
}

/**
 * Whether the text has the attacker's name, or a piece of his keys or certificates, in PEM or in base64 as in
 * kubeconfigs.
 */
export function isAttackers(text: string, attacker: Attacker): boolean {
  if (text.includes(TEAM)) return true;
  // Near the end, where keys and signatures are: certificates with one name and date begin with the same
  // lines.
  const pieces = Object.values(attackerPki(attacker)).map(
    (pem) => pem.split("\n").findLast((line) => line.length === 64 && !line.startsWith("-"))!,
  );
  const decoded = [...text.matchAll(/-data: "?([A-Za-z0-9+/=]+)/g)].map(([, base64]) =>
    Buffer.from(base64!, "base64").toString(),
  );
  return [text, ...decoded].some((one) => pieces.some((piece) => one.includes(piece)));
}

/** Files of the attacker's below /etc/kubernetes of any node. */
export function attackersFiles(lab: Lab, attacker: Attacker): string[] {
  const all = lab.nodes.flatMap((node) => filesBelow(node, HOME).map((path) => ({ node, path })));
  const his = all.filter(({ node, path }) => isAttackers(readFileSync(node.path(path), "utf8"), attacker));
  return his.map(({ node, path }) => `${node.name}: ${path}`);
}

function nothingOfAttackers(lab: Lab, attacker: Attacker): Answer {
  const strange = lab.nodes.flatMap((node) =>
    strangeBelow(node, HOME, lab.profile.links).map((path) => `${node.name}: ${path} is no regular file`),
  );
  return none([...attackersFiles(lab, attacker), ...strange]);
}

function below(node: Machine, folder: string): string[] {
  const home = node.path(folder);
  return existsSync(home)
    ? readdirSync(home, { recursive: true, encoding: "utf8" }).map((path) => `${folder}/${path}`)
    : [];
}

function filesBelow(node: Machine, folder: string): string[] {
  return below(node, folder).filter((path) => lstatSync(node.path(path)).isFile());
}

function strangeBelow(node: Machine, folder: string, links: object): string[] {
  return below(node, folder).filter((path) => {
    if (path in links) return false;
    const stat = lstatSync(node.path(path));
    return !stat.isFile() && !stat.isDirectory();
  });
}

/** Manifests, and the pods that the runtime runs from files. */
async function staticPods({ lab, before }: Scene): Promise<Answer> {
  const found = await Promise.all(
    lab.nodes.map(async (node) => {
      const known = Object.keys(before.nodes[node.name]!.manifests).map((file) =>
        file.replace(/^manifests\/|\.ya?ml$/g, ""),
      );
      const files = below(node, `${HOME}/manifests`).map((path) => path.replace(/^.*\/|\.ya?ml$/g, ""));
      const strange = files
        .filter((name) => !known.includes(name))
        .map((name) => `${node.name}: manifests/${name}`);
      const lost = known
        .filter((name) => !files.includes(name))
        .map((name) => `${node.name}: no manifests/${name}`);
      const running = (await podsFromFiles(node)).filter(
        (name) => !known.some((one) => name === `kube-system/${one}-${node.nodeName}`),
      );
      return [...strange, ...lost, ...running.map((name) => `${node.name}: ${name} runs`)];
    }),
  );
  return none(found.flat(), "all equal");
}

interface Sandbox {
  metadata: { name: string; namespace: string };
  state: string;
  annotations: Record<string, string>;
}

async function podsFromFiles(node: Machine): Promise<string[]> {
  const { stdout, stderr, exitCode } = await node.run(["crictl", "pods", "-o", "json"]);
  if (exitCode !== 0)
    throw new Fail(`crictl on ${node.name}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
  const pods = (JSON.parse(stdout) as { items: Sandbox[] }).items;
  const isOfFile = ({ state, annotations }: Sandbox) =>
    state === "SANDBOX_READY" && annotations["kubernetes.io/config.source"] === "file";
  return pods.filter(isOfFile).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
}

async function tokensRefused(lab: Lab, tokens: Record<string, string>): Promise<Answer> {
  await list(lab, "nodes"); // Fails where there is no API that could refuse.
  const accepted: string[] = [];
  for (const [name, token] of Object.entries(tokens))
    if ((await countValid(lab, [token])) > 0) accepted.push(name);
  return none(accepted, `${Object.keys(tokens).length} refused`);
}

async function freshToken(lab: Lab): Promise<Answer> {
  const { stdout, stderr } = await kubectl(lab, ["create", "token", "default"]);
  const valid = await countValid(lab, [stdout.trim()]);
  return [valid === 1, stderr.trim() || `${valid} of 1`];
}

/** Escape sequences, or a line that is too long for a terminal. */
function isRaw({ command, stdout, stderr }: Step): boolean {
  const isJson = command.includes("--json");
  return (
    (stdout + stderr).includes("\u001b") ||
    (!isJson && (stdout + stderr).split("\n").some((line) => line.length > 4000))
  );
}

async function attackersCode(lab: Lab): Promise<Answer> {
  const answers = await Promise.all(lab.nodes.map((node) => node.run(["test", "-e", OWNED])));
  return none(lab.nodes.filter((_, i) => answers[i]!.exitCode === 0).map(({ name }) => `${name}: ${OWNED}`));
}

/** None of the attacker's CSRs is approved, and the operator sees the name of each that the API accepted. */
async function aboutRequests(scene: Scene): Promise<Check[]> {
  const { taken, refused } = intruderAsked(scene);
  const said = scene.steps.map(({ stdout, stderr }) => stdout + stderr).join("\n");
  return [
    {
      name: "the attacker's worker has asked for other identities",
      ok: taken.length > 0,
      detail: `${taken.length} CSRs created, ${refused.length} refused by the API`,
    },
    await answered("no CSR of the attacker's is approved", async () => {
      const csrs = await attackersRequests(scene.lab);
      const approved = csrs.filter(
        ({ status }) =>
          status?.certificate || status?.conditions?.some((c: { type: string }) => c.type === "Approved"),
      );
      const names = approved.map(({ metadata }) => metadata.name);
      return none(names, `${csrs.length} looked at`);
    }),
    await answered("the operator sees the name of each CSR of the attacker's for a kubelet", async () => {
      const named = (await attackersRequests(scene.lab))
        .filter(({ spec }) => /kubelet/.test(spec.signerName))
        .map(({ metadata }) => metadata.name);
      return none(
        named.filter((name) => !said.includes(name)),
        `${named.length} named`,
      );
    }),
    await answered("each kubelet serves under its own names only", () => servingNames(scene.lab)),
  ];
}

async function attackersRequests(lab: Lab): Promise<Item[]> {
  return (await list(lab, "certificatesigningrequests")).filter(({ metadata }) =>
    metadata.name.startsWith(PREFIX),
  );
}

/** The names in each kubelet's serving certificate. */
async function servingNames(lab: Lab): Promise<Answer> {
  const wrong: string[] = [];
  for (const node of lab.nodes) {
    const { stdout } = await node.run(["cat", "/var/lib/kubelet/pki/kubelet-server-current.pem"]);
    const pem = certificatesIn(stdout)[0];
    if (!pem) continue;
    const names = namesOf(pem).filter((name) => ![node.ip, node.nodeName].includes(name));
    if (names.length > 0) wrong.push(`${node.name}: ${names.join(", ")}`);
  }
  return none(wrong);
}

function namesOf(pem: string): string[] {
  return (new X509Certificate(pem).subjectAltName ?? "")
    .split(", ")
    .map((name) => name.replace(/^[^:]*:/, ""));
}
