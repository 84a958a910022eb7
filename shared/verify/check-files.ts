/** Files of a control plane node. Nothing here writes, as in all checks. */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { exists } from "../files/files.ts";
import { backupAnswer } from "../hand-over/backup-mark.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { CERTS } from "../pki/certs.ts";
import { examine, examineKubeconfig, examineServiceAccountKey } from "../pki/examine.ts";
import { kubeconfigRows } from "../pki/kubeconfigs.ts";
import { oldSaPub } from "../pki/sa-keys.ts";
import { mountsSuperAdmin, otherStaticPods } from "../static-pods/wanted-manifests.ts";
import { standIns } from "../workloads/left-for-people.ts";
import { type Answer, type Checks, failed, ok } from "./checks.ts";

/** Files of a control plane node: certificates, kubeconfigs, manifests and what they need. */
export async function checkFiles(checks: Checks, cp: ControlPlaneNode) {
  const { facts } = cp;
  for (const row of CERTS) await checks.check("files", `${row.file}.crt and .key`, () => ok(examine(row, facts)));
  await checks.check("files", "sa.key and sa.pub", () => ok(examineServiceAccountKey(facts.certificatesDir)));
  for (const row of kubeconfigRows(facts, { superAdmin: mountsSuperAdmin(cp) })) {
    await checks.check("files", row.path, () => (row.name === "kubelet" ? "see the kubelet's checks" : ok(examineKubeconfig(row, facts))));
  }
  for (const { name, namespace } of [...CONTROL_PLANE.map((name) => ({ name, namespace: undefined })), ...otherStaticPods(cp)]) {
    await checks.check("files", `manifest of ${name}`, () => manifestAnswer(manifestPath(cp, name, namespace)));
  }
  for (const path of standIns(cp)) await checks.check("files", path, () => ({ warning: "a stand-in for the lost audit policy" }));
  const oldKey = oldSaPub(facts.certificatesDir);
  if (exists(oldKey))
    await checks.check("files", oldKey, () => ({ warning: "old tokens are still accepted: ./bunw scripts/04-sa-tokens.ts retire" }));
  for (const { dir } of rescueFolders()) {
    const goneBy = dir === cp.rescue.dir ? ", and what the scripts go by" : "";
    await checks.check("files", dir, () => ({ warning: `old keys and all Secrets${goneBy}: remove it when nothing is missing any more` }));
  }
  if (!facts.externalCa) await checks.check("files", "backup", () => backupAnswer(facts.certificatesDir));
}

function manifestAnswer(path: string): Answer {
  const manifest = readManifest(path);
  if (!manifest) return failed("missing");
  // A volume that does not say what it is may be missing: it is mounted empty then.
  const missing = hostFiles(manifest).filter(({ type, path }) => type !== "" && !type.endsWith("OrCreate") && !exists(path));
  return missing.length === 0
    ? "there, with all files it names"
    : failed(`needs ${missing.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")}`);
}
