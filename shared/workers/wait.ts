/**
 * Waits until the nodes are back: each kubelet renews its Lease with a certificate of the current CA, and its own
 * port serves with one. Made for thousands of nodes: Leases and CSRs are watched, not listed again and again,
 * and little is kept of each node.
 */

import { again, command, type LeftOut, leftNames } from "../again.ts";
import { NO_ANSWER_HINT } from "../api/api-error.ts";
import { TOKEN_HOURS, tokenUsers } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { allRenewals, mayBeAlive, watchRenewals } from "../api/leases.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { renewalBefore } from "../facts/leaders.ts";
import { apiNamesShown } from "../facts/names-before.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { clusterCasBefore } from "../facts/repair.ts";
import { Fail } from "../fail.ts";
import { managerIsReduced } from "../manifests/repair-changes.ts";
import { movedHere } from "../node/words.ts";
import { clusterCa } from "../pki/examine.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { sayWhile, scaledTimeout, waitFor } from "../wait-for.ts";
import { sayEvictions } from "./away.ts";
import { givenBefore, type Joining } from "./csr-rules.ts";
import { decideAgain, followClients, followServing } from "./deciding.ts";
import { identitiesOf } from "./identities.ts";
import { OF_WINDOWS, servingByCa } from "./node-status.ts";
import {
  countAsBackWithoutCertificate,
  type Following,
  markReturned,
  probePorts,
  type Return,
  type Scene,
  sayReturned,
  setScene,
  waitingNote,
} from "./waiting-state.ts";

/** Milliseconds. */
const TOKEN_EVERY = 5000;

/**
 * Errors: Fail that names the nodes that did not come back in time, and the Windows nodes that are not back: people
 * join them by hand.
 */
export async function watchNodesReturn(
  cp: ControlPlaneNode,
  api: KubeApi,
  options: { out: LeftOut; minutes: number },
) {
  const without = leftNames(options.out);
  const left = await silentWindows(cp, api, expectedOf(cp, without));
  const expected = expectedOf(cp, [...without, ...left]);
  if (mode.dryRun)
    return say(
      `would wait for: ${listed(expected.map((node) => node.name))}; and approve their certificates`,
    );
  await waitForNodes({
    ...(await knownOf(cp, api, without)),
    expected,
    serving: servingByCa(cp),
    identities: identitiesOf(cp, await apiNamesShown(cp)),
    casBefore: clusterCasBefore(cp),
    moved: movedHere(),
    seconds: options.minutes * 60,
  });
  if (left.length > 0)
    throw new Fail(`Not back, and not waited for: ${listed(left)} (${OF_WINDOWS})`, {
      hint: `join them by hand, then run the same line again. Without them (their pods are evicted after five minutes): ${again({ without: left })}`,
    });
  if (managerIsReduced(cp)) await sayEvictions(cp, api, { nodes: without, isFull: true });
}

/** Nobody can join there by this kit; one that has come back by hand is like others. */
async function silentWindows(
  cp: ControlPlaneNode,
  api: KubeApi,
  nodes: readonly KnownNode[],
): Promise<string[]> {
  const names = nodes.filter((node) => node.windows && !node.controlPlane).map(({ name }) => name);
  if (names.length === 0) return [];
  const [renewals, since] = [await allRenewals(api), trustedSince(cp)];
  return names.filter((name) => !mayBeAlive(renewals.get(name), since));
}

/** Ends when all have joined, or when the token expires. */
export async function approveJoining(cp: ControlPlaneNode, api: KubeApi, out: LeftOut) {
  const without = leftNames(out);
  const expected = expectedOf(cp, without).filter((node) => !node.controlPlane);
  if (mode.dryRun)
    return say(
      `would approve the client certificates of: ${listed(expected.map((node) => node.name))}; each once`,
    );
  const facts = await knownOf(cp, api, without);
  const limit = { seconds: TOKEN_HOURS * 3600, whileTokenLasts: true } as const;
  const { away } = await waitForNodes({ ...facts, expected, serving: false, ...limit });
  if (away.length > 0)
    say(
      `the token is no longer valid, and these nodes have not renewed their Lease: ${listed(away)}. open makes a new token`,
    );
}

/** Errors: Fail if no worker can ask with a bootstrap token of this kit. */
export async function refuseNoToken(api: KubeApi) {
  if ((await tokenUsers(api)).size > 0) return;
  throw new Fail("There is no token of this kit", { hint: `${command("03-workers open")} makes one` });
}

function expectedOf(cp: ControlPlaneNode, without: readonly string[]): KnownNode[] {
  return cp.cluster.nodes.filter((node) => !without.includes(node.name));
}

