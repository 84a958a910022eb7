/** The files that a static pod needs and that are lost: a stand-in for an audit policy, a refusal for all others. */
import { inLines } from "../again.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { restoreCommands } from "../facts/files-back.ts";
import { isAuditPolicy, type LostFile, stopsAll, thereWhen } from "../facts/lost-files.ts";
import { otherControlPlanes } from "../facts/next.ts";
import { Fail, type Refused } from "../fail.ts";
import { writeFile } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { say } from "../run.ts";
import { choices } from "./start-without.ts";

/** The first words of a stand-in: the operator's own policy does not have them. */
export const STAND_IN_MARK = "# A stand-in made by kube-pki-repair";

/** Takes the place of a lost audit policy, so that the API server starts and records something. */
const STAND_IN_AUDIT_POLICY = `${STAND_IN_MARK}: the policy that was here is lost, and the API server does not start without one.
# It records who did what, without bodies. Put your own policy back, then restart the API server (RUNBOOK 2.3).
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

/** A lost audit policy gets a stand-in. Errors: Fail where another file is lost. */
export function provideFiles(lost: readonly LostFile[], cp: ControlPlaneNode) {
  for (const { path } of refuseLost(lost, cp)) {
    writeFile(path, STAND_IN_AUDIT_POLICY, { mode: 0o600, note: "a STAND-IN for the lost audit policy: it records metadata only" });
  }
}

/** Returns the lost audit policies. Errors: `Kind`, which names all other lost files. */
export function refuseLost(all: readonly LostFile[], cp: ControlPlaneNode, Kind: typeof Fail | typeof Refused = Fail): LostFile[] {
  const lost = all.filter(stopsAll);
  for (const file of all.filter(({ kind }) => kind === "socket")) say(`${file.path}: ${thereWhen(file)}; without it ${file.without}`);
  if (lost.length === 0) return all.filter(isAuditPolicy);
  const pods = [...new Set(lost.map((file) => file.program))].join(", ");
  const others = otherControlPlanes(cp.cluster, cp).map(({ name }) => name);
  throw new Kind(`Cannot start ${pods}: ${lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")} missing`, {
    hint: `kubeadm did not make these files. Bring them, then run this script again: ${inLines(restoreCommands(lost, { mounted: [], others, pki: cp.facts.certificatesDir })).join("; or ")}${choices(lost)}`,
  });
}

/** Audit policies that this kit wrote in place of lost ones. */
export function standIns(cp: Pick<ControlPlaneNode, "node">): string[] {
  const manifest = readManifest(manifestPath(cp, "kube-apiserver"));
  const policies = manifest ? hostFiles(manifest).filter((file) => file.namedBy === "--audit-policy-file") : [];
  return policies.map((file) => file.path).filter((path) => smallText(path)?.startsWith(STAND_IN_MARK));
}
