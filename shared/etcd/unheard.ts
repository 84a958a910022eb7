/**
 * An etcd that does not answer our own client is not dead for that. Where its container runs, its files are
 * sound and its port shows a certificate of our CA, it lives: then it is waited for, or it is named why it
 * cannot be asked, and nothing is stopped.
 */
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
import { EtcdRefusal, etcdClient } from "./client.ts";
import { OtherEtcd, proveSameEtcd } from "./identity.ts";
import { quorumOf } from "./other-members.ts";
import { ETCD_STARTS, ownEtcdRefuses, ownEtcdRuns, peersOf, silentPeers } from "./peers.ts";

/**
 * Whether this node's etcd is to be left alone, where its files are valid: it serves the data from before, or
 * it runs and waits for other members. Says which. Errors: Refused where it lives and does not answer us;
 * Fail where it holds other data.
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

/** Step 1.5 issues it, and etcd need not restart for that. */
const NO_CLIENT = new Fail("its client certificate is not valid", {
  hint: "continue: step 1.5 issues it, and 1.7 asks etcd",
});

async function proveServing(cp: ControlPlaneNode) {
  const proofs = await proveSameEtcd(etcdClient(cp.facts)!, cp);
  say(proofs[0]!);
}

async function ownContainer({ node }: ControlPlaneNode): Promise<Container | undefined> {
  return (await controlPlaneContainers(node.runtimeEndpoint)).find(({ name }) => name === "etcd");
}

/**
 * etcd reads its leaf certificates at each handshake, and its CA only when it starts. That the file is younger proves
 * nothing by itself: the same CA may have been copied there.
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

/** It lives, and did not answer: other members are missing, it has just started, or it cannot be asked. */
async function livesSilently(
  cp: ControlPlaneNode,
  fail: Fail,
  container: Container | undefined,
): Promise<boolean> {
  refuseUnasked(cp);
  const shows = () => ownEtcdRuns(cp);
  if (!(fail instanceof EtcdRefusal) && !(await comes("etcd to show its certificate", shows, ETCD_STARTS)))
    throw showsNothing(container!);
  const quorum = await quorumNow(cp);
  if (!quorum.isEnough) {
    say(`etcd runs, and is not stopped: it answers when ${quorum.words} run; now ${quorum.running}`);
    return true;
  }
  if (fail === NO_CLIENT) {
    say("etcd runs, and is not stopped: the certificate that asks it is issued in 1.5");
    return true;
  }
  const withoutUser = noUser(cp, fail);
  if (withoutUser) throw withoutUser;
  let last = fail;
  const again = async () => {
    const now = await failOf(() => proveServing(cp));
    last = now ?? last;
    return !now;
  };
  if (await comes("etcd to answer", again, 30)) return true;
  throw last instanceof OtherEtcd ? last : silent(last, container);
}

async function comes(what: string, probe: () => Promise<boolean>, seconds: number): Promise<boolean> {
  return (await inTime(what, probe, { seconds, hint: "crictl ps -a --name etcd; crictl logs ID" })) === true;
}

async function quorumNow({ data, node, facts }: ControlPlaneNode) {
  const peers = await peersOf(data, node.addresses);
  const silentIds = (await silentPeers(peers, facts)).map(({ id }) => id);
  return quorumOf(data.members, ({ id }) => !silentIds.includes(id));
}

/** Errors: Refused where etcd's manifest on disk says that this kit cannot ask it. */
export function refuseUnasked(cp: ControlPlaneNode) {
  const trouble = unasked(cp);
  if (trouble) throw trouble;
}

function unasked(cp: ControlPlaneNode): Refused | undefined {
  const path = manifestPath(cp, "etcd");
  const manifest = readableManifest(path);
  return manifest && gatewayTrouble(manifest, path);
}

/**
 * Why an etcd that runs turns this kit away, and so nobody else: it took our certificate and said no, or its
 * manifest has no way for us. Undefined where it may be in trouble. Whether it serves others, they have to
 * say.
 */
export async function turnedAway(cp: ControlPlaneNode, fail: Fail): Promise<Fail | undefined> {
  const known = unasked(cp) ?? noUser(cp, fail);
  if (!known && !(fail instanceof EtcdRefusal)) return undefined;
  return (await ownEtcdRuns(cp)) ? (known ?? fail) : undefined;
}

/** Part 2, where etcd did not answer: why, if it lives; else the same Fail. */
export async function whySilent(cp: ControlPlaneNode, fail: Fail): Promise<Fail> {
  const said = fail.cause instanceof Fail ? fail.cause : fail;
  const known = noUser(cp, said);
  if (known) return known;
  const lives = said instanceof EtcdRefusal && (await quorumNow(cp)).isEnough;
  return lives ? silent(said, await ownContainer(cp)) : fail;
}

/**
 * The gateway has no client certificate of its own, so etcd takes it for nobody (server/auth/store.go,
 * AuthInfoFromTLS).
 */
const AUTH = /user name is empty|permission denied|invalid auth token|authentication failed/;

function noUser({ facts }: ControlPlaneNode, { message }: Fail): Refused | undefined {
  if (!AUTH.test(message)) return undefined;
  const disable = etcdctlLine("--user root auth disable", facts, "-it");
  return new Refused(`etcd has its own authentication on, and this kit asks it as nobody: ${message}`, {
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

function silent({ message }: Fail, container: Container | undefined): Refused {
  const id = container?.id ?? "ID";
  return new Refused(`etcd runs here, its files are valid, and it does not answer this kit: ${message}`, {
    unchanged: true,
    hint: `see why: ${shell`crictl logs --tail 20 ${id}`}. ${EVEN_IF}; ${shell`crictl stop ${id}`}; then run the same line again`,
  });
}
