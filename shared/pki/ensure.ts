/**
 * Carries out the actions: valid files stay, missing ones are issued, wrong ones are first moved aside. Keys are
 * written before certificates, as kubeadm does, so the same call completes a run that was cut off.
 */
import { join } from "node:path";
import { Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { exists, readText, writeFile } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { say } from "../run.ts";
import {
  type ActionOptions,
  actionForSigned,
  actionsFor,
  countOfKeys,
  type PkiAction,
  refuseLostKeys,
  signedWith,
} from "./actions.ts";
import { certInfo, certificatesIn, day, endOf, publicPem, signingFirst } from "./certificate.ts";
import { type Cert, type ClusterFacts, certRow, subjectOf } from "./certs.ts";
import { caText, examine, type Finding, kubeconfigTrouble, type WantedPki } from "./examine.ts";
import { issueCa, issueClient, issueLeaf, type Pair } from "./issue.ts";
import { serverVerdict } from "./judge.ts";
import { type KeyPair, keyStock } from "./keys.ts";
import { type KubeconfigRow, kubeconfigText, serverIn, withCa, withUser } from "./kubeconfigs.ts";
import { renewCa } from "./renew.ts";

interface ApplyOptions {
  /** The folder for wrong files, under their whole old path. */
  asideDir: string;
  /** Gets the public half of a new service-account key, in PEM, before the key is written. */
  onNewSaKey?: ((publicPem: string) => void) | undefined;
  now?: Date | undefined;
  /** More names for a row's certificate: those that its predecessor had by hand. */
  alsoFor?: ((row: Cert) => readonly string[]) | undefined;
}

/** One run of `apply`: the keys being made, and the CAs read or made so far. */
interface Job {
  actions: readonly PkiAction[];
  facts: ClusterFacts;
  options: ApplyOptions;
  takeKey: () => Promise<KeyPair>;
  cas: Map<string, Pair>;
}

export function ensureMany(wanted: WantedPki, facts: ClusterFacts, options: ApplyOptions & ActionOptions) {
  return apply(actionsFor(wanted, facts, options), facts, options);
}

/**
 * Makes keys on all cores while the first certificates are signed and written. Returns the names of rows by their
 * outcome. Errors: Fail, before anything is written, if a CA or sa.key is lost and no new one is asked for.
 */
export async function apply(actions: readonly PkiAction[], facts: ClusterFacts, options: ApplyOptions) {
  refuseLostKeys(actions);
  const takeKey = keyStock(facts.keyAlgorithm, countOfKeys(actions));
  const job: Job = { actions, facts, options, takeKey, cas: new Map() };
  const ensured = { kept: [] as string[], written: [] as string[] };
  for (const one of actions) {
    const wrote = await applyRow(one.todo === "check" ? actionForSigned(examine(one.row!, facts)) : one, job);
    (wrote ? ensured.written : ensured.kept).push(one.finding.name);
  }
  sayShorter(actions, ensured.written, facts);
  return ensured;
}

/**
 * Asks what `apply` would come to in its middle, before anything is written or stopped. Errors: Fail if a CA or sa.key
 * is lost and no new one is asked for, or if the key of a CA that is to sign is not on this node.
 */
export function refuseUnmakeable(actions: readonly PkiAction[], facts: ClusterFacts) {
  refuseLostKeys(actions);
  for (const { row, todo, finding } of actions) {
    const name = row && ("path" in row ? "ca" : row.ca);
    if (todo !== "renew" || name === undefined) continue;
    const ca = actions.find((one) => one.row?.name === name);
    if (!ca || ca.todo === "keep") readSigner(name, finding.name, { actions, facts });
  }
}

/**
 * sealos, KubeKey and modified kubeadms make certificates for 10 or 100 years: their users do not expect that
 * these last one year. A certificate's lifetime cannot be computed: kubeadm lets it begin when its CA does
 * (NewSignedCert in app/util/pkiutil).
 */
function sayShorter(
  actions: readonly PkiAction[],
  written: readonly string[],
  { certificateValidityHours }: ClusterFacts,
) {
  const ends = actions.flatMap(({ row, finding }) =>
    row && written.includes(finding.name) && finding.cert ? [finding.cert.notAfter] : [],
  );
  const last = new Date(Math.max(0, ...ends.map(Number)));
  const end = new Date(Date.now() + certificateValidityHours * 3_600_000);
  if (last.getTime() < end.getTime() + MONTH_MS) return;
  say(
    `warning: the old certificates were valid until ${day(last)}, the new ones expire on ${day(end)}, all on one day. Renew them before that: kubeadm certs renew all`,
  );
}

const MONTH_MS = 30 * 86_400_000;

async function applyRow(one: PkiAction, job: Job): Promise<boolean> {
  const { row, todo, finding } = one;
  if (todo === "keep") {
    say(`unchanged ${finding.paths[0]} (${finding.detail})`);
    return false;
  }
  if (!row) return writeSa(one, job);
  if ("path" in row) return writeConfig(row, finding, job);
  return row.ca ? writeLeaf(row, row.ca, finding, job) : writeCa(row, one, job);
}

async function writeCa(
  row: Cert,
  action: PkiAction,
  { facts, options, takeKey, cas }: Job,
): Promise<boolean> {
  const { todo, finding } = action;
  const write = (pair: Pair, note: string) => {
    cas.set(row.name, pair);
    return writePair(finding, pair, note);
  };
  if (todo === "make") {
    setAside(finding, options);
    return write(await issueCa(row, facts, { key: await takeKey(), now: options.now }), "a new CA");
  }
  const [certFile, keyFile] = finding.paths as [string, string];
  const key = readText(keyFile)!;
  const { cert, note } = await restoredCa(row, action, { key, text: readable(certFile) ?? "" }, facts);
  if (exists(certFile)) moveToRescue(certFile, options.asideDir, faultOf(finding));
  return write({ cert, key }, note);
}

/** The known one of this key, else renewed, else new. `text`: that of its file, which may hold several. */
async function restoredCa(
  row: Cert,
  { finding, remedy }: PkiAction,
  { key, text }: { key: string; text: string },
  facts: ClusterFacts,
) {
  if (remedy?.do === "certificate") return { cert: remedy.pem, note: `that of its key, by ${remedy.from}` };
  const signed = signedWith(row, finding, key);
  if (remedy?.do !== "renew") {
    const { cert } = await issueCa(row, facts, { key: { key, pub: publicPem(key) }, signed: signed[0] });
    return { cert, note: "made again from its key" };
  }
  const { pem, notAfter } = finding.cert!;
  const renewed = renewCa(pem, key, { hours: facts.caValidityHours, signed });
  const all = certificatesIn(text).map((one) => (one === pem ? renewed : one));
  return { cert: all.join(""), note: `expired on ${day(notAfter)}, renewed with its own key` };
}

async function writeLeaf(row: Cert, caName: string, finding: Finding, job: Job): Promise<boolean> {
  const { facts, options, takeKey } = job;
  const ca = signer(caName, row.name, job);
  const more = options.alsoFor?.(row) ?? [];
  const pair = await issueLeaf(row, ca, facts, { key: await takeKey(), now: options.now, more });
  setAside(finding, options);
  const byHand =
    more.length > 0 ? `; for ${more.join(", ")}, too, as before: kubeadm-config does not have them` : "";
  return writePair(finding, pair, `signed by ${certInfo(ca.cert).cn}${byHand}`);
}

async function writeConfig(row: KubeconfigRow, finding: Finding, job: Job): Promise<boolean> {
  const { facts, options, takeKey } = job;
  const ca = signer("ca", row.name, job);
  const mended = finding.state === "wrong CA" ? withCa(readable(row.path) ?? "", ca.cert) : undefined;
  if (mended && !kubeconfigTrouble(row, mended, facts)) {
    setAside(finding, options);
    return writeFile(row.path, mended, { mode: 0o600, note: "current CA in it; its user is unchanged" });
  }
  const subject = subjectOf(row, facts);
  const old = textBefore(row, job);
  const before = row.firstControlPlaneOnly ? undefined : facts.serverBefore;
  const server = serverIn(old) ?? before ?? row.server(facts);
  const user = await issueClient(subject, ca, facts, { key: await takeKey(), now: options.now });
  setAside(finding, options);
  const note = `${subject.cn}, until ${day(endOf(user.cert))}, to ${server}`;
  const renewed = finding.state === "expired" ? withUser(old, { ca: ca.cert, user }) : undefined;
  const isKept = renewed !== undefined && !kubeconfigTrouble(row, renewed, facts);
  return writeFile(row.path, isKept ? renewed : kubeconfigText(row, facts, { ca: ca.cert, user, server }), {
    mode: 0o600,
    note,
  });
}

/**
 * The server that the old kubeconfig had, if it is one of the cluster's; else "". Also reads a kubeconfig
 * that an interrupted run has moved aside.
 */
function textBefore({ path }: KubeconfigRow, { facts, options }: Job): string {
  const text = readable(path) ?? readable(join(options.asideDir, path)) ?? "";
  const server = serverIn(text);
  return server !== undefined && !serverVerdict(server, facts) ? text : "";
}

async function writeSa({ todo, finding }: PkiAction, { options, takeKey }: Job): Promise<boolean> {
  const [keyFile, pubFile] = finding.paths as [string, string];
  if (todo === "make") {
    setAside(finding, options);
    const { key, pub } = await takeKey();
    options.onNewSaKey?.(pub);
    writeFile(keyFile, key, { mode: 0o600, note: "a new key for service-account tokens" });
  }
  if (exists(pubFile)) moveToRescue(pubFile, options.asideDir);
  return writeFile(pubFile, publicPem(readText(keyFile)!), {
    mode: 0o600,
    note: "the public half of sa.key",
  });
}

/** The CA that signs `forName`, read or made once for the run. */
function signer(name: string, forName: string, { actions, facts, cas }: Job): Pair {
  const cached = cas.get(name);
  if (cached) return cached;
  const pair = readSigner(name, forName, { actions, facts });
  cas.set(name, pair);
  return pair;
}

/** A CA that stays as it is. Errors: Fail if it cannot sign. */
function readSigner(name: string, forName: string, { actions, facts }: Pick<Job, "actions" | "facts">): Pair {
  const row = certRow(name);
  const finding = actions.find((one) => one.row?.name === name)?.finding ?? examine(row, facts);
  if (finding.state !== "ok") {
    throw new Fail(
      `Cannot sign ${forName}: ${finding.paths[0]} is not usable: ${finding.state} (${finding.detail})`,
      {
        hint: "bring the CAs to this node first: ./bunw scripts/00-salvage.ts, ./bunw scripts/hand-over.ts unpack FILE, or from a backup",
      },
    );
  }
  const [cert, key] = [caText(row.name, facts.certificatesDir), readText(finding.paths[1]!)];
  if (!key)
    throw new Fail(`Cannot sign ${forName}: ${finding.paths[1]} is not there (${finding.detail})`, {
      hint: "put the key there for the time of the repair",
    });
  return { cert: cert!, key };
}

function writePair({ paths }: Finding, { cert, key }: Pair, note: string): boolean {
  writeFile(paths[1]!, key, { mode: 0o600 });
  return writeFile(paths[0]!, cert, {
    mode: 0o644,
    note: `until ${day(endOf(signingFirst(cert, key)))}, ${note}`,
  });
}

function faultOf({ state, detail }: Finding): string {
  return [state, detail].filter(Boolean).join(": ");
}

function setAside(finding: Finding, options: ApplyOptions) {
  for (const path of finding.paths) moveToRescue(path, options.asideDir, faultOf(finding));
}
