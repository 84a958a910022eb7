/** What became of the attack: questions at the end of a hostile scenario, beside those that are always asked. */
import { createPublicKey, X509Certificate } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { Fail } from "../../../shared/fail.ts";
import { certificatesIn, keyMatches, publicKeyHash, publicKeyOf } from "../../../shared/pki/certificate.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import type { Check, Step } from "../report/rehearsal.ts";
import { type Item, list } from "../report/snapshot.ts";
import { countValid } from "../report/verdict.ts";
import type { Scene } from "../scene/scene.ts";
import { type Attacker, loot, TEAM } from "./attacker.ts";
import { OWNED } from "./folder.ts";
import { intruderAsked } from "./intruder.ts";
import { played } from "./objects.ts";
import { PREFIX } from "./requests.ts";

const HOME = "/etc/kubernetes";

/** Public keys of the shared ones, by control plane node and file. */
export type Fingerprints = Record<string, Record<string, string>>;

const SHARED = ["ca.crt", "front-proxy-ca.crt", "etcd/ca.crt", "sa.pub"];

export function fingerprints({ controlPlanes }: Lab): Fingerprints {
  return Object.fromEntries(
    controlPlanes.map((node) => [node.name, Object.fromEntries(SHARED.map((file) => [file, publicHash(node, file)]))]),
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
  keys: Fingerprints;
}

export interface Expected {
  /** The CA and the service-account key are those of before. */
  oldKeys: boolean;
}

export async function findings(scene: Scene, attack: Played, { oldKeys }: Expected): Promise<Check[]> {
  const { lab } = scene;
  const ask = (name: string, question: () => Promise<Answer> | Answer) => answered(name, question);
  return [
    await ask("the CAs and the service-account key are the cluster's own", () => keysAre(lab, attack, oldKeys)),
    await ask("nothing of the attacker's is below /etc/kubernetes", () => nothingOfHis(lab, attack.attacker)),
    await ask("each node has the static pods of before and no others", () => staticPods(scene)),
    await ask("no token that he signed is accepted", () => tokensRefused(lab, attack.tokens)),
    await ask("a fresh token of the cluster's is accepted", () => freshToken(lab)),
    await ask("nothing hung", () => none(scene.steps.filter(({ hung }) => hung).map(({ node, command }) => `${node}# ${command}`))),
    await ask("nothing of his comes raw to the terminal", () =>
      none(scene.steps.filter(isRaw).map(({ node, command }) => `${node}# ${command}`)),
    ),
    await ask("no code of his ran as root", () => codeOfHis(lab)),
    ...(played("worker") ? await aboutRequests(scene) : []),
  ];
}

/** ok, and what was seen. */
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

/** The cluster's own: of before where they could be saved, else new ones and the same on every control plane node; never his. */
function keysAre(lab: Lab, { attacker, keys }: Played, oldKeys: boolean): Answer {
  const his = publicHashesOf(attacker);
  const now = fingerprints(lab);
  const dear = (file: string) => file === "ca.crt" || file === "sa.pub";
  const wrong = Object.entries(now).flatMap(([node, files]) =>
    Object.entries(files).flatMap(([file, hash]) => {
      if (his.has(hash)) return `${node}: ${file} is the attacker's`;
      if (hash === "no such file") return `${node}: there is no ${file}`;
      if (oldKeys && dear(file) && hash !== keys[node]![file]) return `${node}: ${file} is not the one of before`;
      if (hash !== Object.values(now)[0]![file]) return `${node}: ${file} is not the one of the first control plane node`;
      return pairFits(lab.controlPlanes.find(({ name }) => name === node)!, file) ? [] : `${node}: ${file} is not of its key`;
    }),
  );
  return none(wrong, `${Object.keys(now).join(", ")}: ${oldKeys ? "ca and sa those of before" : "none of them his"}`);
}

function pairFits(node: Machine, file: string): boolean {
  const read = (name: string) => readFileSync(node.path(`${HOME}/pki/${name}`), "utf8");
  const keyFile = file.replace(/\.\w+$/, ".key");
  return existsSync(node.path(`${HOME}/pki/${keyFile}`)) && keyMatches(read(file), read(keyFile));
}

function publicHashesOf(attacker: Attacker): Set<string> {
  const texts = Object.entries(loot(attacker)).filter(([name]) => !name.endsWith(".key"));
  return new Set(texts.map(([, text]) => publicKeyHash(createPublicKey(text))));
}

/** By his name, or by a piece of a key or certificate of his, in PEM or once more in base64 as in kubeconfigs. */
export function isHis(text: string, attacker: Attacker): boolean {
  if (text.includes(TEAM)) return true;
  // near the end, where keys and signatures are: the first lines of two certificates of one name and second are the same
  const pieces = Object.values(loot(attacker)).map(
    (pem) => pem.split("\n").findLast((line) => line.length === 64 && !line.startsWith("-"))!,
  );
  const decoded = [...text.matchAll(/-data: "?([A-Za-z0-9+/=]+)/g)].map(([, base64]) => Buffer.from(base64!, "base64").toString());
  return [text, ...decoded].some((one) => pieces.some((piece) => one.includes(piece)));
}

/** Files of the attacker's below /etc/kubernetes of any node. */
export function filesOfHis(lab: Lab, attacker: Attacker): string[] {
  const all = lab.nodes.flatMap((node) => filesBelow(node, HOME).map((path) => ({ node, path })));
  const his = all.filter(({ node, path }) => isHis(readFileSync(node.path(path), "utf8"), attacker));
  return his.map(({ node, path }) => `${node.name}: ${path}`);
}

function nothingOfHis(lab: Lab, attacker: Attacker): Answer {
  const strange = lab.nodes.flatMap((node) => strangeBelow(node, HOME).map((path) => `${node.name}: ${path} is no regular file`));
  return none([...filesOfHis(lab, attacker), ...strange]);
}

function below(node: Machine, folder: string): string[] {
  const home = node.path(folder);
  return existsSync(home) ? readdirSync(home, { recursive: true, encoding: "utf8" }).map((path) => `${folder}/${path}`) : [];
}

function filesBelow(node: Machine, folder: string): string[] {
  return below(node, folder).filter((path) => lstatSync(node.path(path)).isFile());
}

function strangeBelow(node: Machine, folder: string): string[] {
  return below(node, folder).filter((path) => {
    const stat = lstatSync(node.path(path));
    return !stat.isFile() && !stat.isDirectory();
  });
}

/** Manifests, and what the runtime runs out of files. */
async function staticPods({ lab, before }: Scene): Promise<Answer> {
  const found = await Promise.all(
    lab.nodes.map(async (node) => {
      const known = Object.keys(before.nodes[node.name]!.manifests).map((file) => file.replace(/^manifests\/|\.yaml$/g, ""));
      const files = below(node, `${HOME}/manifests`).map((path) => path.replace(/^.*\/|\.yaml$/g, ""));
      const strange = files.filter((name) => !known.includes(name)).map((name) => `${node.name}: manifests/${name}`);
      const lost = known.filter((name) => !files.includes(name)).map((name) => `${node.name}: no manifests/${name}`);
      const running = (await podsFromFiles(node)).filter((name) => !known.some((one) => name === `kube-system/${one}-${node.nodeName}`));
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
  if (exitCode !== 0) throw new Fail(`crictl on ${node.name}: ${stderr.trim()}`, { hint: "look at the node with --keep" });
  const pods = (JSON.parse(stdout) as { items: Sandbox[] }).items;
  const isOfFile = ({ state, annotations }: Sandbox) => state === "SANDBOX_READY" && annotations["kubernetes.io/config.source"] === "file";
  return pods.filter(isOfFile).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
}

async function tokensRefused(lab: Lab, tokens: Record<string, string>): Promise<Answer> {
  await list(lab, "nodes"); // without an API nobody refuses anything
  const accepted: string[] = [];
  for (const [name, token] of Object.entries(tokens)) if ((await countValid(lab, [token])) > 0) accepted.push(name);
  return none(accepted, `${Object.keys(tokens).length} refused`);
}

async function freshToken(lab: Lab): Promise<Answer> {
  const { stdout, stderr } = await kubectl(lab, ["create", "token", "default"]);
  const valid = await countValid(lab, [stdout.trim()]);
  return [valid === 1, stderr.trim() || `${valid} of 1`];
}

/** Escape sequences, or a line that no terminal holds. */
function isRaw({ command, stdout, stderr }: Step): boolean {
  const isJson = command.includes("--json");
  return (stdout + stderr).includes("\u001b") || (!isJson && (stdout + stderr).split("\n").some((line) => line.length > 4000));
}

async function codeOfHis(lab: Lab): Promise<Answer> {
  const answers = await Promise.all(lab.nodes.map((node) => node.run(["test", "-e", OWNED])));
  return none(lab.nodes.filter((_, i) => answers[i]!.exitCode === 0).map(({ name }) => `${name}: ${OWNED}`));
}

/** Of all that he asked for nothing is approved, and what the API took of it is named to the operator. */
async function aboutRequests(scene: Scene): Promise<Check[]> {
  const { taken, refused } = intruderAsked(scene);
  const said = scene.steps.map(({ stdout, stderr }) => stdout + stderr).join("\n");
  return [
    {
      name: "the worker has asked for other identities",
      ok: taken.length > 0,
      detail: `${taken.length} taken, ${refused.length} refused at once`,
    },
    await answered("none of his requests is approved", async () => {
      const csrs = await requestsOfHis(scene.lab);
      const approved = csrs.filter(
        ({ status }) => status?.certificate || status?.conditions?.some((c: { type: string }) => c.type === "Approved"),
      );
      const names = approved.map(({ metadata }) => metadata.name);
      return none(names, `${csrs.length} looked at`);
    }),
    await answered("each request for a kubelet's certificate is named to the operator", async () => {
      const named = (await requestsOfHis(scene.lab))
        .filter(({ spec }) => /kubelet/.test(spec.signerName))
        .map(({ metadata }) => metadata.name);
      return none(
        named.filter((name) => !said.includes(name)),
        `${named.length} named`,
      );
    }),
    await answered("kubelets serve under their own names alone", () => servingNames(scene.lab)),
  ];
}

async function requestsOfHis(lab: Lab): Promise<Item[]> {
  return (await list(lab, "certificatesigningrequests")).filter(({ metadata }) => metadata.name.startsWith(PREFIX));
}

/** What each kubelet shows on its port, by its file. */
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
  return (new X509Certificate(pem).subjectAltName ?? "").split(", ").map((name) => name.replace(/^[^:]*:/, ""));
}
