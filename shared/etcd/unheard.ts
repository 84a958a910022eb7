/**
 * An etcd that does not answer our client may still be alive. It lives if its container runs, its files are
 * valid and its port shows a certificate of our CA: then scripts wait for it, or say why it cannot be asked,
 * and stop nothing.
 */
import { type EtcdClient, EtcdRefusal, etcdClient } from "../etcd-location/client.ts";
import { etcdctlLine, gatewayTrouble } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail, failOf, Refused } from "../fail.ts";
import { stat } from "../files/files.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import { type Container, controlPlaneContainers } from "../node/containers.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { examine } from "../pki/examine.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { inTime } from "../wait-for.ts";
import { OtherEtcd, proveSameEtcd } from "./identity.ts";
import { ETCD_STARTS, ownEtcdRefuses, ownEtcdRuns, survey } from "./peers.ts";

/**
 * Whether to leave this node's etcd alone. With valid files, it serves the old data, or it runs and waits for
 * other members; says which. Errors: Refused if it lives and does not answer us; Fail if it holds other data.
 */
export async function etcdLives(cp: ControlPlaneNode): Promise<boolean> {
  const isClient = examine(certRow("etcd-healthcheck-client"), cp.facts).state === "ok";
  const fail = isClient ? await failOf(() => proveServing(cp)) : NO_CLIENT;
  if (!fail) return true;
  if (fail instanceof OtherEtcd) throw fail;
  const container = await ownContainer(cp);
  const why = fail instanceof EtcdRefusal ? undefined : await whyDead(container, fail, cp);
  if (why) {
    say(why);
    return false;
  }
  return await livesSilently(cp, fail, container);
}

/** Step 1.5 issues it; etcd need not restart for that. */
const NO_CLIENT = new Fail("its client certificate is not valid", {
  hint: "continue: step 1.5 issues it, and 1.7 asks etcd",
});

async function proveServing(cp: ControlPlaneNode) {
  const { proofs } = await proveSameEtcd(etcdClient(cp.facts)!, cp);
  say(proofs[0]!);
}

async function ownContainer({ node }: ControlPlaneNode): Promise<Container | undefined> {
  return (await controlPlaneContainers(node.runtimeEndpoint)).find(({ name }) => name === "etcd");
}

/**
 * etcd reads its leaf certificates at each handshake, and its CA only at its start. A newer file proves
 * nothing by itself: it may be a copy of the same CA.
 */
async function whyDead(
  container: Container | undefined,
  { message }: Fail,
  cp: ControlPlaneNode,
): Promise<string | undefined> {
  if (!container) return `etcd does not serve yet: ${message}`;
  const ca = certPath(certRow("etcd-ca"), cp.facts.certificatesDir);
  return stat(ca)!.modified > container.created && (await ownEtcdRefuses(cp))
    ? `etcd runs, and has not read ${ca}, which is younger: it refuses its certificates`
    : undefined;
}

/** It lives and did not answer: other members are missing, it has just started, or it cannot be asked. */
async function livesSilently(
  cp: ControlPlaneNode,
  fail: Fail,
  container: Container | undefined,
): Promise<boolean> {
  refuseUnasked(cp);
  const shows = () => ownEtcdRuns(cp);
  if (
    !(fail instanceof EtcdRefusal) &&
    !(await happensInTime("etcd to show its certificate", shows, ETCD_STARTS))
  )
    throw showsNothing(container!);
  const { quorum } = await survey(cp);
  if (!quorum.isEnough) {
    say(`etcd runs, and is not stopped: it answers when ${quorum.words} run; now ${quorum.running}`);
    return true;
  }
  if (fail === NO_CLIENT) {
    say("etcd runs, and is not stopped: step 1.5 issues our certificate for it");
    return true;
  }
  const withoutUser = noUser(cp, fail);
  if (withoutUser) throw withoutUser;
  let last = fail;
  const probe = async () => {
    const now = await failOf(() => proveServing(cp));
    last = now ?? last;
    return !now;
  };
  if (await happensInTime("etcd to answer", probe, 30)) return true;
  throw last instanceof OtherEtcd ? last : noAnswer(last, container);
}

