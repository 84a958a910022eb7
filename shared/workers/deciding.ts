/**
 * Decides on CSRs while nodes come back: thousands at once. Each refusal is printed, and none of them ends
 * the waiting.
 */

import { isTokenUser } from "../api/bootstrap-tokens.ts";
import { mayBeAlive, secondsToRenew } from "../api/leases.ts";
import { retry, watch } from "../api/many.ts";
import { madeAt } from "../pki/certificate.ts";
import { FEW, quoteUntrusted } from "../plain.ts";
import {
  CLIENT_SIGNER,
  type Csr,
  decide,
  isApproved,
  isPending,
  nodeAsking,
  requestIn,
  requestsTo,
  SERVING_SIGNER,
} from "./csr.ts";
import {
  CLIENT_MESSAGE,
  clientObjection,
  givenKey,
  isOfToken,
  isRenewal,
  MOVED_MESSAGE,
  proveByFormer,
  SERVING_MESSAGE,
  sayDouble,
  servingObjection,
} from "./csr-rules.ts";
import { competingWorkers } from "./identities.ts";
import { FIRST_PAUSE, type Following, type Scene } from "./waiting-state.ts";

/**
 * Approvals at the same time; with the port probes they stay below the connections that Bun's fetch opens at
 * once (256).
 */
const APPROVALS = 50;

/** Calls `on` for each CSR and each change of one, APPROVALS at a time. At the end, what is under way is waited for. */
async function follow(
  scene: Scene,
  signer: string,
  { signal, onListed }: Following,
  on: (csr: Csr) => Promise<void>,
) {
  const running = new Set<Promise<void>>();
  for await (const { type, object: csr } of watch<Csr>(scene.api, requestsTo(signer), signal, onListed)) {
    if (signal.aborted) break;
    if (type === "DELETED") continue;
    const decision = on(csr)
      .catch(scene.failure.reject)
      .finally(() => running.delete(decision));
    running.add(decision);
    if (running.size >= APPROVALS) await Promise.race(running);
  }
  await Promise.allSettled(running);
}

export async function followServing(scene: Scene, following: Following) {
  if (!scene.identities) return;
  // a kubelet asks once: another control plane node may have served it before this one did. Its port shows the
  // certificate that was signed
  const made = madeAt(scene.caPem).getTime();
  await follow(scene, SERVING_SIGNER, following, async (csr) => {
    if (isPending(csr)) return await decideServing(scene, csr);
    // an earlier CSR may have been signed by the old CA; the API's times are whole seconds
    const askedAt = Date.parse(csr.metadata.creationTimestamp ?? "");
    if (csr.status?.certificate && askedAt + 1000 > made) issued(scene, nodeAsking(csr));
  });
}

async function decideServing(scene: Scene, csr: Csr) {
  const reason = await objectionTo(scene, csr);
  const asking = scene.away.get(nodeAsking(csr));
  if (reason) {
    if (asking && !scene.refused.has(csr.metadata.name))
      asking.refused = { csr: csr.metadata.name, why: reason, at: Date.now() };
    const { identities, moved } = scene;
    // right at its node's old address: while it waits for an answer, its kubelet asks for no other
    const isOld = moved !== undefined && servingObjection(csr, identities!, moved) === undefined;
    return asking && isOld ? await denyOld(scene, csr, reason) : refuse(scene, csr, reason);
  }
  if (!(await decide(scene.api, csr, "Approved", SERVING_MESSAGE))) return;
  scene.approved++;
  if (asking) asking.approved = true;
  sayApproved(scene, csr, csr.spec.username);
}

async function denyOld({ api, refused, progress }: Scene, csr: Csr, reason: string) {
  refused.add(csr.metadata.name);
  if (await decide(api, csr, "Denied", MOVED_MESSAGE))
    progress.say(
      `denied ${csr.metadata.name}: ${quoteUntrusted(reason)}: its kubelet asks again, with its new address`,
    );
}

/** More claim one request's names only where somebody has claimed all that there is. */
const RIVALS = 16;

