/**
 * What is done about files that a static pod needs and that are lost: what brings them back, a stand-in for
 * an audit policy, a refusal for all others, and the operator's choice where one is lost for good: the API
 * server starts without the flag that names it. Nothing chooses so by itself: each flag that is given up
 * loosens something, or hides it.
 */

import { again, command, inLines, type Todo } from "../again.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { choiceOf, isAuditPolicy, type LostFile, stopsAll, thereWhen } from "../facts/lost-files.ts";
import { Fail, type Refused } from "../fail.ts";
import { exists, writeFile } from "../files/files.ts";
import { commandOf, flags, type HostFile, hostFiles } from "../manifests/command.ts";
import { isKubeadms } from "../manifests/on-disk.ts";
import { STAND_IN_MARK } from "../manifests/repair-changes.ts";
import type { Manifest } from "../objects/objects.ts";
import { say } from "../run.ts";
import { told } from "../run-events.ts";
import { onOther, shell } from "../shell-line.ts";

/** Errors: Fail where the API server cannot do without one of these flags, by their names without dashes. Paths pass. */
export function refuseNoChoice(names: readonly string[]) {
  const never = names.filter((name) => !name.startsWith("/") && choiceOf(`--${name}`) === undefined);
  if (never.length > 0)
    throw new Fail(`The API server cannot start without "${never.join('", "')}"`, {
      hint: `${again({}, { less: never })} names the flags that it can start without`,
    });
}

interface Choice {
  name: string;
  means: string;
}

export function choicesInWords(choices: readonly Choice[]): string {
  return choices.map(({ name, means }) => `--${name}: ${means}`).join("; ");
}

/** Flags of the API server that can be given up with these files, by their names without dashes, and what that means. */
export function choices(lost: readonly Pick<LostFile, "program" | "namedBy">[]): Choice[] {
  const own = lost.filter(({ program }) => program === "kube-apiserver").map(({ namedBy }) => namedBy);
  return [...new Set(own)].flatMap((flag) => {
    const means = choiceOf(flag);
    return means === undefined ? [] : { name: flag.slice(2), means };
  });
}

/**
 * For the hint of a refusal of part 1 or 2, which runs now: the line that gives up what can be given up, and what that
 * means; "" where nothing can.
 */
export function wayWithoutFiles(lost: readonly LostFile[]): string {
  const known = choices(lost);
  if (known.length === 0) return "";
  const line = again({ "start-without": known.map(({ name }) => name) });
  return `. If nobody has them: ${line} starts the API server without the flags that name them (${choicesInWords(known)})`;
}

/** By its flag, as this run's line says, or by its path, as it was said before. */
export function isGivenUp(
  { program, namedBy, path }: Pick<LostFile, "program" | "namedBy" | "path">,
  dropped: readonly string[],
): boolean {
  return program === "kube-apiserver" && [namedBy.slice(2), path].some((one) => dropped.includes(one));
}

/** Without its files the control plane does not start. Parts 1 and 2 go on without other static pods. */
export function isNeeded({ program }: Pick<LostFile, "program">): boolean {
  return isKubeadms(program) || program === "kubelet";
}

/** Those that are not given up. */
export function stillNeeded(
  lost: readonly LostFile[],
  { flagsToDrop = [] }: Pick<ControlPlaneNode, "flagsToDrop">,
): LostFile[] {
  return lost.filter((file) => stopsAll(file) && isNeeded(file) && !isGivenUp(file, flagsToDrop));
}

/**
 * The API server without these flags, and without the volumes of files that only they name. Flags whose files
 * are here stay.
 */
export function startWithout(
  manifest: Manifest,
  { flagsToDrop = [] }: Pick<ControlPlaneNode, "flagsToDrop">,
): Manifest {
  const lost = hostFiles(manifest).filter(
    (file) => isGivenUp({ ...file, program: "kube-apiserver" }, flagsToDrop) && !exists(file.path),
  );
  for (const { namedBy, path } of lost) sayOnce(namedBy, path);
  return lost.length === 0 ? manifest : withoutFlags(manifest, lost);
}

/** The same without the flags, given several times or once, that name these files. */
export function withoutFlags(manifest: Manifest, files: readonly HostFile[]): Manifest {
  const copy = structuredClone(manifest);
  const command = flags(commandOf(copy));
  for (const { namedBy, inside } of files) {
    const name = namedBy.slice(2);
    command.remove(name, command.all(name).includes(inside) ? inside : undefined);
    if (namedBy === "--authorization-config") command.set("authorization-mode", "Node,RBAC");
  }
  dropVolumes(copy, files);
  return copy;
}

/** The manifest is looked at in several steps of a run. */
const said = new Set<string>();

function sayOnce(flag: string, path: string) {
  if (said.has(path)) return;
  said.add(path);
  say(`kube-apiserver starts WITHOUT "${path}" (${flag}), as you say: ${choiceOf(flag)}`);
  told({ what: "flag", did: "given up", flag, path });
}

