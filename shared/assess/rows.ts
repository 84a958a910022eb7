/** The rows of the damage table. */
import { type Check, dated, found } from "../checks/check.ts";
import { openFiles } from "../checks/forecast.ts";
import { checkIdOf } from "../checks/kinds.ts";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { StrangeCa } from "../facts/ca-copies.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { flagOfLostFile, restoredWhen } from "../facts/lost-files.ts";
import { isNotKubeadms } from "../facts/no-etcd-data.ts";
import type { ControlPlaneNode, PartialFacts } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText, stat } from "../files/files.ts";
import { findStaticPods, type MirrorPod } from "../manifests/mirror-pods.ts";
import { manifestPath, readManifest, secondManifests, whereIs } from "../manifests/on-disk.ts";
import { managerIsReduced } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { savedAtText, savedOptionsOf } from "../node/words.ts";
import type { Evidence } from "../pki/actions.ts";
import { publicPem } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { serviceAccountKeyId } from "../pki/sa-keys.ts";
import { secretsOf } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { otherStaticPods, unprovedPods, wantedManifests } from "../static-pods/wanted-manifests.ts";
import { onDisk } from "../static-pods/work.ts";
import { bad, row } from "./assessment.ts";
import { firstToExpire, soonest } from "./look-here.ts";

export function clockRows(found: Fail | readonly string[]): Check[] {
  if (found instanceof Fail) return [bad("clock", "clock", "wrong", found.message)];
  return found.map((warning) => row("clock", "clock", { warning }));
}

/**
 * Row of a CA or the service-account key. `strange`: a valid CA that is not the cluster's is in the place of
 * the cluster CA.
 */
export function sharedRow(finding: Finding, strange?: StrangeCa): Check {
  if (strange)
    return bad(checkIdOf(finding.name), whatOf(finding), "foreign", strange.older ? EARLIER : LATER);
  if (!finding.row) return findingRow(finding, "signs every service-account token");
  const signs = CERTS.filter((row) => row.ca === finding.name).map((row) => row.name);
  const more = finding.name === "ca" ? ", all kubeconfigs, every kubelet" : "";
  const isUnits = finding.name === "etcd-ca" && !finding.paths[0]!.endsWith("/etcd/ca.crt");
  return findingRow(finding, isUnits ? UNITS : `signs: ${signs.join(", ")}${more}`);
}

const UNITS = "signs: etcd's own certificates, and the API server's for it";

function findingRow(finding: Finding, lost = ""): Check {
  const { state, detail, differs } = finding;
  const answer =
    differs ?? (state === "ok" ? detail : { state, failed: state === "missing" ? lost : detail });
  return row(checkIdOf(finding.name), whatOf(finding), dated(answer, finding.cert?.notAfter));
}

function whatOf({ paths }: Finding): string {
  return paths.map((path) => path.replace("/etc/kubernetes/", "")).join(", ");
}

const EARLIER = "another CA, made before the one that etcd's data names";
const LATER =
  "another CA, made after the one that etcd's data names: by a half attempt, or by part 1 on another control plane node";

export function foreignSaRow(sa: Finding, { tokens }: Evidence): Check[] {
  const kids = new Set(tokens.map(({ kid }) => kid));
  const own =
    sa.state === "ok" && kids.size > 0
      ? attempt(() => serviceAccountKeyId(publicPem(readText(sa.paths[0]!)!)))
      : undefined;
  if (!own || own instanceof Fail || kids.has(own)) return [];
  const warning = "it signed none of the tokens here. If nobody made a new key: 00-salvage --move-aside";
  return [row("service-account-key", "pki/sa.key", { warning })];
}

/**
 * One line if all are right or all are missing, else a line for each that is wrong, and one for each that
 * differs.
 */
export function summary(what: "certificates" | "kubeconfigs", findings: Finding[]): Check[] {
  if (findings.length === 0) return [];
  const wrong = findings.filter(({ state }) => state !== "ok");
  const differences = findings.filter(({ differs }) => differs).map((finding) => findingRow(finding));
  const all = `${findings.length} ${what}`;
  if (wrong.length === 0)
    return [row(what, all, dated(soonest(findings), firstToExpire(findings))), ...differences];
  if (findings.every(({ state }) => state === "missing")) return [bad(what, all, "missing")];
  return [...wrong.map((finding) => findingRow(finding)), ...differences];
}

export function podsBeside({ runs }: EtcdHome): string[] {
  return CONTROL_PLANE.filter((name) => name !== "etcd" || !isNotKubeadms({ runs }));
}

