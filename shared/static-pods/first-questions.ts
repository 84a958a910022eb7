/**
 * The questions to the API server of this node before a first screen. It may be deaf: a signal has stopped it, or its etcd hangs.
 * So a line says before that it is asked, all questions together have one limit, and none is asked twice. Its certificate is the first
 * one: a server that does not show it answers nothing else.
 */

import { endpointUrl } from "../pki/addresses.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { knock, servedPem } from "../pki/served.ts";
import { sayAloud } from "../run.ts";

const SECONDS = 10;

interface FirstAnswer {
  shown: PromiseSettledResult<string>;
  /** Milliseconds. */
  left: number;
}

/** A control plane node, asked once in a run. */
interface AskedNode {
  facts: ClusterFacts;
}

const answers = new WeakMap<AskedNode, Promise<FirstAnswer>>();

/** Its certificate in PEM. Errors: as `servedPem`. */
export async function firstServedCertificate(cp: AskedNode): Promise<string> {
  const { shown } = await firstAnswer(cp);
  if (shown.status === "rejected") throw shown.reason;
  return shown.value;
}

/** Milliseconds that other questions may take, together; 0: it is deaf. */
export async function millisecondsLeftToAsk(cp: AskedNode): Promise<number> {
  return (await firstAnswer(cp)).left;
}

function firstAnswer(cp: AskedNode): Promise<FirstAnswer> {
  const answer = answers.get(cp) ?? ask(cp.facts);
  answers.set(cp, answer);
  return answer;
}

async function ask({ advertiseAddress: host, bindPort }: ClusterFacts): Promise<FirstAnswer> {
  // where nobody listens the answer comes at once
  const isOpen = await knock(host, bindPort, SECONDS * 1000);
  const at = endpointUrl(host, bindPort);
  if (isOpen) sayAloud(`asks kube-apiserver of this node at ${at}, for ${SECONDS} s at most`);
  const began = performance.now();
  const [shown] = await Promise.allSettled([servedPem(host, bindPort, SECONDS * 1000)]);
  if (shown.status === "fulfilled")
    return { shown, left: Math.max(0, SECONDS * 1000 - (performance.now() - began)) };
  if (isOpen) sayAloud("it does not answer: what only it knows is not on this screen");
  return { shown, left: 0 };
}
