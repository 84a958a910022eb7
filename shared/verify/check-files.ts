/** Checks of this control plane node's files: certificates, kubeconfigs, manifests and what they need. */

import { ADMIN_CONF } from "../api/admin-api.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import { type CheckId, checkIdOf } from "../checks/kinds.ts";
import { openFiles } from "../checks/open.ts";
import { clockTrouble } from "../facts/clock.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/next.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { heldIn, rescuedEtcd, rescuedFiles } from "../node/rescue-folder.ts";
import { infoOf, isValidNow, signedBy } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { clusterCa, type Finding, pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { kubeconfigRows, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mountsSuperAdmin, otherStaticPods } from "../static-pods/wanted-manifests.ts";

/** Of it hangs what all others say of dates. */
export function clockCheck(cp: ControlPlaneNode): CheckRow {
  const look = async (): Promise<Answer> => {
    const found = await clockTrouble(cp);
    if (found instanceof Fail) return { failed: `${found.message}; ${found.hint}` };
    return found.length > 0 ? { warning: found.join("; ") } : "nothing says that it is wrong";
  };
  return { id: "clock", look };
}

export function* fileChecks(cp: ControlPlaneNode): Generator<CheckRow> {
  const { facts } = cp;
  const row = (id: CheckId, look: () => Answer, of?: string) => ({ id, look, ...(of && { of }) });
  const kubeconfigs = kubeconfigRows(facts, { superAdmin: mountsSuperAdmin(cp) });
  const findings = pkiFindings({ ...wholePki(facts), kubeconfigs }, facts);
  for (const finding of withAdminElsewhere(findings, facts)) {
    const id = checkIdOf(finding.name);
    yield row(id, () => (finding.name === "kubelet" ? "see the kubelet's checks" : findingAnswer(finding)));
  }
  for (const { name, namespace } of [
    ...CONTROL_PLANE.map((name) => ({ name, namespace: undefined })),
    ...otherStaticPods(cp),
  ])
    yield row("manifest", () => manifestAnswer(manifestPath(cp, name, namespace)), name);
  yield* openFiles(cp);
  for (const rescue of rescuedFiles()) {
    const inUse = cp.dataFrom === rescuedEtcd(rescue) ? "; the scripts still use this folder" : "";
    const warning = `holds ${heldIn(rescue)}${inUse}: remove it when nothing is missing any more`;
    yield row("rescue-folder", () => ({ warning }), rescue.dir);
  }
  yield* rootsKubeconfig(facts);
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  if (!facts.externalCa) yield row("backup", () => backupAnswer(facts.certificatesDir, others));
}

const ROOTS = "/root/.kube/config";

/** kubeadm says to copy admin.conf there after `init`. One that leads elsewhere is another cluster's. */
function* rootsKubeconfig({ certificatesDir }: ClusterFacts): Generator<CheckRow> {
  const [own, admin] = [ROOTS, ADMIN_CONF].map((path) => attempt(() => readKubeconfig(path), undefined));
  const info = infoOf(own?.clientCertPem);
  if (!own?.clientCertPem || !info || own.server !== admin?.server) return;
  const look = (): Answer => {
    if (!isValidNow(info)) return { warning: `its certificate has expired (${day(info.notAfter)})` };
    const isOurs = signedBy(own.clientCertPem!, clusterCa(certificatesDir));
    return isOurs ? "as admin.conf" : { warning: "its certificate is signed by another CA" };
  };
  yield { id: "roots-kubeconfig", of: ROOTS, look };
}

function findingAnswer({ state, detail, differs }: Finding): Answer {
  return state === "ok" ? (differs ?? detail) : { state, failed: detail };
}

function manifestAnswer(path: string): Answer {
  const manifest = readManifest(path);
  if (!manifest) return { state: "missing", failed: "" };
  // a volume without a type may be missing: it is mounted empty then
  const missing = hostFiles(manifest).filter(
    ({ type, path }) => type !== "" && !type.endsWith("OrCreate") && !exists(path),
  );
  return missing.length === 0
    ? "there, with all files it names"
    : { failed: `needs ${missing.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")}` };
}
