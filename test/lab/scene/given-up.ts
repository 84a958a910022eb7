/**
 * Files of a hardened API server that nobody has any more: it starts without the flags that name them, as the
 * operator says.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { commandOf, flags } from "../../../shared/manifests/command.ts";
import { FILES } from "../machine/hardened.ts";
import type { Machine } from "../machine/machine.ts";
import type { Check } from "../report/rehearsal.ts";
import { reasonIn, type Scenario, type Scene, sayAndWait, type } from "./scene.ts";

/** Files whose flags the API server can start without, or that get a stand-in. */
export const LOOSE_FILES = FILES.filter(({ flag }) => flag !== "encryption-provider-config");
const GIVEN_UP = LOOSE_FILES.map(({ flag }) => flag).filter((flag) => flag !== "audit-policy-file");

async function apiServers(node: Machine): Promise<string> {
  return (await node.run(["crictl", "ps", "-q", "--name", "^kube-apiserver$"])).stdout.trim();
}

async function startWithout(scene: Scene) {
  for (const node of scene.lab.controlPlanes) {
    const refused = await type(scene, node, "./bunw scripts/02-control-plane.ts", { exit: [3], part: 2 });
    const [line, names = ""] =
      /\.\/bunw scripts\/02-control-plane\.ts --start-without (\S+)/.exec(refused.stderr) ?? [];
    scene.checks.push({
      name: `part 2 on ${node.name} names the flags that it can start without`,
      ok: refused.ok && names.split(",").sort().join() === GIVEN_UP.toSorted().join(),
      detail: line ?? reasonIn(refused),
    });
    if (line) await type(scene, node, line, { part: 2 });
    expectWithout(scene, node);
  }
}

/** From here on the manifest is as before where it has these lines and no others. */
function expectWithout(scene: Scene, node: Machine) {
  const { manifests } = scene.before.nodes[node.name]!;
  const file = "manifests/kube-apiserver.yaml";
  const kept = manifests[file]!.filter((line) => !GIVEN_UP.some((flag) => line.includes(flag)));
  manifests[file] = [
    ...kept,
    ".spec.containers[kube-apiserver].command[--authorization-mode]=--authorization-mode=Node,RBAC",
  ];
}

/** The flags that were given up are gone, all others are there. */
function isWithout(node: Machine): Check {
  const command = flags(
    commandOf(parse(readFileSync(node.path("/etc/kubernetes/manifests/kube-apiserver.yaml"), "utf8"))),
  );
  const there = FILES.map(({ flag }) => flag).filter((flag) => command.get(flag) !== undefined);
  const modes = command.get("authorization-mode");
  return {
    name: `the API server of ${node.name} runs without what was given up, and with all else`,
    ok:
      there.toSorted().join() === ["audit-policy-file", "encryption-provider-config"].join() &&
      modes === "Node,RBAC",
    detail: `${there.join(", ")}; --authorization-mode=${modes}`,
  };
}

export const flagsToDrop = {
  nobodyHasRead: {
    title: "The API servers end, and with them what they have read",
    async run(scene) {
      const ended = async () =>
        (await Promise.all(scene.lab.controlPlanes.map(apiServers))).every((ids) => ids === "");
      await sayAndWait(scene, "the API servers' containers to end", ended, {
        seconds: 180,
        hint: "crictl ps in the node, with --keep",
      });
    },
  },
  startWithout: {
    title:
      "The operator types what part 2 prints: the API server starts without the flags whose files are lost for good",
    run: startWithout,
  },
  isWithout: {
    title: "The operator looks at the API server's flags",
    run: async (scene) => scene.checks.push(...scene.lab.controlPlanes.map(isWithout)),
  },
} satisfies Record<string, Scenario["lines"][number]>;
