/** A member that is silent at one question is asked again, where what follows cannot be taken back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { proveEtcd } from "../../../shared/etcd/all-members.ts";
import { lookAtPeers } from "../../../shared/etcd/other-members.ts";
import { settledPeers } from "../../../shared/etcd/peers.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { failOf } from "../../../shared/fail.ts";
import { actionsFor, type NewCas } from "../../../shared/pki/actions.ts";
import { CERTS, certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { mode } from "../../../shared/run.ts";
import { optionsForEnsure } from "../../../shared/static-pods/work.ts";
import { ADDRESS, FACTS } from "../../pretend/cluster.ts";
import {
  LOST,
  sameEtcd,
  serveDeaf,
  serveEtcd,
  serveOtherMember,
  THIRD,
  THIRD_AT,
} from "../../pretend/etcd.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { MEMBER, type NodeOptions } from "../../pretend/node.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

/** No machine can be reached here, and none says no. */
const SILENT = { ...LOST, peerURLs: ["https://255.255.255.255:2380"] };
const PKI = "/etc/kubernetes/pki";
const SHARED = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };

/** For whom step 1.1 would wait. */
async function waits(other: typeof LOST, options: NodeOptions, newCas?: NewCas, lostOn: string[] = []) {
  return await lookAt({ ...options, members: [MEMBER, other] }, async (_, said) => {
    const cp = await controlPlaneToRepair(undefined);
    mode.dryRun = true;
    try {
      await lookAtPeers(cp, actionsFor(SHARED, cp.facts, optionsForEnsure(cp, newCas)), {
        typed: lostOn,
        saved: lostOn,
      });
    } finally {
      mode.dryRun = false;
    }
    return said.flatMap((line) => line.match(/would wait for: etcd on (\S+)/)?.[1] ?? []);
  });
}

test("new keys beside a machine that says nothing wait for it; not beside one that says that no etcd runs", async () => {
  expect(await waits(SILENT, {}, "all")).toEqual(["m2"]);
  expect(await waits(LOST, {}, "all")).toEqual([]);
});

test("nobody waits where the operator has looked there, nor where no key is made", async () => {
  expect(await waits(SILENT, {}, "all", ["m2"])).toEqual([]);
  expect(await waits(SILENT, { kind: "healthy control plane node" })).toEqual([]);
});

const M2_AT = THIRD_AT.replace(/13$/, "12");
const M2 = { ...LOST, peerURLs: [`https://${M2_AT}:2380`] };

/** Part 2 on the first of three members, with --lost m2; `serve` begins when m2 has been silent once. */
async function withoutM2(serve: (root: string) => Promise<() => Disposable>) {
  return await lookAt(
    { kind: "healthy control plane node", members: [MEMBER, M2, THIRD] },
    async ({ root, stored }) => {
      const keys = new Map(stored);
      const start = await serve(root);
      let served: Disposable | undefined;
      keys.get = (name) => {
        if (name.endsWith("/leases/kube-node-lease/m2")) served ??= start();
        return Map.prototype.get.call(keys, name);
      };
      const state = { ...sameEtcd(stored), keys, members: [MEMBER, M2, THIRD] };
      using _etcd = serveEtcd(root, state);
      using _third = await serveOtherMember(root, state, THIRD_AT);
      const cp = await controlPlaneToRepair(undefined);
      const fail = await failOf(async () => {
        const { takeOut } = await proveEtcd(cp, { without: [], lost: ["m2"] }, []);
        await takeOut();
      });
      served?.[Symbol.dispose]();
      return { refused: fail?.message, left: state.members.map(({ name }) => name) };
    },
  );
}

test("a lost member whose etcd answers at the second question is not taken out", async () => {
  const etcd = async (root: string) => {
    const [cert, key] = ["crt", "key"].map((end) => readFileSync(`${root}${PKI}/etcd/ca.${end}`, "utf8"));
    const tls = await issueLeaf(certRow("etcd-peer"), { cert: cert!, key: key! }, FACTS);
    return () => {
      const server = Bun.serve({ hostname: M2_AT, port: 2380, tls, fetch: () => new Response() });
      return { [Symbol.dispose]: () => void server.stop(true) };
    };
  };
  expect(await withoutM2(etcd)).toEqual({
    refused: `m2 is not lost: its etcd answers at ${M2_AT}:2380`,
    left: ["m1", "m2", "m3"],
  });
  expect(await withoutM2(async () => () => serveDeaf(M2_AT))).toEqual({
    refused: expect.stringContaining(`The server at ${M2_AT}:2380 may be etcd of m2`),
    left: ["m1", "m2", "m3"],
  });
});

test("part 2 asks each member of etcd once for its list, and for its status once before the keys are compared", async () => {
  const asked = new Map<string, number>();
  const count = (what: string) => asked.set(what, (asked.get(what) ?? 0) + 1);
  const at = { kind: "healthy control plane node", members: [MEMBER, THIRD] } as const;
  await lookAt({ ...at, members: [...at.members] }, async ({ root, stored }) => {
    const state = { ...sameEtcd(stored), members: [MEMBER, THIRD], asked: count };
    using _etcd = serveEtcd(root, state);
    using _third = await serveOtherMember(root, state, THIRD_AT);
    await proveEtcd(await controlPlaneToRepair(undefined), { without: [], lost: [] }, []);
  });
  const times = (where: string, path: string) => asked.get(`${where} /v3/${path}`) ?? 0;
  expect({
    list: times(ADDRESS, "cluster/member/list"),
    // before: once; while they are compared: once more, and the other one until it has caught up
    own: times(ADDRESS, "maintenance/status"),
    other: times(THIRD_AT, "maintenance/status"),
  }).toEqual({ list: 1, own: 2, other: 3 });
});

test("a lost member that stays silent is taken out", async () => {
  const nobody = async () => () => ({ [Symbol.dispose]: () => undefined });
  expect(await withoutM2(nobody)).toEqual({ refused: undefined, left: ["m1", "m3"] });
});

const NOTHING = { shows: "nothing" as const, servedPem: undefined };
const peer = { id: "2", name: "m2", isLearner: false, host: "127.0.0.1", port: 0, ...NOTHING };
const isOpen = ({ servedPem }: { servedPem: string | undefined }) => servedPem === undefined;
const doubt = { pki: FACTS, isOpen, to: "to answer", seconds: 60, hint: () => "look there" };

test("who answers at the second question is seen; who never does is as before when the time is over", async () => {
  using _box = sandbox();
  const tls = await issueLeaf(certRow("etcd-peer"), await issueCa(certRow("etcd-ca"), FACTS), FACTS);
  using server = Bun.serve({ hostname: "127.0.0.1", port: 0, tls, fetch: () => new Response() });
  const [seen] = await settledPeers([{ ...peer, port: server.port! }], doubt);
  expect(seen?.servedPem?.trim()).toBe(tls.cert.trim());
  using _patience = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0.0005" });
  server.stop(true);
  expect(await settledPeers([{ ...peer, port: server.port! }], doubt)).toMatchObject([peer]);
});
