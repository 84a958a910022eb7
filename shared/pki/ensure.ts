/**
 * Look, then do what is missing: what is sound is kept, what is missing is issued, what is wrong is moved aside first (never deleted, never
 * overwritten). Keys are written before certificates, as kubeadm does, so a run that was cut off is mended by the same call.
 *
 * Authorities and sa.key are different: they are the same on every control plane node and everything hangs on them, so new ones are made only with
 * `newCas`. Without it a lost one stops the run.
 */
import { Fail } from "../fail.ts";
import { moveAside } from "../files/file-tree.ts";
import { exists, readText, writeFile } from "../files/files.ts";
import { say } from "../run.ts";
import { certInfo, endOf, publicPem } from "./certificate.ts";
import { CERTS, type Cert, type ClusterFacts, certPath, certRow, keyPath, SERVICE_ACCOUNT_KEYS, subjectOf } from "./certs.ts";
import { examine, examineKubeconfig, examineServiceAccountKey, type Finding } from "./examine.ts";
import { issueCa, issueClient, issueLeaf, type Pair } from "./issue.ts";
import { day } from "./judge.ts";
import { type KeyPair, keyStock } from "./keys.ts";
import { type KubeconfigRow, writeKubeconfig } from "./kubeconfigs.ts";
import { type NewKeyOptions, needsNewKey, remedyFor } from "./lost-keys.ts";

export interface EnsureOptions extends NewKeyOptions {
  /** Where wrong files go, under their whole old path. */
  asideDir: string;
  /** Told of a new service-account key, in PEM its public half, before it is written. */
  onNewSaKey?: ((publicPem: string) => void) | undefined;
  /** When certificates are made. Default: now. */
  now?: Date | undefined;
}

export interface WantedPki {
  certs?: readonly Cert[];
  kubeconfigs?: readonly KubeconfigRow[];
  serviceAccountKey?: boolean;
}

/** Names of rows, by what happened to them. A run that finds all well has none in `written`. */
export interface Ensured {
  kept: string[];
  written: string[];
}

/** One run of ensureMany: what it was asked, the keys being made, and the authorities read or made so far. */
interface Job {
  facts: ClusterFacts;
  options: EnsureOptions;
  takeKey: () => Promise<KeyPair>;
  authorities: Map<string, Pair>;
}

/** One certificate of the table and its key. */
export function ensureCert(row: Cert, facts: ClusterFacts, options: EnsureOptions): Promise<Ensured> {
  return ensureMany({ certs: [row] }, facts, options);
}

/** One kubeconfig of the table; needs ca.crt, and ca.key when it has to be written. */
export function ensureKubeconfig(row: KubeconfigRow, facts: ClusterFacts, options: EnsureOptions): Promise<Ensured> {
  return ensureMany({ kubeconfigs: [row] }, facts, options);
}

/** sa.key and sa.pub; sa.pub comes back from sa.key. */
export function ensureServiceAccountKey(facts: ClusterFacts, options: EnsureOptions): Promise<Ensured> {
  return ensureMany({ serviceAccountKey: true }, facts, options);
}

/**
 * All of it at once: every key that will be needed is being made (on all cores) while the first certificates are signed and written.
 * Fails before it has written anything where an authority is lost and no new ones are asked for.
 */
export async function ensureMany(wanted: WantedPki, facts: ClusterFacts, options: EnsureOptions): Promise<Ensured> {
  const { certs = [], kubeconfigs = [], serviceAccountKey = false } = wanted;
  const takeKey = keyStock(facts.keyAlgorithm, keysNeeded(wanted, facts, options));
  const job: Job = { facts, options, takeKey, authorities: new Map() };
  const ensured: Ensured = { kept: [], written: [] };
  const note = (name: string, wrote: boolean) => (wrote ? ensured.written : ensured.kept).push(name);

  for (const row of parentsFirst(certs)) note(row.name, await (row.ca ? ensureLeaf(row, row.ca, job) : ensureCa(row, job)));
  if (serviceAccountKey) note(SERVICE_ACCOUNT_KEYS.name, await ensureSa(job));
  for (const row of kubeconfigs) note(row.name, await ensureConfig(row, job));
  return ensured;
}

/** How many keys to begin with; also the look that stops the run before it changes anything. */
function keysNeeded({ certs = [], kubeconfigs = [], serviceAccountKey }: WantedPki, facts: ClusterFacts, options: EnsureOptions): number {
  const cas = certs.filter((row) => !row.ca && needsNewKey(examine(row, facts), options));
  const fresh = new Set<string | undefined>(cas.map((row) => row.name));
  const leaves = certs.filter((row) => row.ca && (fresh.has(row.ca) || examine(row, facts).state !== "ok"));
  const configs = kubeconfigs.filter((row) => fresh.has("ca") || examineKubeconfig(row, facts).state !== "ok");
  const sa = serviceAccountKey && needsNewKey(examineServiceAccountKey(facts.certificatesDir), options) ? 1 : 0;
  return cas.length + leaves.length + configs.length + sa;
}

