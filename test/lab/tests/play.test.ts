/**
 * A rehearsal that cannot recover expires soon: nothing is played after the line that failed, and nothing is
 * waited for.
 */
import { expect, test } from "bun:test";
import { Fail } from "../../../shared/fail.ts";
import { pretendScene } from "../../pretend/scene.ts";
import type { Output } from "../machine/machine.ts";
import { liveChecks } from "../report/questions.ts";
import { allLost } from "../scenarios/all-lost.ts";
import { play } from "../scene/play.ts";
import { type Scenario, sayAndWait, type } from "../scene/scene.ts";

const PART_1 = "./bunw scripts/01-etcd.ts";
const REFUSED: Partial<Output> = { exitCode: 1, stderr: "error: ca.key is lost\nhint: look for it\n" };

/** Two lines: the first types part 1, the second says that it was played. */
function scenario(played: string[], more: Partial<Scenario> = {}): Scenario {
  return {
    ...allLost,
    lines: [
      {
        title: "The operator repairs etcd",
        run: (scene) => type(scene, scene.lab.controlPlanes[0]!, PART_1),
      },
      { title: "The operator waits for the nodes", run: async () => played.push("the second line") },
    ],
    ...more,
  };
}

function listening(answers: Record<string, Partial<Output>>) {
  const said: string[] = [];
  const { scene, typed } = pretendScene(answers);
  scene.say = (line) => said.push(line);
  return { scene, typed, said };
}

test("play() goes to the end while every command ends as expected", async () => {
  const { scene } = listening({});
  const played: string[] = [];
  await play(scenario(played), scene);
  expect([played.length, scene.failed]).toEqual([1, undefined]);
});

test("play() stops after the line in which a command failed, and says which", async () => {
  const { scene, said } = listening({ [PART_1]: REFUSED });
  const played: string[] = [];
  await play(scenario(played), scene);
  expect(played).toEqual([]);
  expect(scene.failed).toBe(`"${PART_1}" on cp1 failed: ca.key is lost (hint: look for it)`);
  expect(said.at(-1)).toContain(scene.failed!);
});

test("what a script waits for is said while it waits: the 600 s that a command may take are not silent", async () => {
  const waits =
    "  still waiting for w2 to renew its Lease (since 02:14:05, until 02:24:05 at most). If it takes too long: leave it out";
  const { scene, said } = listening({
    [PART_1]: { ...REFUSED, stderr: `== 3.6 Wait\n${waits}\n${REFUSED.stderr}` },
  });
  await type(scene, scene.lab.controlPlanes[0]!, PART_1);
  expect(said).toEqual([`cp1# ${PART_1}`, waits, expect.stringContaining("  exit 1 after")]);
});

test("play() goes on where the scenario says that commands may fail", async () => {
  const { scene } = listening({ [PART_1]: REFUSED });
  const played: string[] = [];
  await play(scenario(played, { commandsMayFail: true }), scene);
  expect([played.length, scene.failed]).toEqual([1, undefined]);
});

test("play() stops at a Fail, which is a check of the record", async () => {
  const { scene } = listening({});
  const played: string[] = [];
  const lines = [
    { title: "The API server stops", run: () => Promise.reject(new Fail("it runs", { hint: "stop it" })) },
  ];
  await play(scenario(played, { lines: [...lines, ...scenario(played).lines] }), scene);
  expect([played.length, scene.failed]).toEqual([0, "it runs (hint: stop it)"]);
  expect(scene.checks).toEqual([{ name: "The API server stops", ok: false, detail: "it runs" }]);
});

test("sayAndWait() says what it waits for, how long, and the way out", async () => {
  const { scene, said } = listening({});
  let asked = 0;
  expect(
    await sayAndWait(scene, "the pods to be Ready", () => ++asked > 2, {
      seconds: 90,
      hint: "kubectl get pods",
    }),
  ).toBe(true);
  expect(said).toEqual(["  waits for the pods to be Ready, at most 90 s (kubectl get pods)"]);
});

test("sayAndWait() asks once, and does not wait, when the repair has failed", async () => {
  const { scene, said } = listening({});
  scene.failed = "part 1 failed";
  let asked = 0;
  const waiting = sayAndWait(scene, "the pods to be Ready", () => ++asked > 2, {
    seconds: 90,
    hint: "kubectl get pods",
  });
  await expect(waiting).rejects.toThrow("the pods to be Ready: not so");
  expect([asked, said.length]).toEqual([1, 0]);
});

const NO_API = { exitCode: 1, stderr: "The connection to the server 10.250.0.11:6443 was refused\n" };

test("after a failed repair each question about the cluster is asked once, and nothing where the API does not answer", async () => {
  const { scene, typed } = listening({});
  for (const node of scene.lab.nodes) {
    node.run = async (command) => {
      typed.push(command.join(" "));
      return { stdout: "", ...NO_API };
    };
  }
  scene.failed = "part 1 failed";
  const checks = await liveChecks(scene);
  expect(checks.filter(({ ok }) => ok)).toEqual([]);
  expect(checks.length).toBeGreaterThan(scene.lab.nodes.length * 2);
  expect(typed).toEqual([expect.stringContaining("--raw /readyz")]);
});
