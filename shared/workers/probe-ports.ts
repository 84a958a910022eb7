/** The kubelets' ports of nodes that come back, asked again and again: who is back, and who counts as back without a serving certificate. */
import { askKubeletPort, PROBES } from "./kubelet-port.ts";
import { type Away, comeBack, type Scene, whyUnserved } from "./waiting-state.ts";

/** Milliseconds: a port is asked again after FIRST_PAUSE, then after twice as long each time, up to LAST_PAUSE. */
const LAST_PAUSE = 5000;

/** Milliseconds after its certificate was issued; then a node counts as back even if its port cannot be reached from here. */
const UNREACHABLE_MS = 5000;

/**
 * Milliseconds after its request for a serving certificate was refused, or in which it has made none; then a node that renews its Lease counts
 * as back. Until then it may ask, or ask again with right names. A stranger who claims the node's name, or a firewall before its port, must not
 * make everybody wait: an operator decides.
 */
const REFUSED_MS = 15_000;

/** Asks the ports of nodes that renew their Lease, each when it is its turn, PROBES at a time. */
export function probePorts(scene: Scene) {
  if (!scene.serving) return;
  const now = Date.now();
  for (const node of scene.away.values()) {
    if (scene.probing >= PROBES) return;
    const longAgo = now - (scene.refusedMs ?? REFUSED_MS);
    if (node.renewsSince === undefined) continue;
    const quietSince = node.refused?.at ?? node.renewsSince;
    if (!node.approved && (node.refused || node.lastAnswer) && quietSince <= longAgo) {
      unserved(scene, node);
      continue;
    }
    const isPromised = node.approved && node.issuedAt === undefined;
    if (!node.asking && !isPromised && node.nextProbe <= now) probe(scene, node).catch(scene.failure.reject);
  }
}

/** A node that renews its Lease is back, whatever its port shows: that is a warning. */
export function unserved(scene: Scene, node: Away) {
  const { refused, lastAnswer } = node;
  if (lastAnswer === "own") scene.selfSigned.push(node.node.name);
  else if (!refused && lastAnswer === "unreachable") scene.unreachable.push(node.node.name);
  else scene.unserved.push(`${node.node.name}: ${refused ? `${refused.csr}: ${refused.why}` : whyUnserved(node)}`);
  comeBack(scene, node, "back, without a serving certificate of the CA");
}

async function probe(scene: Scene, away: Away) {
  scene.probing++;
  away.asking = true;
  const answer = await askKubeletPort(away.node, scene.caPem).finally(() => {
    scene.probing--;
    delete away.asking;
  });
  if (answer !== "serves") away.lastAnswer = answer;
  if (answer === "serves") comeBack(scene, away);
  else if (answer === "own") unserved(scene, away);
  else if (answer === "unreachable" && away.issuedAt !== undefined && Date.now() - away.issuedAt > UNREACHABLE_MS) {
    scene.unreachable.push(away.node.name);
    comeBack(scene, away, "back, but its port 10250 cannot be reached from here");
  } else {
    away.nextProbe = Date.now() + away.pause;
    away.pause = Math.min(away.pause * 2, LAST_PAUSE);
  }
  probePorts(scene);
}
