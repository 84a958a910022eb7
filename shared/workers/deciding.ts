/** Decides on signing requests while nodes come back: thousands at once, each refusal named, and none of them an end of the whole. */
import { kitTokens } from "../api/bootstrap-tokens.ts";
import { mayBeAlive, RENEWAL_SECONDS } from "../api/leases.ts";
import { insist } from "../api/many.ts";
import { madeAt } from "../pki/certificate.ts";
import { strangers } from "../plain.ts";
import { FEW } from "../progress.ts";
import { CLIENT_MESSAGE, clientObjection, givenKey, isOfToken, isRenewal, nodeNamed, sayDouble } from "./client-csrs.ts";
import { approve, CLIENT_SIGNER, type Csr, isApproved, isPending, nodeAsking, requestIn, SERVING_SIGNER, watchRequests } from "./csr.ts";
import { SERVING_MESSAGE, servingObjection } from "./serving-csrs.ts";
import { FIRST_PAUSE, type Scene } from "./waiting-state.ts";

/** Approvals at the same time; with the port probes they stay below the connections that Bun's fetch opens at once (256). */
const APPROVALS = 50;

/**
 * Calls `on` for each request and each change of one, APPROVALS at a time; while so many are under way, the stream has to wait. What is under way
 * at the end is waited for: it may have something to say.
 */
async function follow(scene: Scene, signer: string, signal: AbortSignal, on: (csr: Csr) => Promise<void>) {
  const running = new Set<Promise<void>>();
  for await (const { type, object: csr } of watchRequests(scene.api, signer, signal)) {
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

export async function followServing(scene: Scene, signal: AbortSignal) {
  if (!scene.identities) return;
  const made = madeAt(scene.caPem);
  await follow(scene, SERVING_SIGNER, signal, async (csr) => {
    if (isPending(csr)) await decideServing(scene, csr);
    else if (csr.status?.certificate && askedAfter(csr, made)) issued(scene, nodeAsking(csr));
  });
}

/** One from before may have been signed by the old CA. The API's times are whole seconds. */
function askedAfter({ metadata }: Csr, made: Date): boolean {
  return new Date(metadata.creationTimestamp ?? 0).getTime() + 1000 > made.getTime();
}

async function decideServing(scene: Scene, csr: Csr) {
  const reason = standing(scene, nodeAsking(csr)) ?? servingObjection(csr, known(scene, nodeAsking(csr)), scene.identities!);
  const asking = scene.away.get(nodeAsking(csr));
  if (reason) {
    if (asking && !scene.refused.has(csr.metadata.name)) asking.leftAlone = { csr: csr.metadata.name, why: reason, at: Date.now() };
    return leaveAlone(scene, csr, reason);
  }
  if (!(await approve(scene.api, csr, SERVING_MESSAGE))) return;
  scene.approved++;
  if (asking) asking.approved = true;
  sayApproved(scene, csr, csr.spec.username);
}

/** Only nodes that we wait for get anything: none that is left out, and none that is back. */
function standing({ away, expected, serving, identities }: Scene, name: string): string | undefined {
  if (!identities!.byName.has(name) || away.has(name)) return undefined;
  if (!expected.some((node) => node.name === name)) return `"${name}" is one of --without`;
  return serving ? `"${name}" serves with a certificate of the cluster's CA already` : undefined;
}

function known({ identities }: Scene, name: string): string | undefined {
  return identities!.byName.get(name)?.name;
}

function issued(scene: Scene, name: string) {
  const node = scene.away.get(name);
  if (!node) return;
  scene.issued++;
  node.issuedAt ??= Date.now();
  node.nextProbe = 0;
  node.pause = FIRST_PAUSE;
}

export async function followClients(scene: Scene, signal: AbortSignal) {
  if (!scene.joining) return;
  await follow(scene, CLIENT_SIGNER, signal, async (csr) => {
    if (isPending(csr)) await decideClient(scene, csr);
    else if (isApproved(csr) && isOfToken(csr, scene.joining!.tokens)) given(scene, csr);
  });
}

async function decideClient(scene: Scene, csr: Csr) {
  const joining = scene.joining!;
  if (isRenewal(csr)) return;
  const reason = clientObjection(csr, joining);
  if (reason) return leaveAlone(scene, csr, reason);
  const name = nodeNamed(requestIn(csr));
  if (mayBeHeard(scene, name)) return void scene.undecided.set(csr.metadata.name, csr);
  const key = givenKey(csr)!;
  const first = joining.given.get(key);
  if (first !== undefined && first !== csr.metadata.name) return double(scene, csr, first);
  joining.given.set(key, csr.metadata.name);
  joining.tokens = await insist("the kit's token to be read", () => kitTokens(scene.api));
  if (!isOfToken(csr, joining.tokens)) return leaveAlone(scene, csr, `the token of "${csr.spec.username}" has ended`);
  if (await approve(scene.api, csr, CLIENT_MESSAGE)) sayApproved(scene, csr, name);
}

/** It renewed its Lease a moment before we began to listen: the next renewal, or none in the time of two, tells whether it lives. */
function mayBeHeard({ before, caPem, began }: Scene, name: string): boolean {
  return mayBeAlive(before.get(name), madeAt(caPem)) && Date.now() < began + RENEWAL_SECONDS * 1000;
}

/** Requests for whose nodes it was not known whether they are heard. */
export function decideAgain(scene: Scene) {
  for (const [name, csr] of [...scene.undecided]) {
    scene.undecided.delete(name);
    decideClient(scene, csr).catch(scene.failure.reject);
  }
}

/** Approved by whomever. */
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

function leaveAlone({ refused, progress }: Scene, csr: Csr, reason: string) {
  if (refused.has(csr.metadata.name)) return;
  refused.add(csr.metadata.name);
  if (refused.size <= FEW) progress.say(`${csr.metadata.name}: left alone: ${strangers(reason)}`);
}

function sayApproved({ expected, progress }: Scene, csr: Csr, whom: string) {
  if (expected.length <= FEW) progress.say(`${csr.metadata.name}: approved for ${whom}`);
}
