/**
 * Healthy stays healthy: clusters that differ from the usual one in one thing each (test/pretend/unlike-*.ts). On each every script of parts 0 to 5
 * stops nothing, changes no file and no object, and ends well, or refuses by name. And the same clusters with /etc/kubernetes lost: they come back
 * with what they had, or are refused before anything is touched.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { runner } from "../pretend/many-runs.ts";
import { bringBack, notBack, SCRIPTS, type Seen, type Unlike, unlike } from "../pretend/unlike.ts";
import { ADDONS } from "../pretend/unlike-addons.ts";
import { CAS } from "../pretend/unlike-cas.ts";
import type { Place } from "../pretend/unlike-cluster.ts";
import { remove } from "../pretend/unlike-edits.ts";
import { ENDPOINTS } from "../pretend/unlike-endpoints.ts";
import { FLAGS } from "../pretend/unlike-flags.ts";
import { HOSTS } from "../pretend/unlike-host.ts";
import { MEMBERS } from "../pretend/unlike-members.ts";
import { NODES } from "../pretend/unlike-nodes.ts";

setDefaultTimeout(300_000);

const runs = runner();
afterAll(() => runs[Symbol.dispose]());

const ROWS: Unlike[] = [...FLAGS, ...ENDPOINTS, ...CAS, ...NODES, ...MEMBERS, ...HOSTS, ...ADDONS];

describe.each(ROWS.map((row) => [row.name, row] as const))("%s", (_, row) => {
  let cluster: Awaited<ReturnType<typeof unlike>> | undefined;
  const end = () => {
    cluster?.[Symbol.dispose]();
    cluster = undefined;
  };
  beforeAll(async () => {
    cluster = await unlike(row, runs);
  });
  afterAll(end);

  test.each(SCRIPTS)("%s leaves it alone", async (script) => {
    const { typed = script, code = 3, names } = row.ends?.[script] ?? { code: 0, names: undefined };
    const seen = await cluster!.run(typed);
    expectUntouched(seen, [code], names);
    if (script !== "00-assess") return;
    expect(seen.stdout).not.toMatch(/scripts\/0[1-4]-/);
    if (row.says) expect(seen.stdout).toMatch(row.says);
  });

  test("with /etc/kubernetes lost: it comes back, or is refused", async () => {
    end();
    const { last, before, after } = await bringBack(row, runs);
    if (row.lost?.refuses) {
      const [script, names] = row.lost.refuses;
      expect(last.script).toBe(script);
      return expectUntouched(last, [3], names);
    }
    expect({ script: last.script, exitCode: last.exitCode, said: lastWords(last) }).toMatchObject({
      script: "02-control-plane",
      exitCode: 0,
    });
    expect(notBack(before, after, row.lost?.without)).toEqual([]);
  });
});

/** What this table can see: a run that changes a file, an object, or what runs. */
test.each([
  ["a file", "02-control-plane", "etc/kubernetes/scheduler.conf", (place: Place) => remove(place, "/etc/kubernetes/scheduler.conf")],
  [
    "an object",
    "02-control-plane",
    "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    (place: Place) => void delete place.objects["clusterrolebindings/kubeadm:cluster-admins"],
  ],
  ["what runs", "01-etcd", "systemctl stop kubelet", (place: Place) => remove(place, "/etc/kubernetes/pki/etcd/peer.crt")],
])("a cluster that is not well: it is seen that a script changes %s", async (name, script, changes, change) => {
  using cluster = await unlike({ name, who: "this test", change }, runs);
  const { changed, exitCode } = await cluster.run("00-assess");
  expect({ changed, exitCode }).toEqual({ changed: [], exitCode: name === "an object" ? 0 : 2 });
  expect((await cluster.run(script)).changed).toContain(changes);
});

test("an etcd that came up empty is no cluster that only lacks its kubeadm-config", async () => {
  const change = ({ objects }: Place) => {
    for (const key of Object.keys(objects)) if (/kubeadm-config|^(deployments|daemonsets)\//.test(key)) delete objects[key];
  };
  using cluster = await unlike({ name: "empty", who: "this test", change }, runs);
  const { exitCode, stdout } = await cluster.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2, stdout: expect.stringContaining("!INCOMPLETE!") });
});

function expectUntouched(seen: Seen, codes: number[], says?: RegExp) {
  const { changed, exitCode } = seen;
  expect({ changed, endsWell: codes.includes(exitCode), exitCode, said: lastWords(seen) }).toMatchObject({ changed: [], endsWell: true });
  if (says) expect(seen.stdout + seen.stderr).toMatch(says);
}

/** The last words, for who reads a red test. */
function lastWords({ stdout, stderr }: Seen): string {
  return [stdout, stderr].map((text) => text.slice(-1500)).join("\n-----\n");
}
