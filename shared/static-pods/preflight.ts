/**
 * Before parts 1 and 2 stop anything: a look at all that the steps up to a living API server need, one row
 * each. A thing that is missing for a later step is named now, while the old control plane still runs.
 */

import { dirname } from "node:path";
import { again } from "../again.ts";
import { FULL, gatewayTrouble, makeRoom } from "../etcd-location/reach-etcd.ts";
import { clockIsSynchronized } from "../evidence/server-clock.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import { endpointDifference, refuseUndecided } from "../facts/endpoint.ts";
import { joiningTrouble } from "../facts/joining-worker.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { releaseNote } from "../facts/releases.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { refuseUnwritable } from "../files/file-system.ts";
import { refuseNoRoom } from "../files/file-tree.ts";
import { exists } from "../files/files.ts";
import { isOlderRelease, mainContainer } from "../manifests/command.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { hasImage } from "../node/containers.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import { refuseUnfitKubelet } from "../node/systemctl-kubelet.ts";
import { endSavedOptions, savedOptionsOf, saveForThisNode } from "../node/words.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { unreadable, userOf } from "./fit-files.ts";
import type { WantedManifest } from "./wanted-manifests.ts";

export interface Coming {
  cp: ControlPlaneNode;
  part: 1 | 2;
  /**
   * The static pods that run at the end of part 2, as their manifests will be; etcd among them before part 1.
   */
  pods: readonly Pick<WantedManifest, "name" | "manifest">[];
  imagesLater: boolean | undefined;
  /** Whether etcd's database is full: part 1 reads it in etcd's data, part 2 asks the running etcd. */
  isFull: boolean;
}

/** `has`: a few words for the screen. `refuses`: nothing is stopped. */
interface LookResult {
  has?: string;
  warns?: string | undefined;
  refuses?: Fail | undefined;
}

/** The plan asks, too. */
const SCRIPT = { 1: "01-etcd", 2: "02-control-plane" } as const;

type Row = (coming: Coming) => LookResult | Promise<LookResult>;

/**
 * All rows run before part 1 stops anything, and again before part 2 does. 00-assess and plan.ts run them as before part 1:
 * what refuses there has its words in REFUSALS (assess/look-here.ts).
 */
// biome-ignore format: a table
const ROWS = {
  "release":                ({ cp }) => ({ warns: releaseNote(cp.cluster.kubernetesVersion) }),
  "images":                 imagesHere,
  "users of the pods":      usersKnown,
  "etcd's gateway":         ({ cp, pods }) => ({ refuses: ofPod("etcd", pods, (pod) => gatewayTrouble(pod, manifestPath(cp, "etcd"))) }),
  "etcd's release":         ({ cp, pods }) => ({ refuses: ofPod("etcd", pods, (pod) => olderEtcd(cp, pod)) }),
  "room in etcd":           roomInEtcd,
  "bootstrap tokens":       ({ cp, pods }) => ({ warns: caIsNew(cp) ? ofPod("kube-apiserver", pods, (pod) => joiningTrouble(cp, pod))?.message : undefined }),
  "endpoint":               endpointNamed,
  "clock":                  async () => ((await clockIsSynchronized()) ? { has: "clock follows a time server" } : {}),
} as const satisfies Record<string, Row>;

/** These only say something. A new row that is not among them needs an entry in REFUSALS: the compiler asks for it. */
export type RefusingRow = Exclude<keyof typeof ROWS, "release" | "bootstrap tokens" | "clock">;

/**
 * Looks at all rows, and says what to know. Returns the words of what is here. Errors: one Refused for all
 * rows that refuse.
 */
export async function preflight(coming: Coming): Promise<string[]> {
  const rows = await allRows(coming);
  for (const { warns } of rows) if (warns) say(`warning: ${warns}`);
  const refusals = rows.flatMap(({ refuses }) => refuses ?? []);
  if (refusals.length === 1) throw refusals[0]!;
  if (refusals.length > 1)
    throw new Refused(refusals.map(({ message }) => message).join("; "), {
      unchanged: true,
      hint: refusals.map(({ hint }) => hint).join(". Also: "),
    });
  return rows.flatMap(({ has }) => has ?? []);
}

