/**
 * 1,000 workers that ask for a client certificate, on a real API server: with a bootstrap token each, and
 * with one token for all, in turns. `open`, the requests with their tokens, the approvals, and `close`.
 */

import { ANY_WORKER, closeJoining, openJoining, tokenUsers } from "../../../shared/api/bootstrap-tokens.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { KnownNode } from "../../../shared/facts/known-node.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import { inParallel } from "../../../shared/in-parallel.ts";
import { madeAt } from "../../../shared/pki/certificate.ts";
import { type Csr, isPending } from "../../../shared/workers/csr.ts";
import { waitForNodes } from "../../../shared/workers/wait.ts";
import { CSRS, clientCsr } from "../../pretend/csrs.ts";
import { type ApiLab, apiLab } from "../machine/api-lab.ts";

const ROUNDS = 3;

/** Requests at the same time, of all workers together. */
const WIDTH = 20;

/** Seconds. */
type Round = Record<"open" | "ask" | "approve" | "close", number>;

export async function joinsLine(workers: number): Promise<string> {
  await using lab = await apiLab({ flags: ["--enable-bootstrap-token-auth=true"] });
  const names = Array.from({ length: workers }, (_, i) => `w${i}`);
  const rounds: Record<"each" | "one", Round[]> = { each: [], one: [] };
  // The first of each warms the API server up.
  for (let i = 0; i <= ROUNDS; i++)
    for (const kind of ["one", "each"] as const) {
      const round = await joinAll(lab, names, kind === "each");
      if (i > 0) rounds[kind].push(round);
    }
  const [each, one] = [median(rounds.each), median(rounds.one)];
  const shown = ({ open, ask, approve, close }: Round) =>
    [open, ask, approve, close].map((time) => time.toFixed(1)).join(" + ");
  const join = (each.ask + each.approve) / (one.ask + one.approve);
  return `${workers} workers, a token each: ${shown(each)} s (open, ask, approve, close); one token for all: ${shown(one)} s; asking and approval ${join.toFixed(2)}x`;
}

async function joinAll(
  { operator, admin, server, caPem }: ApiLab,
  names: readonly string[],
  hasOwn: boolean,
): Promise<Round> {
  const time = stopwatch();
  const tokens = await openJoining(operator, hasOwn ? names : [ANY_WORKER]);
  const open = time();
  await inParallel(names, WIDTH, async (name) => {
    const { metadata, spec } = await clientCsr({
      name: `csr-${name}`,
      subject: `O=system:nodes, CN=system:node:${name}`,
    });
    const { signerName, request, usages } = spec;
    const holder = new KubeApi({ server, ca: caPem, token: tokens.get(hasOwn ? name : ANY_WORKER)! });
    await holder.create(CSRS, { metadata: { name: metadata.name }, spec: { signerName, request, usages } });
  });
  const ask = time();
  const expected = names.map(
    (name): KnownNode => ({
      name,
      uid: name,
      controlPlane: false,
      claimed: { names: [name], ips: [] },
      places: [],
    }),
  );
  const nodesByName = new Map(expected.map((node) => [node.name, node]));
  const joining = {
    tokenUsers: await tokenUsers(operator),
    nodesByName,
    without: [],
    renewing: new Set<string>(),
    given: new Map<string, string>(),
  };
  // Nobody renews a Lease here: it ends with that when it has approved what it saw.
  await failOf(() =>
    waitForNodes({
      api: operator,
      expected,
      caPem,
      since: madeAt(caPem),
      serving: false,
      joining,
      seconds: 0,
    }),
  );
  const approve = time();
  await closeJoining(operator);
  const close = time();
  const requests = await admin.list<Csr>(CSRS);
  const pending = requests.filter(isPending).length;
  if (requests.length !== names.length || pending > 0)
    throw new Fail(`${pending} of ${requests.length} requests of ${names.length} workers are not approved`, {
      hint: "see kube-apiserver.log",
    });
  await inParallel(requests, WIDTH, ({ metadata }) => admin.delete(`${CSRS}/${metadata.name}`));
  return { open, ask, approve, close };
}

/** Seconds since it was asked last. */
function stopwatch(): () => number {
  let last = performance.now();
  return () => {
    const before = last;
    last = performance.now();
    return (last - before) / 1000;
  };
}

function median(rounds: readonly Round[]): Round {
  return rounds.toSorted((a, b) => sum(a) - sum(b))[Math.floor(rounds.length / 2)]!;
}

function sum(round: Round): number {
  return Object.values(round).reduce((all, time) => all + time, 0);
}