export function manifestRows(node: Node, { data, cp, home }: PartialFacts): Check[] {
  if (!data) return [];
  const pods = attempt(() => findStaticPods(data, node.name).proved);
  const wanted = cp && attempt(() => [...wantedManifests(cp, ["etcd"]), ...wantedManifests(cp)]);
  const trouble = new Map(
    (wanted instanceof Fail ? [] : (wanted ?? [])).map((one) => [one.name, onDisk(one, cp!).trouble]),
  );
  const others = pods instanceof Fail ? [] : otherStaticPods({ data, node });
  const all = [...podsBeside(home).map((name) => ({ name, namespace: undefined })), ...others];
  return [
    ...all.map(({ name, namespace }) =>
      manifestRow(manifestPath({ node }, name, namespace), name, { pods, trouble: trouble.get(name) }),
    ),
    ...all
      .flatMap(({ name, namespace }) => secondManifests({ node }, name, namespace))
      .map((path) => bad("second-manifest", path, "second", SECOND)),
    ...(pods instanceof Fail ? [] : unprovedRows({ data, node })),
  ];
}

function manifestRow(
  path: string,
  name: string,
  { pods, trouble }: { pods: MirrorPod[] | Fail; trouble: string | string[] | undefined },
): Check {
  const badRow = (state: string, failed: string) => bad("manifest", `manifests/${name}.yaml`, state, failed);
  const manifest = attempt(() => readManifest(path));
  if (manifest instanceof Fail) return badRow("unreadable", manifest.message);
  if (manifest && Array.isArray(trouble))
    return badRow("changed", `differs from the manifest before the repair: ${trouble.join(" ")}`);
  if (manifest && !trouble) return row("manifest", `manifests/${name}.yaml`, "");
  if (whereIs(path) !== path) return badRow("waits", `as ${whereIs(path)}: part 2 brings it back`);
  return badRow(manifest ? "cut off" : exists(path) ? "empty" : "missing", podOf(name, pods));
}

function podOf(name: string, pods: MirrorPod[] | Fail): string {
  if (pods instanceof Fail) return "its mirror pod in etcd cannot be read";
  const pod = pods.find((mirror) => mirror.name === name);
  if (!pod) return "no mirror pod in etcd either";
  return `can be rebuilt from its mirror pod in etcd${pod.from === "history" ? "'s history" : ""}`;
}

/**
 * Mirror pods that `restoreManifests` will lay aside. No damage: anyone who may create a pod can make them.
 */
function unprovedRows(place: Pick<ControlPlaneNode, "data" | "node">): Check[] {
  const { pods, more } = unprovedPods(place, undefined);
  const etcds = unprovedPods(place, ["etcd"]);
  const rowOf = (what: string, warning: string) => row("unproved-mirror-pod", what, { warning });
  const rows = [...etcds.pods, ...pods].map(({ namespace, name, why }) =>
    rowOf(`mirror pod ${namespace}/${name}`, `not put to use: ${why}`),
  );
  const others = more + etcds.more;
  return others > 0 ? [...rows, rowOf(`${others} more mirror pods`, "not put to use either")] : rows;
}

const SECOND =
  "a second manifest of the same pod: the kubelet runs one of the two. Part 2 moves this one to the rescue folder";

export function lostFileRows(lost: readonly LostFile[]): Check[] {
  const failed = (file: LostFile) =>
    `named by ${flagOfLostFile(file)}; ${restoredWhen(file) ?? "cannot be rebuilt"}; without it ${file.without}`;
  return lost.map((file) => bad("lost-file", file.path, "missing", failed(file)));
}

/** Others can read them; this stops nothing. */
export function modeRows(paths: readonly string[]): Check[] {
  return [...new Set(paths)].flatMap((path) => {
    const { mode = 0, gid = 0 } = stat(path) ?? {};
    // kubeadm lets static pods that do not run as root share a file by a group of their own
    const isShared = (mode & 0o037) === 0 && gid !== 0;
    if ((mode & 0o077) === 0 || isShared) return [];
    const octal = mode.toString(8).padStart(4, "0");
    const warning = `others can read it (${octal}): ${shell`chmod 600 ${path}`}`;
    return [row("file-mode", path.replace("/etc/kubernetes/", ""), { warning })];
  });
}

/**
 * Files of the node that no finding judges, where one holds a private key or a token itself: kubeadm's kubelet.conf only
 * names the file of its key, and super-admin.conf is nobody's after the first day.
 */
export function otherSecrets({ kubelet }: Pick<Node, "kubelet">): string[] {
  const paths = ["/etc/kubernetes/super-admin.conf", kubelet.kubeconfig, kubelet.clientPem];
  return paths.filter((path) => secretsOf(readText(path) ?? "").length > 0);
}

/** Leftovers of a repair that are meant to go later. */
export function repairRows({ cp }: PartialFacts): Check[] {
  if (!cp) return [];
  const open = attempt(() => [...openFiles(cp)], []);
  return [
    ...(managerIsReduced(cp)
      ? [row("controller-manager", "kube-controller-manager", { warning: "reduced until part 3 is closed" })]
      : []),
    ...open.map((one) => found(one, one.look())),
    ...savedOptionsOf("without").map((word) =>
      found({ id: "node-away", of: word.value }, { warning: savedAtText(word) }),
    ),
  ];
}