export async function allRows(coming: Coming): Promise<(LookResult & { of: string })[]> {
  return await Promise.all(Object.entries(ROWS).map(async ([of, row]) => ({ of, ...(await row(coming)) })));
}

function ofPod<T>(
  name: string,
  pods: Coming["pods"],
  look: (manifest: WantedManifest["manifest"]) => T,
): T | undefined {
  const pod = pods.find((one) => one.name === name);
  return pod && look(pod.manifest);
}

/**
 * The kubelet collects images that no container uses, and the registry may be in this cluster. Where the
 * runtime does not say, nothing is said.
 */
async function imagesHere({ cp, pods, imagesLater, part }: Coming): Promise<LookResult> {
  const images = Map.groupBy(
    pods.flatMap(({ name, manifest: { spec } }) =>
      [...(spec.initContainers ?? []), ...spec.containers].map(({ image = "" }) => ({ name, image })),
    ),
    ({ image }) => image,
  );
  const lookups = await Promise.all(
    [...images.keys()].map(async (image) => ({ image, is: await hasImage(cp.node.runtimeEndpoint, image) })),
  );
  const where = (isPresent: boolean) =>
    lookups.filter(({ is }) => is === isPresent).map(({ image }) => image);
  const [missing, here] = [where(false), where(true)];
  endSavedOptions(({ option, value }) => option === "images-later" && here.includes(value), "it is here");
  const later = savedOptionsOf("images-later").map(({ value }) => value);
  if (missing.length === 0)
    return lookups.every(({ is }) => is) ? { has: `the images of ${pods.length} static pods` } : {};
  const named = missing.map(
    (image) => `"${image}" (${[...new Set(images.get(image)!.map(({ name }) => name))].join(", ")})`,
  );
  const message = `image ${named.join(", ")} is not on this node`;
  if (imagesLater) saveForThisNode("images-later", missing, { on: cp.node.name });
  if (imagesLater || missing.every((image) => later.includes(image)))
    return { warns: `${message}; the kubelet pulls it, or the static pod does not start` };
  return { refuses: missingImages(message, missing, part) };
}

function missingImages(message: string, missing: readonly string[], part: Coming["part"]): Refused {
  const pull = missing.map((image) => shell`crictl pull ${image}`).join("; ");
  const save = shell`ctr -n k8s.io images export images.tar ${missing}`;
  return new Refused(message, {
    unchanged: true,
    hint:
      `${pull}. Where no registry answers, on a node that has the image: ${save}, and here: ctr -n k8s.io images import images.tar ` +
      `(CRI-O: podman save, podman load). If the kubelet can pull it, with credentials of its own: ${again({ "images-later": true }, { of: SCRIPT[part] })}`,
  });
}

/** The witnesses that disagree are named before. */
function endpointNamed({ cp }: Coming): LookResult {
  const undecided = attempt(() => refuseUndecided(cp));
  if (undecided instanceof Fail) return { refuses: undecided };
  const { witnesses } = cp.endpoint;
  return witnesses.length < 2 || endpointDifference(cp.endpoint, cp.facts)
    ? {}
    : { has: `one endpoint, named by ${witnesses.length}` };
}

/** Key files get the owner that can read them: see fit-files.ts. */
function usersKnown({ cp, pods }: Coming): LookResult {
  const refuses = (message: string, todo: string) => ({
    refuses: new Refused(message, { unchanged: true, hint: `${todo}, then run the same line again` }),
  });
  const unknown = pods.filter(({ manifest }) => !userOf(manifest)).map(({ name }) => name);
  if (unknown.length > 0)
    return refuses(
      `${unknown.join(", ")} must not run as root (runAsNonRoot), and only its image knows its user: whose are its keys?`,
      `set securityContext.runAsUser in ${unknown.map((name) => manifestPath(cp, name)).join(", ")}`,
    );
  const [file] = unreadable(pods, cp);
  if (!file) return {};
  return refuses(
    `${file.path} is read by ${file.readers.join(" and ")}, which run as different users and share no group`,
    "give both one group in securityContext.supplementalGroups",
  );
}