async function happensInTime(what: string, probe: () => Promise<boolean>, seconds: number): Promise<boolean> {
  return (await inTime(what, probe, { seconds, hint: "crictl ps -a --name etcd; crictl logs ID" })) === true;
}

/** Errors: Refused if etcd's manifest on disk shows that this kit cannot ask it. */
export function refuseUnasked(cp: ControlPlaneNode) {
  const trouble = refusalToAsk(cp);
  if (trouble) throw trouble;
}

function refusalToAsk(cp: ControlPlaneNode): Refused | undefined {
  const path = manifestPath(cp, "etcd");
  const manifest = readableManifest(path);
  return manifest && gatewayTrouble(manifest, path);
}

/**
 * Why a running etcd refuses this kit alone: it accepted our certificate and refused, or its manifest has no
 * port for us. Undefined if it may be in trouble. Whether it serves others, only they can say.
 */
export async function turnedAway(cp: ControlPlaneNode, fail: Fail): Promise<Fail | undefined> {
  const known = refusalToAsk(cp) ?? noUser(cp, fail);
  if (!known && !(fail instanceof EtcdRefusal)) return undefined;
  return (await ownEtcdRuns(cp)) ? (known ?? fail) : undefined;
}

/** Why etcd did not answer part 2, if it lives; else the same Fail. */
export async function whySilent(cp: ControlPlaneNode, fail: Fail): Promise<Fail> {
  const cause = fail.cause instanceof Fail ? fail.cause : fail;
  const known = noUser(cp, cause);
  if (known) return known;
  const lives = cause instanceof EtcdRefusal && (await survey(cp)).quorum.isEnough;
  return lives ? noAnswer(cause, await ownContainer(cp)) : fail;
}

/**
 * The gateway has no client certificate of its own, so etcd treats it as nobody (server/auth/store.go,
 * AuthInfoFromTLS).
 */
const AUTH = /user name is empty|permission denied|invalid auth token|authentication failed/;

function noUser({ facts }: ControlPlaneNode, { message }: Fail): Refused | undefined {
  if (!AUTH.test(message)) return undefined;
  const disable = etcdctlLine("--user root auth disable", facts, "-it");
  return new Refused(`etcd's own authentication is on, and this kit has no user there: ${message}`, {
    unchanged: true,
    hint: `type for the time of the repair: ${disable}; then run the same line again. auth enable when 05-verify is well`,
  });
}

const EVEN_IF = "If it hangs: systemctl stop kubelet";

function showsNothing({ id, created }: Container): Refused {
  return new Refused(
    `etcd's container runs since ${created.toISOString().slice(0, 19)}Z, and its port shows no certificate yet`,
    {
      unchanged: true,
      hint: `see whether it still reads its data: ${shell`crictl logs --tail 20 ${id}`}. ${EVEN_IF}; ${shell`crictl stop ${id}`}; then run the same line again`,
    },
  );
}

function noAnswer({ message }: Fail, container: Container | undefined): Refused {
  const id = container?.id ?? "ID";
  return new Refused(`etcd runs here, its files are valid, and it does not answer this kit: ${message}`, {
    unchanged: true,
    hint: `see why: ${shell`crictl logs --tail 20 ${id}`}. ${EVEN_IF}; ${shell`crictl stop ${id}`}; then run the same line again`,
  });
}

export const ASK_UNIT = "systemctl status etcd; journalctl -u etcd -n 50";

export function unitSilent({ endpoint }: Pick<EtcdClient, "endpoint">, { message }: Fail): Refused {
  return new Refused(`etcd at ${endpoint} does not answer: ${message}`, {
    unchanged: true,
    hint: `repair it where it runs, as this kit starts only the etcd that kubeadm makes: ${ASK_UNIT}; on its other members, too. If it has stopped: systemctl start etcd on each. Then run the same line again`,
  });
}
