/** The rows of the damage table. */

import { checkIdOf } from "../checks/kinds.ts";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { StrangeCa } from "../facts/ca-copies.ts";
import type { ControlPlaneNode, PartialFacts } from "../facts/control-plane-node.ts";
import { type LostFile, namerOf, thereWhen } from "../facts/lost-files.ts";
import { isNotKubeadms } from "../facts/no-etcd-data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText, stat } from "../files/files.ts";
import { findStaticPods, type MirrorPod } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest, secondManifests, whereIs } from "../manifests/on-disk.ts";
import { managerIsReduced } from "../manifests/reduced-controllers.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { publicPem } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import type { Evidence } from "../pki/lost-keys.ts";
import { serviceAccountKeyId } from "../pki/sa-keys.ts";
import { shell } from "../shell-line.ts";
import { manifestTrouble } from "../static-pods/manifest-trouble.ts";
import { standIns } from "../static-pods/provide-files.ts";
import { unprovedPods } from "../static-pods/unproved-pods.ts";
import { otherStaticPods, wantedManifests } from "../static-pods/wanted-manifests.ts";
import { differsRow, type Row, shown } from "./assessment.ts";

/** Says nothing where nothing is known against the clocks. */
export function clockRows(found: Fail | readonly string[]): Row[] {
  if (found instanceof Fail) return [{ id: "clock", what: "clock", state: "!WRONG!", detail: found.message }];
  return found.map((detail) => ({ id: "clock", what: "clock", state: "known", detail }));
}

/** A CA, or the service-account key. `strange`: of the cluster's CA, where a sound one that is not it is in its place. */
export function sharedRow(finding: Finding, strange?: StrangeCa): Row {
  if (strange) return { ...findingRow(finding), state: FOREIGN, detail: strange.older ? EARLIER : LATER };
  if (!finding.row) return findingRow(finding, "signs every service-account token");
  const signs = CERTS.filter((row) => row.ca === finding.name).map((row) => row.name);
  const more = finding.name === "ca" ? ", all kubeconfigs, every kubelet" : "";
  return findingRow(finding, `signs: ${signs.join(", ")}${more}`);
}

/** `lost`: what is said where it is missing. */
function findingRow(finding: Finding, lost = ""): Row {
  const what = finding.paths.map((path) => path.replace("/etc/kubernetes/", "")).join(", ");
  if (finding.differs) return differsRow(checkIdOf(finding.name), what, finding.differs);
  return { id: checkIdOf(finding.name), what, state: shown(finding.state), detail: finding.state === "missing" ? lost : finding.detail };
}

/** The state of a sound CA that is not the cluster's. */
const FOREIGN = "!FOREIGN!";

const EARLIER = "another CA, made before the one that etcd's data names";
const LATER = "another CA, made after the one that etcd's data names: by a half attempt, or by part 1 on another control plane node";

/** A sound service-account key that is not the one that the cluster uses. */
export function foreignSaRow(sa: Finding, { tokens }: Evidence): Row[] {
  const kids = new Set(tokens.map(({ kid }) => kid));
  const own = sa.state === "ok" && kids.size > 0 ? attempt(() => serviceAccountKeyId(publicPem(readText(sa.paths[0]!)!))) : undefined;
  if (!own || own instanceof Fail || kids.has(own)) return [];
  const detail = "it signed none of the tokens here. If nobody made a new key: 00-salvage --move-aside";
  return [{ id: "service-account-key", what: "pki/sa.key", state: "known", detail }];
}

/** One line where all are right or all are missing; else a line for each one that is wrong. And one for each that differs. */
export function summary(what: "certificates" | "kubeconfigs", findings: Finding[]): Row[] {
  if (findings.length === 0) return [];
  const [wrong, differing] = [findings.filter(({ state }) => state !== "ok"), findings.filter(({ differs }) => differs)];
  const differences = differing.map((finding) => findingRow(finding));
  if (wrong.length === 0) return [{ id: what, what: `${findings.length} ${what}`, state: "ok", detail: soonest(findings) }, ...differences];
  if (wrong.every((finding) => finding.state === "missing") && wrong.length === findings.length)
    return [{ id: what, what: `${findings.length} ${what}`, state: "!MISSING!", detail: "" }];
  return [...wrong.map((finding) => findingRow(finding)), ...differences];
}

function soonest(findings: Finding[]): string {
  const ends = findings.flatMap((finding) => finding.cert?.notAfter ?? []).sort((a, b) => a.getTime() - b.getTime());
  return ends[0] ? `the first expires on ${ends[0].toISOString().slice(0, 10)}` : "";
}

/** The control plane's static pods of a node with such an etcd. */
export function podsBeside({ runs }: EtcdHome): string[] {
  return CONTROL_PLANE.filter((name) => name !== "etcd" || !isNotKubeadms({ runs }));
}