/** etcd ends at once then: "invalid downgrade" (server/etcdserver/api/membership, mustDetectDowngrade). */
function olderEtcd(cp: ControlPlaneNode, manifest: WantedManifest["manifest"]): Fail | undefined {
  const image = mainContainer(manifest)?.image;
  const { storageVersion } = cp.data;
  if (!isOlderRelease(image, storageVersion)) return undefined;
  return new Refused(`etcd's data is of etcd ${storageVersion}, and its manifest names "${image}"`, {
    unchanged: true,
    hint: `put a manifest with the newer image, which crictl images shows, into ${manifestPath(cp, "etcd")}: no older etcd opens the data. Then run the same line again`,
  });
}

function roomInEtcd({ cp, part, isFull }: Coming): LookResult {
  if (!isFull) return { has: "no alarm in etcd" };
  const lines = makeRoom(cp.facts, cp.data.revision);
  if (part === 1)
    return { warns: `${FULL}. Part 2 cannot continue so. Between parts 1 and 2, when etcd runs: ${lines}` };
  return {
    refuses: new Refused(FULL, {
      unchanged: true,
      hint: `${lines}. RUNBOOK-MORE "If etcd's database is full"; then run the same line again`,
    }),
  };
}

/**
 * Bytes: etcd's db file grows by so much when it has to (bbolt's DefaultAllocSize); a spare file of its log,
 * 64 MB, is there mostly.
 */
const ETCD_GROWS = 16e6;

/**
 * Before anything stops. Etcd's folders, too: an etcd that cannot write ends with its next entry, and so does the API
 * server that part 2 has just started. Errors: Fail if a folder cannot be written or is full; and as `refuseUnfitKubelet`.
 */
export async function refuseUnfitNode({ rescue, facts, node, etcd }: ControlPlaneNode) {
  await refuseUnfitKubelet({ node, by: "repair" });
  const { staticPodPath, kubeconfig, clientPem } = node.kubelet;
  const own = [dirname(rescue.dir), "/etc/kubernetes", facts.certificatesDir, staticPodPath];
  refuseUnwritable([...own, dirname(kubeconfig), dirname(clientPem), ...foldersOf(etcd)]);
}

/** Where etcd writes on this node. Each may be a link to a disk of its own. */
function foldersOf({ living, dir, wal }: ControlPlaneNode["etcd"]): string[] {
  return living ? [] : [dir, `${dir}/member/snap`, wal ?? `${dir}/member/wal`];
}

/** Nothing is stopped then. Errors: Fail if there is no room for the copy, or as `refuseUnfitNode`. */
export async function refuseWhereNothingFits(cp: ControlPlaneNode) {
  const { rescue, etcd } = cp;
  const data = etcd.living ? [] : [etcd.dir, ...(etcd.wal ? [etcd.wal] : [])];
  await refuseUnfitNode(cp);
  if (etcd.living) refuseUnwritable([rescue.dir], { bytes: 2 * etcd.living.size });
  else refuseUnwritable(foldersOf(etcd), { bytes: ETCD_GROWS });
  if (!exists(rescuedEtcd(rescue))) refuseNoRoom([...data, ...leftOf(cp)], rescue.dir);
}

/** They are copied beside etcd's data. */
export function leftOf({ node: { kubelet }, facts }: ControlPlaneNode): string[] {
  const folders = [
    "/etc/kubernetes",
    dirname(kubelet.clientPem),
    facts.certificatesDir,
    kubelet.staticPodPath,
  ];
  return folders.filter(
    (path, i) => !folders.some((other, j) => (j < i && path === other) || path.startsWith(`${other}/`)),
  );
}