async function ensureCa(row: Cert, job: Job): Promise<boolean> {
  const { facts, options } = job;
  const finding = examine(row, facts);
  if (finding.state === "ok") return keep(finding);
  const remedy = remedyFor(finding, options);
  if (remedy.do === "lost" && needsNewKey(finding, options)) {
    setAside(finding, options);
    const made = await issueCa(row, facts, { key: await job.takeKey(), now: options.now });
    job.authorities.set(row.name, made);
    return writePair(row, made, facts, "a new authority");
  }
  const key = readText(keyPath(row, facts.certificatesDir))!;
  const certFile = finding.paths[0]!;
  if (exists(certFile)) moveAside(certFile, options.asideDir);
  const pair = remedy.do === "certificate" ? { cert: remedy.pem, key } : await issueCa(row, facts, { key: { key, pub: publicPem(key) } });
  job.authorities.set(row.name, pair);
  return writePair(row, pair, facts, remedy.do === "certificate" ? `that of its key, by ${remedy.from}` : "made again from its key");
}

async function ensureLeaf(row: Cert, caName: string, job: Job): Promise<boolean> {
  const { facts, options } = job;
  const finding = examine(row, facts);
  if (finding.state === "ok") return keep(finding);
  const ca = authority(caName, row.name, job);
  const pair = await issueLeaf(row, ca, facts, { key: await job.takeKey(), now: options.now });
  setAside(finding, options);
  return writePair(row, pair, facts, `signed by ${certInfo(ca.cert).cn}`);
}

async function ensureConfig(row: KubeconfigRow, job: Job): Promise<boolean> {
  const { facts, options } = job;
  const finding = examineKubeconfig(row, facts);
  if (finding.state === "ok") return keep(finding);
  const ca = authority("ca", row.name, job);
  const user = await issueClient(subjectOf(row, facts), ca, facts, { key: await job.takeKey(), now: options.now });
  setAside(finding, options);
  return writeKubeconfig(
    row,
    facts,
    { ca: ca.cert, user },
    `${subjectOf(row, facts).cn}, until ${day(endOf(user.cert))}, to ${row.server(facts)}`,
  );
}

async function ensureSa({ facts, options, takeKey }: Job): Promise<boolean> {
  const finding = examineServiceAccountKey(facts.certificatesDir);
  if (finding.state === "ok") return keep(finding);
  const [keyFile, pubFile] = finding.paths as [string, string];
  if (needsNewKey(finding, options)) {
    setAside(finding, options);
    const { key, pub } = await takeKey();
    options.onNewSaKey?.(pub);
    writeFile(keyFile, key, { mode: 0o600, note: "a new key for service-account tokens" });
  }
  if (exists(pubFile)) moveAside(pubFile, options.asideDir);
  return writeFile(pubFile, publicPem(readText(keyFile)!), { mode: 0o600, note: "the public half of sa.key" });
}

/** The authority that is to sign `forName`, once read or made kept for the run. */
function authority(name: string, forName: string, { facts, authorities }: Job): Pair {
  const known = authorities.get(name);
  if (known) return known;
  const row = certRow(name);
  const finding = examine(row, facts);
  if (finding.state !== "ok") {
    throw new Fail(`Cannot sign ${forName}: ${certPath(row, facts.certificatesDir)} is not usable: ${finding.state} (${finding.detail})`, {
      hint: "bring the authorities to this node first: ./bunw scripts/00-salvage.ts, ./bunw scripts/hand-over.ts unpack FILE, or from a backup",
    });
  }
  const [cert, key] = finding.paths.map((path) => readText(path));
  if (!key)
    throw new Fail(`Cannot sign ${forName}: ${finding.paths[1]} is not there (${finding.detail})`, {
      hint: "put it there for the time of the repair",
    });
  const pair = { cert: cert!, key };
  authorities.set(name, pair);
  return pair;
}

function writePair(row: Cert, { cert, key }: Pair, facts: ClusterFacts, note: string): boolean {
  writeFile(keyPath(row, facts.certificatesDir), key, { mode: 0o600 });
  return writeFile(certPath(row, facts.certificatesDir), cert, { mode: 0o644, note: `until ${day(endOf(cert))}, ${note}` });
}

function keep({ paths, detail }: Finding): false {
  say(`${paths[0]}: kept (${detail})`);
  return false;
}

function setAside({ paths }: Finding, options: EnsureOptions) {
  for (const path of paths) moveAside(path, options.asideDir);
}

function parentsFirst(rows: readonly Cert[]): Cert[] {
  return [...rows].sort((a, b) => CERTS.findIndex(({ name }) => name === a.name) - CERTS.findIndex(({ name }) => name === b.name));
}
