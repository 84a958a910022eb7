/**
 * Part 1 on this node: what stops it, what is in place already, and how etcd gets its certificates and its
 * manifest back.
 */

import { command } from "../again.ts";
import { foldersOfPod, keyOf } from "../etcd-location/etcd-folders.ts";
import { caIsNew, strangeCa } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { ensureOptions } from "../facts/node-to-repair.ts";
import { attempt, Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { exists, readText } from "../files/files.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { ensureControlPlaneKubelet } from "../node/control-plane-kubelet.ts";
import { kubeletActive } from "../node/node.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import type { PkiAction } from "../pki/actions.ts";
import { madeAt } from "../pki/certificate.ts";
import { CERTS, certPath, certRow, isEtcds, keyPath } from "../pki/certs.ts";
import { ensureMany } from "../pki/ensure.ts";
import { pkiFindings } from "../pki/examine.ts";
import { newSaKeySince } from "../pki/sa-keys.ts";
import { say } from "../run.ts";
import { fitNamedCas, fitOwners } from "./fit-files.ts";
import { restartKubelet } from "./held-manager.ts";
import { manifestTrouble } from "./manifest-trouble.ts";
import { restoreManifests, restoreOthers } from "./restore.ts";
import { holdServers } from "./servers.ts";
import { wantedManifests } from "./wanted-manifests.ts";

/**
 * A sound CA that is not the cluster's would sign certificates that no node trusts. A younger one may be the
 * new one, made on another control plane node; it is named. Errors: Fail where it is older.
 */
export function refuseForeignCa(cp: ControlPlaneNode) {
  const { certificatesDir } = cp.facts;
  const strange = strangeCa({ ...cp, certificatesDir });
  if (!strange) return;
  const path = certPath(certRow("ca"), certificatesDir);
  if (!strange.older)
    return say(
      `${path} is newer than the CA that etcd's data names: ${strange.hash}. If neither part 1 nor hand-over.ts has made it, ` +
        `stop here: ${command("00-salvage --move-aside")} looks for the cluster's own`,
    );
  throw new Fail(`"${path}" is of another CA, ${strange.hash}, made before the one that etcd's data names`, {
    hint:
      `${command("00-salvage --move-aside")} looks for the cluster's own CA. ` +
      `If it is nowhere: mv ca.crt and ca.key away, then ${command("00-assess")}`,
  });
}

/** Whether this repair has made shared keys, in this run or before. */
export function hasNewKeys(cp: ControlPlaneNode): boolean {
  const { certificatesDir } = cp.facts;
  if (caIsNew(cp) || newSaKeySince(readText(`${certificatesDir}/sa.pub`) ?? "")) return true;
  const cas = CERTS.filter((row) => row.shared).flatMap(
    (row) => readText(certPath(row, certificatesDir)) ?? [],
  );
  return cas.some((pem) => madeAt(pem) >= cp.rescue.made);
}

/**
 * `actions`: of the shared keys. Whether they, the certificates that etcd itself serves with, and its
 * manifest are all in place and right.
 */
export function etcdIsInPlace(cp: ControlPlaneNode, actions: readonly PkiAction[]): boolean {
  const served = CERTS.filter((row) => isEtcds(row) && row.usages.includes("server"));
  const isSound = pkiFindings({ certs: served }, cp.facts).every(({ state }) => state === "ok");
  if (
    !isSound ||
    actions.some(({ row, todo }) => row && todo !== "keep") ||
    !exists(manifestPath(cp, "etcd"))
  )
    return false;
  return !wantedManifests(cp, ["etcd"]).some((one) => manifestTrouble(one, cp));
}

/**
 * Somebody has begun with a new CA already: only etcd's data still says what the cluster was, and not for
 * long.
 */
export function needsCopy(cp: ControlPlaneNode): boolean {
  return caIsNew(cp) && !exists(rescuedEtcd(cp.rescue));
}

/**
 * Errors: Fail where etcd's manifest has another folder than the one with the data: there it would begin as a
 * new, empty cluster.
 */
export function refuseOtherFolder(cp: ControlPlaneNode) {
  for (const { manifest, source } of wantedManifests(cp, ["etcd"])) {
    const wanted = foldersOfPod(manifest);
    if (!wanted || keyOf(wanted.dir) === keyOf(cp.etcd.dir)) continue;
    throw new Fail(
      `etcd's manifest (${source}) has its data in "${wanted.dir}", and the data was found in "${cp.etcd.dir}"`,
      {
        unchanged: true,
        hint: `put the data where the manifest has it (mount its disk there, or mv, if "${wanted.dir}" is empty or not there), as etcd would start there without it; then ${command("00-assess")}`,
      },
    );
  }
}

export async function issueEtcdCertificates(cp: ControlPlaneNode) {
  markRepair(cp);
  await ensureMany({ certs: CERTS.filter(isEtcds) }, cp.facts, ensureOptions(cp));
  fitNamedCas(cp, ["etcd"]);
  await fitOwners(wantedManifests(cp, ["etcd"]), cp);
}

/**
 * A repair is known by a certificate of etcd that is younger than its rescue folder: beside a new CA even a
 * sound one is issued again.
 */
function markRepair(cp: ControlPlaneNode) {
  const paths = [certPath, keyPath].map((path) => path(certRow("etcd-server"), cp.facts.certificatesDir));
  const made = attempt(() => madeAt(readText(paths[0]!) ?? ""));
  if (made instanceof Fail || !caIsNew(cp) || !exists(rescuedEtcd(cp.rescue)) || made >= cp.rescue.made)
    return;
  for (const path of paths) moveToRescue(path, cp.asideDir);
}

/**
 * The kubelet needs a CA and credentials to run at all; with them, and without an API, it runs static pods
 * (measured).
 */
export async function startEtcd(cp: ControlPlaneNode) {
  const { node, facts, asideDir } = cp;
  const credentials = await ensureControlPlaneKubelet(node, facts, asideDir);
  const manifest = restoreManifests(cp, ["etcd"]);
  restoreOthers(cp);
  if (!credentials && !manifest && (await kubeletActive())) return say("unchanged kubelet: it runs");
  await holdServers(cp);
  await restartKubelet(cp);
}