async function knownOf(cp: ControlPlaneNode, api: KubeApi, without: readonly string[]) {
  const tokens = await tokenUsers(api);
  const nodesByName = new Map(cp.cluster.nodes.map((node) => [node.name, node]));
  const joiningBy = async (tokenUsers: Joining["tokenUsers"]): Promise<Joining> => {
    const given = await givenBefore(api, tokenUsers);
    return { tokenUsers, nodesByName, without, renewing: new Set(), given };
  };
  return {
    ...{ api, joining: tokens.size > 0 ? await joiningBy(tokens) : undefined, since: trustedSince(cp) },
    ...{
      caPem: clusterCa(cp.facts.certificatesDir),
      renewalBefore: (node: string) => renewalBefore(cp, node),
    },
  };
}

/** The benchmark calls it, too. */
export async function waitForNodes(options: Return) {
  const scene = setScene(options, options.joining ? await allRenewals(options.api) : new Map());
  const ending = new AbortController();
  const followers = [followServing, followClients, followLeases].map((follower) => {
    const listed = Promise.withResolvers<void>();
    const ended = follower(scene, { signal: ending.signal, onListed: listed.resolve });
    return { ended, looked: Promise.race([listed.promise, ended]) };
  });
  try {
    const looked = Promise.all(followers.map(({ looked }) => looked));
    await Promise.race([
      allBack(scene, looked),
      scene.failure.promise,
      // one that ends means nothing while others run; its error ends the waiting
      ...followers.map(({ ended }) => ended.then(() => new Promise<never>(() => {}))),
    ]);
  } finally {
    ending.abort();
    await Promise.allSettled(followers.map(({ ended }) => ended));
    scene.progress.clear();
  }
  sayReturned(scene);
  const { approved, refused, unreachable, away } = scene;
  const back = scene.expected.length - away.size;
  return { back, away: [...away.keys()], approved, refused: [...refused], unreachable };
}

/** No CSR is judged by a revoked token. Without one nobody joins: the waiting ends. */
async function tokenIsGone(scene: Scene): Promise<boolean> {
  const { joining, api, whileTokenLasts } = scene;
  if (!joining) return false;
  if (Date.now() > scene.tokensReadAt + scaledTimeout(TOKEN_EVERY)) {
    scene.tokensReadAt = Date.now();
    joining.tokenUsers = await tokenUsers(api);
  }
  return whileTokenLasts === true && joining.tokenUsers.size === 0;
}

/**
 * The time counts from when all that was there has been looked at: in a large cluster, or behind a slow API,
 * that alone takes a while.
 */
async function allBack(scene: Scene, looked: Promise<unknown>) {
  await sayWhile("all Leases and CSRs to be read", NO_ANSWER_HINT, () => looked);
  const { away, expected, progress } = scene;
  const look = async () => {
    probePorts(scene);
    decideAgain(scene);
    progress.show(expected.length - away.size, waitingNote(scene));
    return away.size === 0 || (await tokenIsGone(scene));
  };
  const what = () => `${away.size} of ${expected.length} nodes to come back: ${namesOf(scene)}`;
  const { seconds, whileTokenLasts } = scene;
  const say = (line: string) => progress.say(line);
  // seconds between two lines: the output of `approve` is a log
  const every = whileTokenLasts ? { every: 300 } : {};
  const limit = { seconds, hint: () => hintForLateNodes(scene), say, ...every };
  await waitFor(what, look, limit).catch((cause: unknown) => {
    for (const node of [...away.values()])
      if (node.renewsSince !== undefined) countAsBackWithoutCertificate(scene, node);
    if (away.size === 0) return;
    throw new Fail(`${away.size} of ${expected.length} nodes have not come back: ${namesOf(scene)}`, {
      hint: hintForLateNodes(scene),
      cause,
    });
  });
}

function namesOf({ away }: Scene): string {
  return listed([...away.keys()]);
}

function hintForLateNodes({ away, refused }: Scene): string {
  const workers = [...away.values()].flatMap(({ node }) => (node.controlPlane ? [] : node.name));
  const way =
    workers.length > 0
      ? `see whether 03-join.ts has run on ${listed(workers)}; if not: ${command("03-workers open")}, then there the line that it prints.`
      : `see whether part 2 has run there; if not: ${command("02-control-plane")}.`;
  const csrs =
    " The CSRs that were not approved, and why, are printed above. If you know that one is right: kubectl certificate approve CSR.";
  const out = again({ without: away.size > 1 ? ["NODE"] : [...away.keys()] }, { of: "03-workers close" });
  return `${way}${refused.size > 0 ? csrs : ""} If one of them cannot come now: ${out}. If it is lost for good: --lost`;
}

async function followLeases(scene: Scene, { signal, onListed }: Following) {
  for await (const { name, time } of watchRenewals(scene.api, scene.since, signal, onListed)) {
    if (signal.aborted) return;
    const isNew = time > (scene.before.get(name) ?? new Date(0));
    if (isNew) scene.joining?.renewing.add(name);
    const node = scene.away.get(name);
    if (!node || (scene.whileTokenLasts && !isNew)) continue;
    node.renewsSince ??= Date.now();
    if (!scene.serving) markReturned(scene, node);
  }
}
