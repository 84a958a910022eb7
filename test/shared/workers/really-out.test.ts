/** Which of those that are left out really are away, and who is on again. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { LeftOut } from "../../../shared/again.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { failOf } from "../../../shared/fail.ts";
import { hear, keepWords, wordsOf } from "../../../shared/node/words.ts";
import { mode } from "../../../shared/run.ts";
import { countOnAgain, reallyOut } from "../../../shared/workers/really-out.ts";
import { type ApiOptions, NO_TLS, pretendApi } from "../../pretend/api.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { LEASES, lease, living } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();

async function placeOf(box: { dir: string }) {
  write(`${box.dir}/etc/kubernetes/pki/ca.crt`, ca.cert);
  return controlPlaneOf(await pretendData());
}

interface Row {
  out: LeftOut;
  objects?: Record<string, object>;
  living?: string[];
  dryRun?: true;
}

const W = (seconds: number, name = "w1") => ({ [`${LEASES}/${name}`]: lease(seconds) });

test.each<[string, Row, LeftOut | string, string[]]>([
  ["nobody is", { out: { without: [], lost: [] }, objects: W(0) }, { without: [], lost: [] }, []],
  ["no Lease is there", { out: { without: ["w1"], lost: [] } }, { without: ["w1"], lost: [] }, []],
  [
    "its Lease is old",
    { out: { without: ["w1"], lost: ["w2"] }, objects: { ...W(4000), ...W(4000, "w2") } },
    { without: ["w1"], lost: ["w2"] },
    [],
  ],
  [
    "one of two is here",
    { out: { without: ["w1", "w2"], lost: [] }, objects: { ...W(0), ...W(4000, "w2") }, living: ["w1"] },
    { without: ["w2"], lost: [] },
    ["w1: it renews its Lease, so it is here, and counts"],
  ],
  [
    "a lost one lives",
    { out: { without: [], lost: ["w1"] }, objects: W(0), living: ["w1"] },
    "w1 is not lost: it renews its Lease",
    [],
  ],
  [
    "a dry run waits for nobody",
    { out: { without: ["w1"], lost: [] }, objects: W(0), dryRun: true },
    { without: [], lost: [] },
    [],
  ],
  [
    "a dry run, and one was lost a moment ago",
    { out: { without: [], lost: ["w1"] }, objects: W(34), dryRun: true },
    { without: [], lost: ["w1"] },
    [],
  ],
  [
    "a dry run, and its Lease is old",
    { out: { without: ["w1"], lost: [] }, objects: W(4000), dryRun: true },
    { without: ["w1"], lost: [] },
    [],
  ],
])("who is left out: %s", async (_, { out, objects = {}, dryRun = false, ...row }, expected, said) => {
  using box = sandbox();
  const cp = await placeOf(box);
  const on = living(row.living ?? []) as NonNullable<ApiOptions["on"]>;
  using server = pretendApi({ objects, on });
  mode.dryRun = dryRun;
  let left: LeftOut | undefined;
  const refused = await failOf(async () => {
    left = await reallyOut(cp, new KubeApi({ server: server.url, ca: NO_TLS }), out);
  });
  expect(refused?.message ?? left).toEqual(expected);
  expect(box.said.filter((line) => line.includes("so it is here"))).toEqual(said);
});

/** Of this test alone. At the other one nobody listens, as a firewall says it of a machine that is off. */
const [OPEN, CLOSED] = ["127.83.4.1", "127.83.4.2"];

test("open counts a worker that an earlier line left out, and whose machine is on; not one that this line names", async () => {
  using box = sandbox();
  const cp = await placeOf(box);
  const nodes = cp.cluster.nodes.map((node) => {
    const ips = [node.name === "w2" ? CLOSED : OPEN];
    return { ...node, claimed: { ...node.claimed, ips } };
  });
  using _kubelet = Bun.serve({ hostname: OPEN, port: 10250, fetch: () => new Response() });
  const out = { without: ["m1", "w1", "w2"], lost: ["m9"] };
  const counted = () => countOnAgain({ cluster: { ...cp.cluster, nodes } }, out);
  hear({ without: out.without });
  keepWords("m1");
  expect(await counted()).toEqual({ ...out, lost: ["m9"] });
  Object.assign(mode, { began: new Date(), dryRun: false });
  expect(await counted()).toEqual({ without: ["m1", "w2"], lost: ["m9"] });
  expect(wordsOf("without").map(({ value }) => value)).toEqual(["m1", "w2"]);
  expect(box.said).toContain(
    "w2 does not answer, and gets no token. Is it on? ./bunw scripts/words.ts --back w2",
  );
  const ended = expect.stringMatching(/: w1 is away: not any more, its machine is on again$/);
  expect(box.said).toContainEqual(ended);
});
