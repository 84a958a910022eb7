/** The tenant: everything is done with his rights, so anybody who may create pods can do it. */
import { existsSync } from "node:fs";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { Fail } from "../../../shared/fail.ts";
import { readObject } from "../../../shared/objects/stored.ts";
import { kubectl, type Lab, type Output } from "../machine/machine.ts";
import { type Item, list } from "../report/snapshot.ts";
import { note, type Scene, sayAndWait } from "../scene/scene.ts";
import { type Attacker, forgedTokens, readToken, TEAM } from "./attacker.ts";
import { compromisedWorker } from "./intruder.ts";
import { ROLE } from "./network-plugin.ts";
import {
  ACCOUNT,
  configMapsAndSecrets,
  givenByAdministrators,
  mirrorMaker,
  mirrorPods,
  plays,
  squatter,
  TENANT,
} from "./objects.ts";

/** Creates everything, waits until it runs, and returns the forged tokens for the questions at the end. */
export async function tenantAttacks(scene: Scene, attacker: Attacker): Promise<Record<string, string>> {
  const { lab } = scene;
  await must(lab, ["apply", "-f", "-"], ...givenByAdministrators());
  const tokens = forgedTokens(
    attacker,
    readToken((await must(lab, ["-n", TEAM, "create", "token", ACCOUNT, "--duration=24h"])).trim()),
  );
  await createAsTenant(lab, ...configMapsAndSecrets(attacker, tokens, lab.controlPlanes));
  await createAsTenant(lab, ...lab.nodes.map(({ nodeName }) => squatter(nodeName, tokens)));
  if (plays("mirrors")) await makeMirrors(scene);
  await sayAndWait(
    scene,
    `the pods of ${TEAM} to be Ready`,
    async () => notReady(await podsOf(lab)).length === 0,
    {
      seconds: 180,
      hint: `kubectl -n ${TEAM} get pods, with --keep`,
    },
  );
  note(
    scene,
    "the tenant has created his objects",
    `${(await podsOf(lab)).map(({ metadata }) => metadata.name).join(", ")}`,
  );
  return tokens;
}

/**
 * The API server accepts them. The kubelets delete foreign mirror pods every two seconds, and he makes them
 * again.
 */
async function makeMirrors(scene: Scene) {
  const { lab } = scene;
  const [example] = mirrorPods(lab.controlPlanes);
  const { exitCode, stderr } = await asTenant(lab, [example!]);
  note(
    scene,
    `the API server ${exitCode === 0 ? "accepts" : "refuses"} a tenant's mirror pod, ${example!.metadata.name}`,
    stderr.trim(),
  );
  await createAsTenant(lab, mirrorMaker(lab.workers[0]!.nodeName));
  if (exitCode === 0) await mirrorPodsAreThere(scene);
}

/**
 * Waits until each of his mirror pods was there at some look; a second time just before the damage. All at once they are
 * on a quick machine alone, as the kubelets delete them.
 */
export async function mirrorPodsAreThere(scene: Scene) {
  const { lab } = scene;
  const names = mirrorPods(lab.controlPlanes).map(({ metadata }) => metadata.name);
  const missing = new Set(names);
  const hint = `kubectl -n ${TEAM} logs mirror-maker, with --keep`;
  const allWereThere = async () => {
    for (const { metadata } of await podsOf(lab)) missing.delete(metadata.name);
    if (missing.size > 0) throw new Fail(`never there: ${[...missing].join(", ")}`, { hint });
    return true;
  };
  await sayAndWait(scene, "the tenant's mirror pods", allWereThere, {
    ...{ seconds: 180, hint },
  });
}

/** Takes his rights back and deletes his mirror pods. His other pods still run. */
export async function tenantShutOut({ lab }: Scene) {
  await must(lab, ["-n", TEAM, "delete", "rolebinding", ACCOUNT, "--ignore-not-found"]);
  await must(lab, [
    "-n",
    TEAM,
    "delete",
    "pod",
    "--ignore-not-found",
    "--force",
    ...mirrorPods(lab.controlPlanes).map(({ metadata }) => metadata.name),
  ]);
}

/**
 * Looks whether etcd's data still holds the attack after the damage: the repair reads this data, so otherwise
 * nothing was tried.
 */
export function attackIsInEtcd({ lab, checks }: Scene) {
  const folders = lab.nodes.map((node) => node.path("/var/lib/etcd"));
  using data = readEtcdData(folders.find((folder) => existsSync(`${folder}/member`))!);
  const { nodeName } = compromisedWorker(lab);
  const node = readObject<{ metadata: { labels?: object }; status: { addresses: { address: string }[] } }>(
    data,
    `minions/${nodeName}`,
  );
  const hasLabel = ROLE in (node?.metadata.labels ?? {});
  const hasApiNames = hasLabel && node?.status.addresses.some(({ address }) => address === "lab-api");
  // A deleted pod counts as well, as long as etcd remembers it.
  const keys = [...data.keys(`/registry/pods/${TEAM}/`), ...data.deletedKeys(`/registry/pods/${TEAM}/`)];
  const missing = mirrorPods(lab.controlPlanes).filter(
    ({ metadata }) => !keys.includes(`/registry/pods/${TEAM}/${metadata.name}`),
  );
  checks.push({
    name: "etcd's data holds the attack after the damage",
    ok: (hasApiNames || !plays("worker")) && (missing.length === 0 || !plays("mirrors")),
    detail: `${nodeName} ${hasApiNames ? "has" : "does not have"} the API's names and a control plane node's label; ${missing.length} mirror pods are missing`,
  });
}

async function podsOf(lab: Lab): Promise<Item[]> {
  return (await list(lab, "pods")).filter(({ metadata }) => metadata.namespace === TEAM);
}

function notReady(pods: Item[]): Item[] {
  const isMirror = ({ metadata }: Item) =>
    metadata.annotations?.["kubernetes.io/config.mirror"] !== undefined;
  const isReady = ({ status }: Item) =>
    status?.conditions?.some(
      (c: { type: string; status: string }) => c.type === "Ready" && c.status === "True",
    );
  return pods.filter((pod) => !isMirror(pod) && !isReady(pod));
}

async function createAsTenant(lab: Lab, ...objects: object[]) {
  for (const object of objects) {
    const { exitCode, stderr } = await asTenant(lab, [object]);
    if (exitCode !== 0 && !stderr.includes("AlreadyExists"))
      throw new Fail(`The tenant cannot make ${JSON.stringify(object).slice(0, 120)}: ${stderr.trim()}`, {
        hint: "the attack was not played: look at his RoleBinding, with --keep",
      });
  }
}

function asTenant(lab: Lab, objects: object[]): Promise<Output> {
  return kubectl(lab, ["create", "--as", TENANT, "-f", "-"], listOf(objects));
}

async function must(lab: Lab, args: string[], ...objects: object[]): Promise<string> {
  const { exitCode, stdout, stderr } = await kubectl(
    lab,
    args,
    objects.length > 0 ? listOf(objects) : undefined,
  );
  if (exitCode === 0) return stdout;
  throw new Fail(`"kubectl ${args.slice(0, 6).join(" ")}": ${stderr.trim()}`, {
    hint: "look at the API with --keep",
  });
}

function listOf(items: object[]): string {
  return JSON.stringify({ apiVersion: "v1", kind: "List", items });
}