/** The manifests. */
export function manifestRows(node: Node, { data, cp, home }: PartialFacts): Row[] {
  if (!data) return [];
  const pods = attempt(() => findStaticPods(data, node.name).proved);
  const before = cp && attempt(() => [...wantedManifests(cp, ["etcd"]), ...wantedManifests(cp)]);
  const trouble = new Map((before instanceof Fail ? [] : (before ?? [])).map((one) => [one.name, manifestTrouble(one, cp!)]));
  const others = pods instanceof Fail ? [] : otherStaticPods({ data, node });
  const all = [...podsBeside(home).map((name) => ({ name, namespace: undefined })), ...others];
  return [
    ...all.map(({ name, namespace }) => manifestRow(manifestPath({ node }, name, namespace), name, { pods, trouble: trouble.get(name) })),
    ...all.flatMap(({ name, namespace }) => secondManifests({ node }, name, namespace)).map(secondRow),
    ...(pods instanceof Fail ? [] : unprovedRows({ data, node })),
  ];
}

function manifestRow(
  path: string,
  name: string,
  { pods, trouble }: { pods: MirrorPod[] | Fail; trouble: string | string[] | undefined },
): Row {
  const [id, what] = ["manifest" as const, `manifests/${name}.yaml`];
  const manifest = attempt(() => readManifest(path));
  if (manifest instanceof Fail) return { id, what, state: "!UNREADABLE!", detail: manifest.message };
  if (manifest && Array.isArray(trouble))
    return { id, what, state: "!CHANGED!", detail: `differs from its mirror pod in etcd: ${trouble.join(" ")}` };
  if (manifest && !trouble) return { id, what, state: "ok", detail: "" };
  if (whereIs(path) !== path) return { id, what, state: "!WAITS!", detail: `as ${whereIs(path)}: part 2 brings it back` };
  const state = manifest ? "!CUT OFF!" : exists(path) ? "!EMPTY!" : "!MISSING!";
  if (pods instanceof Fail) return { id, what, state, detail: "its mirror pod in etcd cannot be read" };
  const pod = pods.find((mirror) => mirror.name === name);
  if (!pod) return { id, what, state, detail: "no mirror pod in etcd either" };
  return { id, what, state, detail: `can be rebuilt from its mirror pod in etcd${pod.from === "history" ? "'s history" : ""}` };
}

/** What `restoreManifests` will lay aside. No damage: anyone who may create a pod can make them. */
function unprovedRows(place: Pick<ControlPlaneNode, "data" | "node">): Row[] {
  const { pods, more } = unprovedPods(place, undefined);
  const etcds = unprovedPods(place, ["etcd"]);
  const id = "unproved-mirror-pod";
  const rows = [...etcds.pods, ...pods].map(
    ({ namespace, name, why }): Row => ({
      id,
      what: `mirror pod ${namespace}/${name}`,
      state: "known",
      detail: `not put to use: ${why}`,
    }),
  );
  const others = more + etcds.more;
  return others > 0 ? [...rows, { id, what: `${others} more mirror pods`, state: "known", detail: "not put to use either" }] : rows;
}

function secondRow(path: string): Row {
  return {
    id: "second-manifest",
    what: path,
    state: "!SECOND!",
    detail: "a second manifest of the same pod: the kubelet runs one of the two. Part 2 moves this one to the rescue folder",
  };
}

/** Files that no step makes. */
export function lostFileRows(lost: readonly LostFile[]): Row[] {
  return lost.map((file) => ({
    id: "lost-file",
    what: file.path,
    state: "!MISSING!",
    detail: `named by ${namerOf(file)}; ${thereWhen(file) ?? "cannot be rebuilt"}; without it ${file.without}`,
  }));
}

/** Private files that others can read: this damage stops nothing. */
export function modeRows(paths: readonly string[]): Row[] {
  return [...new Set(paths)].flatMap((path) => {
    const mode = stat(path)?.mode ?? 0;
    const octal = mode.toString(8).padStart(4, "0");
    if ((mode & 0o077) === 0 || isShared(path, mode)) return [];
    const detail = `others can read it (${octal}): ${shell`chmod 600 ${path}`}`;
    return [{ id: "file-mode", what: path.replace("/etc/kubernetes/", ""), state: "known", detail }];
  });
}

/** kubeadm lets static pods that do not run as root share a file by a group of their own. */
function isShared(path: string, mode: number): boolean {
  return (mode & 0o037) === 0 && stat(path)!.gid !== 0;
}

/** What a repair leaves for a time. */
export function repairRows({ cp }: PartialFacts): Row[] {
  if (!cp) return [];
  const policies = attempt(() => standIns(cp));
  return [
    ...(managerIsReduced(cp)
      ? [{ id: "controller-manager" as const, what: "kube-controller-manager", state: "known", detail: "reduced until part 3 is closed" }]
      : []),
    ...(policies instanceof Fail ? [] : policies).map((path) => ({
      id: "audit-policy" as const,
      what: path,
      state: "known",
      detail: "a stand-in for the lost audit policy",
    })),
  ];
}