/**
 * A volume of a lost file, or of a lost folder that has it, would stop the pod, or be mounted as an empty
 * folder.
 */
function dropVolumes({ spec }: Manifest, lost: readonly { path: string }[]) {
  const isGone = (path: string) =>
    !exists(path) && lost.some((file) => file.path === path || file.path.startsWith(`${path}/`));
  const needed = hostFiles({ spec }).flatMap(({ path, namedBy }) => (namedBy.startsWith("--") ? [path] : []));
  const gone = (spec.volumes ?? []).filter(
    ({ hostPath }) =>
      hostPath &&
      isGone(hostPath.path) &&
      !needed.some((path) => path === hostPath.path || path.startsWith(`${hostPath.path}/`)),
  );
  const names = gone.map(({ name }) => name);
  const isKept = ({ name }: { name: string }) => !names.includes(name);
  if (spec.volumes) spec.volumes = spec.volumes.filter(isKept);
  for (const container of spec.containers)
    if (container.volumeMounts) container.volumeMounts = container.volumeMounts.filter(isKept);
}

/** Takes the place of a lost audit policy, so that the API server starts and records something. */
const STAND_IN_AUDIT_POLICY = `${STAND_IN_MARK}: the policy that was here is lost, and the API server does not start without one.
# It records who did what, without bodies. Put your own policy back, then restart the API server (RUNBOOK 2.3).
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
`;

/**
 * A lost audit policy gets a stand-in, and what etcd's data has is written as it was. Errors: Fail where another file
 * is lost.
 */
export function provideFiles(lost: readonly LostFile[], cp: ControlPlaneNode) {
  for (const { path, stored } of refuseLost(lost, cp)) {
    if (stored) writeFile(path, stored.text, { mode: 0o644, note: `from ${stored.from}` });
    else
      writeFile(path, STAND_IN_AUDIT_POLICY, {
        mode: 0o600,
        note: "a REPLACEMENT for the lost audit policy: it records metadata only",
      });
  }
}

/** Returns those that can be provided. Errors: `Kind`, which names all other lost files. */
export function refuseLost(
  all: readonly LostFile[],
  cp: ControlPlaneNode,
  Kind: typeof Fail | typeof Refused = Fail,
): LostFile[] {
  const lost = all.filter(stopsAll);
  for (const file of all.filter(({ kind }) => kind === "socket"))
    say(`${file.path}: ${thereWhen(file)}; without it ${file.without}`);
  if (lost.length === 0) return all.filter((file) => isAuditPolicy(file) || file.stored);
  const pods = [...new Set(lost.map((file) => file.program))].join(", ");
  const others = believedPeers(cp.cluster, cp).map(({ name }) => name);
  throw new Kind(
    `Cannot start ${pods}: ${lost.map((file) => `"${file.path}" (${file.namedBy})`).join(", ")} missing`,
    {
      hint: `bring these files, which kubeadm did not make, then run the same line again: ${inLines(restoreCommands(lost, { mounted: [], others, pki: cp.facts.certificatesDir })).join(". Or ")}${wayWithoutFiles(lost)}`,
    },
  );
}

const KUBELET_CA = "--kubelet-certificate-authority";
const SAME_CA =
  "after part 1, if the cluster's CA signs the kubelets' serving certificates (serverTLSBootstrap)";

/**
 * What brings these back, the surest way first. `mounted`: paths that a process still has; `others`: other
 * control plane nodes.
 */
export function restoreCommands(
  lost: readonly LostFile[],
  { mounted, others, pki }: { mounted: readonly string[]; others: readonly string[]; pki: string },
): Todo[] {
  const files = lost.filter(({ kind }) => kind !== "socket");
  const sockets = lost.filter(({ kind, servedBy }) => kind === "socket" && servedBy === undefined);
  const paths = files.map(({ path }) => path.slice(1));
  const fromOthers = others.slice(0, 1).map((name) => ({
    // only these are unpacked, whatever comes
    command: `${onOther(name, shell`tar -C / -cf - ${paths}`)} | ${shell`tar -C / -xpkf - ${paths}`}`,
    note: `${others.join(", ")}: mostly the same there`,
  }));
  return [
    ...(mounted.length > 0
      ? [{ command: command("00-salvage files"), note: `still mounted: ${mounted.join(", ")}` }]
      : []),
    ...(files.length > 0
      ? [
          ...fromOthers,
          { command: command("00-salvage files --backup DIR"), note: "DIR: your own copies of them" },
        ]
      : []),
    ...(files.some(({ namedBy }) => namedBy === "--encryption-provider-config")
      ? [{ command: command("00-salvage disk"), note: "where nobody has a copy" }]
      : []),
    ...files.flatMap(({ path, namedBy }) =>
      namedBy === KUBELET_CA
        ? [{ command: shell`install -D -m 644 ${pki}/ca.crt ${path}`, note: SAME_CA }]
        : [],
    ),
    ...(sockets.length > 0
      ? [{ command: `start what serves ${sockets.map(({ path }) => path).join(", ")}` }]
      : []),
  ];
}
