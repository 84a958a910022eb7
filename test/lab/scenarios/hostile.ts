/** The cluster has a tenant, a worker and a user of a node who wait for the day on which root looks for keys. The same disasters, with them. */

import { attackIsInEtcd } from "../attacker/at-the-wreck.ts";
import { makeAttacker } from "../attacker/attacker.ts";
import { authenticationFromFile, backupOfAuthentication, deletedLitter } from "../attacker/disk-of-control-plane.ts";
import { filesOfHis, findings, fingerprints, type Played } from "../attacker/findings.ts";
import { folderLaidOut } from "../attacker/folder.ts";
import { compromised, INTRUDER_PACKAGES, intruderHasAsked, intruderShutOut, poisoned, workerAttacks } from "../attacker/intruder.ts";
import { played } from "../attacker/objects.ts";
import { mirrorsThere, tenantAttacks, tenantShutOut } from "../attacker/tenant.ts";
import type { Machine } from "../machine/machine.ts";
import { followRunbook } from "../scene/follow.ts";
import { type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";
import { fleet } from "./fleet.ts";
import { pkiLostAlive } from "./salvage.ts";
import { undelete } from "./undelete.ts";

type Line = Scenario["lines"][number];

interface Hostility {
  /** Lines before he comes; what he does follows, and then the disaster. */
  quiet?: Line[];
  /** The disaster and its repair. */
  disaster: (played: () => Played) => Line[];
  /** Workers join anew, with a bootstrap token. */
  joins: boolean;
}

const HELD: Line = { title: "See that what he laid out is in etcd's data", run: async (scene) => attackIsInEtcd(scene) };

/** One worker of the two is his. */
function hostile(base: Scenario, name: string, { quiet = [], disaster, joins }: Hostility): Scenario {
  let attack: Played;
  const oldKeys = base.oldKeys ?? false;
  return {
    ...base,
    name,
    title: `a tenant, a worker and a user of a node attack beforehand; then: ${base.title}`,
    workers: 2,
    packages: [...(base.packages ?? []), ...INTRUDER_PACKAGES],
    lines: [
      ...quiet,
      {
        title: "A tenant, a worker and a user of a node lay out what they can",
        run: async (scene) => (attack = await layOut(scene, joins)),
      },
      ...disaster(() => attack),
      {
        title: "Look for what is the attacker's",
        run: async (scene) => scene.checks.push(...(await findings(scene, attack, { oldKeys }))),
      },
      { title: "Take his rights and his worker away from him", run: shutOut },
    ],
  };
}

async function layOut(scene: Scene, joins: boolean): Promise<Played> {
  const attacker = await makeAttacker();
  const keys = fingerprints(scene.lab);
  if (played("folder")) await folderLaidOut(scene, scene.lab.workers[0]!);
  const tokens = await tenantAttacks(scene, attacker);
  if (played("worker")) await workerAttacks(scene, { joins });
  if (played("mirrors")) await mirrorsThere(scene);
  if (played("worker")) await poisoned(scene);
  return { attacker, tokens, keys };
}

async function shutOut(scene: Scene) {
  if (played("worker")) await intruderShutOut(scene);
  await tenantShutOut(scene);
}

/** Part 3 is closed only when he has asked for all that he wants. */
const beforeClose = async (command: string, { scene }: { scene: Scene; node: Machine }) => {
  if (played("worker") && command.startsWith("./bunw scripts/03-workers.ts close")) await intruderHasAsked(scene);
};

/** What close said of a request that names what two nodes say they have: the honest one's waits for a person's word. */
const CONTESTED = /^\s*(\S+): (csr-\S+): ip "\S+" is what .* each say they have$/gm;

/** Close has named what it left alone: an operator takes the worker away from him, looks whose the address is, and closes again. */
async function operatorLooks(scene: Scene) {
  if (!played("worker")) return;
  const { lab } = scene;
  await intruderShutOut(scene, { anew: true });
  const said = scene.steps.map(({ stdout, stderr }) => `${stdout}\n${stderr}`).join("\n");
  const honest = [...said.matchAll(CONTESTED)].filter(([, name]) => name !== compromised(lab).nodeName);
  const requests = [...new Set(honest.map(([, , request]) => request!))];
  scene.checks.push({
    name: "close is not held up by what he claims, and names whose certificate waits for a person",
    ok: requests.length > 0,
    detail: requests.join(", ") || "nothing is named",
  });
  const cp = lab.controlPlanes[0]!;
  for (const request of requests) await type(scene, cp, `kubectl --kubeconfig /etc/kubernetes/admin.conf certificate approve ${request}`);
  await type(scene, cp, "./bunw scripts/03-workers.ts close", { part: 3 });
}

/** Part 4 comes when part 3 is well. */
function untilPart4() {
  let looked = false;
  return async (command: string, at: { scene: Scene; node: Machine }) => {
    await beforeClose(command, at);
    if (looked || !command.startsWith("./bunw scripts/04-sa-tokens.ts")) return;
    looked = true;
    await operatorLooks(at.scene);
  };
}

/** Nothing of the old keys is left: all that a search can find is his. */
export const hostileAllLost = hostile(allLost, "hostile", {
  joins: true,
  disaster: (attack) => [
    ...incident,
    HELD,
    { title: "Look for the old keys before new ones are made", run: (scene) => salvageFirst(scene, attack()) },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS, { before: untilPart4() }) },
  ],
});

async function salvageFirst(scene: Scene, { attacker }: Played) {
  const cp = scene.lab.controlPlanes[0]!;
  await type(scene, cp, "systemctl stop kubelet", { part: 0, cwd: "/root" });
  const { exitCode } = await type(scene, cp, "./bunw scripts/00-salvage.ts", { part: 0, exit: [0, 2] });
  const his = filesOfHis(scene.lab, attacker);
  scene.checks.push({
    name: "the salvage ends with the cluster's CA lost, and puts nothing of his into its place",
    ok: exitCode === 2 && his.length === 0,
    detail: his.join("; ") || `exit ${exitCode}`,
  });
}

/** The right keys are in memory, and his are as well. */
export const hostileAlive = hostile(pkiLostAlive, "hostile-alive", {
  joins: false,
  disaster: () => [
    pkiLostAlive.lines[0]!,
    HELD,
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, ["salvage"], { before: beforeClose }) },
  ],
});

/** The right keys are in free blocks, and his are as well; of the file that says who may sign in only his. */
export const hostileUndelete = hostile(undelete, "hostile-undelete", {
  joins: false,
  quiet: [undelete.lines[0]!, { title: "The API server reads who may sign in from a file", run: authenticationFromFile }],
  disaster: (attack) => [
    { title: "He has had files on the control plane node's disk", run: (scene) => deletedLitter(scene, attack().attacker) },
    undelete.lines[1]!,
    HELD,
    {
      title: "Follow RUNBOOK.md",
      run: (scene) =>
        followRunbook(scene, ["salvage"], {
          async before(command, at) {
            await beforeClose(command, at);
            if (command.startsWith("./bunw scripts/02-control-plane.ts")) backupOfAuthentication(scene);
          },
        }),
    },
    ...undelete.lines.slice(3),
  ],
});

/** By the playbook, on three control plane nodes. */
export const hostileFleet = hostile(fleet, "hostile-fleet", {
  joins: true,
  quiet: fleet.lines.slice(0, 1),
  disaster: () => [
    ...incident,
    HELD,
    ...fleet.lines.slice(1 + incident.length, -1),
    { title: "Look at what close has left alone", run: operatorLooks },
    fleet.lines.at(-1)!,
  ],
});