async function objectionTo(scene: Scene, csr: Csr): Promise<string | undefined> {
  const identities = scene.identities!;
  const judge = () => notWaitedFor(scene, nodeAsking(csr)) ?? servingObjection(csr, identities);
  const why = judge();
  const all = why === undefined ? [] : competingWorkers(requestIn(csr)?.names ?? [], identities);
  if (all.length === 0 || all.length > RIVALS || !scene.casBefore) return why;
  const names = all.map(({ name }) => name);
  const nodesByName = { identities, cas: scene.casBefore };
  await retry("the Nodes to be read", () => proveByFormer(scene.api, names, nodesByName));
  return judge();
}

/** No node that is left out, and no node that is already back, gets a certificate. */
function notWaitedFor({ away, expected, serving, identities }: Scene, name: string): string | undefined {
  if (!identities!.byName.has(name) || away.has(name)) return undefined;
  if (!expected.some((node) => node.name === name)) return `"${name}" is left out: --without, --lost`;
  return serving ? `"${name}" serves with a certificate of the cluster's CA already` : undefined;
}

function issued(scene: Scene, name: string) {
  const node = scene.away.get(name);
  if (!node) return;
  scene.issued++;
  node.issuedAt ??= Date.now();
  node.nextProbe = 0;
  node.pause = FIRST_PAUSE;
}

export async function followClients(scene: Scene, following: Following) {
  if (!scene.joining) return;
  await follow(scene, CLIENT_SIGNER, following, async (csr) => {
    if (isPending(csr)) await decideClient(scene, csr);
    else if (isApproved(csr) && isOfToken(csr, scene.joining!.tokenUsers)) given(scene, csr);
  });
}

async function decideClient(scene: Scene, csr: Csr) {
  const joining = scene.joining!;
  if (isRenewal(csr)) return;
  const reason = clientObjection(csr, joining);
  if (reason) return refuse(scene, csr, reason);
  const name = requestIn(csr)?.node ?? "";
  if (mayRenew(scene, name)) return void scene.undecided.set(csr.metadata.name, csr);
  const key = givenKey(csr)!;
  const first = joining.given.get(key);
  if (first !== undefined && first !== csr.metadata.name) return double(scene, csr, first);
  joining.given.set(key, csr.metadata.name);
  // it may have been revoked since the tokens were read
  if (!(await retry("the kit's token to be read", () => isTokenUser(scene.api, csr.spec.username))))
    return refuse(scene, csr, `the token of "${csr.spec.username}" is no longer valid`);
  if (await decide(scene.api, csr, "Approved", CLIENT_MESSAGE)) sayApproved(scene, csr, name);
}

/**
 * Its Lease was renewed just before we began to watch, or at any time since the repair began, which its clock
 * does not tell: only a next renewal, or none in the time for one, shows whether it is alive.
 */
function mayRenew({ before, caPem, began, renewalBefore }: Scene, name: string): boolean {
  const [last, then] = [before.get(name), renewalBefore?.(name)];
  if (Date.now() >= began + secondsToRenew(last) * 1000) return false;
  return then ? last !== undefined && last.getTime() !== then.getTime() : mayBeAlive(last, madeAt(caPem));
}

export function decideAgain(scene: Scene) {
  for (const [name, csr] of [...scene.undecided]) {
    scene.undecided.delete(name);
    decideClient(scene, csr).catch(scene.failure.reject);
  }
}

function given(scene: Scene, csr: Csr) {
  const key = givenKey(csr);
  if (!key) return;
  const first = scene.joining!.given.get(key);
  if (first === undefined) scene.joining!.given.set(key, csr.metadata.name);
  else if (first !== csr.metadata.name) double(scene, csr, first);
}

function double({ doubles, progress }: Scene, csr: Csr, first: string) {
  if (doubles.has(csr.metadata.name)) return;
  doubles.add(csr.metadata.name);
  if (doubles.size <= FEW) progress.say(sayDouble(csr, first));
}

function refuse({ refused, progress }: Scene, csr: Csr, reason: string) {
  if (refused.has(csr.metadata.name)) return;
  refused.add(csr.metadata.name);
  if (refused.size <= FEW) progress.say(`${csr.metadata.name}: not approved: ${quoteUntrusted(reason)}`);
}

function sayApproved({ expected, progress }: Scene, csr: Csr, whom: string) {
  if (expected.length <= FEW) progress.say(`approved ${csr.metadata.name} for ${whom}`);
}
