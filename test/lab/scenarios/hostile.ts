/**
 * The same disasters, with an attacker who has a tenant's namespace, a worker and a user of a node, and waits
 * until root looks for keys.
 */

import { makeAttacker } from "../attacker/attacker.ts";
import {
  leaveDeletedFiles,
  restoreAuthentication,
  useAuthenticationFile,
} from "../attacker/disk-of-control-plane.ts";
import { attackersFiles, findings, type Played, sharedPublicKeys } from "../attacker/findings.ts";
import { folderLaidOut } from "../attacker/folder.ts";
import {
  compromisedWorker,
  INTRUDER_PACKAGES,
  intruderHasAsked,
  intruderShutOut,
  lieIsBelieved,
  lieIsOver,
  workerAttacks,
} from "../attacker/intruder.ts";
import { SESSION_PACKAGES, userAttacks, userShutOut } from "../attacker/local-user.ts";
import { roleIsNamed } from "../attacker/network-plugin.ts";
import { plays } from "../attacker/objects.ts";
import { attackIsInEtcd, mirrorPodsAreThere, tenantAttacks, tenantShutOut } from "../attacker/tenant.ts";
import type { Machine } from "../machine/machine.ts";
import { followRunbook } from "../scene/follow.ts";
import { type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";
import { externalLost } from "./external.ts";
import { fleet } from "./fleet.ts";
import { pkiLostAlive } from "./keys-in-memory.ts";
import { kubesprayNewCas } from "./kubespray.ts";
import { undelete } from "./undelete.ts";

type Line = Scenario["lines"][number];

interface Hostility {
  /** Lines before the attack; then come the attack and the disaster. */
  quiet?: Line[];
  /** The disaster and its repair. */
  disaster: (played: () => Played) => Line[];
  /** Workers join again, with a bootstrap token. */
  joins: boolean;
}

const HELD: Line = {
  title: "etcd's data holds the attack; the operator looks around, and wants a plan",
  async run(scene) {
    attackIsInEtcd(scene);
    if (plays("worker")) scene.checks.push(...(await roleIsNamed(scene, compromisedWorker(scene.lab))));
  },
};

/** One of the workers is the attacker's: the last. */
function hostile(base: Scenario, name: string, { quiet = [], disaster, joins }: Hostility): Scenario {
  let attack: Played;
  const oldKeys = base.oldKeys ?? false;
  return {
    ...base,
    name,
    title: `As ${base.name}, with an attacker who has a tenant's namespace, a worker and a user of a node`,
    workers: Math.max(2, base.workers),
    packages: [...(base.packages ?? []), ...INTRUDER_PACKAGES, ...SESSION_PACKAGES],
    lines: [
      ...quiet,
      {
        title: "The attacker prepares: as a tenant, on a worker, as a user of a node",
        run: async (scene) => (attack = await layOut(scene, joins)),
      },
      ...disaster(() => attack),
      {
        title: "Nothing of the attacker's is used or left behind",
        run: async (scene) => scene.checks.push(...(await findings(scene, attack, { oldKeys }))),
      },
      { title: "The operator takes the attacker's rights and his worker away", run: shutOut },
    ],
  };
}

async function layOut(scene: Scene, joins: boolean): Promise<Played> {
  const attacker = await makeAttacker();
  const keys = sharedPublicKeys(scene.lab);
  if (plays("folder")) await folderLaidOut(scene, scene.lab.workers[0]!);
  if (plays("user")) await userAttacks(scene, attacker);
  const tokens = await tenantAttacks(scene, attacker);
  if (plays("worker")) await workerAttacks(scene, { joins });
  if (plays("mirrors")) await mirrorPodsAreThere(scene);
  if (plays("worker")) await lieIsBelieved(scene);
  return { attacker, tokens, keys };
}

async function shutOut(scene: Scene) {
  if (plays("worker")) await intruderShutOut(scene);
  if (plays("user")) await userShutOut(scene);
  await tenantShutOut(scene);
}

/** The operator runs close only after the attacker has sent all his requests. */
const beforeClose = async (command: string, { scene }: { scene: Scene; node: Machine }) => {
  if (plays("worker") && command.startsWith("./bunw scripts/03-workers.ts close"))
    await intruderHasAsked(scene);
};

/**
 * What close said of a request that names what two nodes say they have, where nothing from before decides: it
 * waits for a person's word. The serving certificate that `join` leaves in its Node decides for the honest
 * one.
 */
const CONTESTED = /^\s*(\S+): (csr-\S+): ip "\S+" is claimed by .*$/gm;

/**
 * Close has named the CSRs it did not approve: the operator stops the attacker's worker, looks whose address
 * it is, and runs close again.
 */
async function operatorLooks(scene: Scene) {
  if (!plays("worker")) return;
  const { lab } = scene;
  await intruderShutOut(scene, { restartKubelet: true });
  await lieIsOver(scene);
  const said = scene.steps.map(({ stdout, stderr }) => `${stdout}\n${stderr}`).join("\n");
  const honest = [...said.matchAll(CONTESTED)].filter(([, name]) => name !== compromisedWorker(lab).nodeName);
  const requests = [...new Set(honest.map(([, , request]) => request!))];
  const others = lab.workers
    .filter((worker) => worker !== compromisedWorker(lab))
    .map(({ nodeName }) => nodeName);
  const served = others.filter((name) =>
    said.includes(`${name}: back, serves with a certificate of the cluster's CA`),
  );
  const isNamed = (name: string) => honest.some(([, node]) => node === name);
  scene.checks.push({
    name: "close does not wait for the attacker; each other worker has its serving certificate, or its request is named for a person",
    ok: others.every((name) => served.includes(name) || isNamed(name)),
    detail: `certificates: ${served.join(", ") || "none"}; named: ${requests.join(", ") || "none"}`,
  });
  const cp = lab.controlPlanes[0]!;
  for (const request of requests)
    await type(scene, cp, `kubectl --kubeconfig /etc/kubernetes/admin.conf certificate approve ${request}`);
  await type(scene, cp, "./bunw scripts/03-workers.ts close", { part: 3 });
}

/** Part 4 begins when part 3 is complete. */
function untilPart4() {
  let looked = false;
  return async (command: string, at: { scene: Scene; node: Machine }) => {
    await beforeClose(command, at);
    if (looked || !command.startsWith("./bunw scripts/04-sa-tokens.ts")) return;
    looked = true;
    await operatorLooks(at.scene);
  };
}

/** No old key is left: a search can find only the attacker's keys. */
export const hostileAllLost = hostile(allLost, "hostile", {
  joins: true,
  disaster: (attack) => [
    ...everythingDeleted,
    HELD,
    { title: "The operator looks for the old keys first", run: (scene) => salvageFirst(scene, attack()) },
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followRunbook(scene, TAGS, { before: untilPart4() }),
    },
  ],
});

async function salvageFirst(scene: Scene, { attacker }: Played) {
  const cp = scene.lab.controlPlanes[0]!;
  await type(scene, cp, "systemctl stop kubelet", { part: 0, cwd: "/root" });
  const { exitCode } = await type(scene, cp, "./bunw scripts/00-salvage.ts", { part: 0, exit: [0, 2] });
  const his = attackersFiles(scene.lab, attacker);
  scene.checks.push({
    name: "00-salvage reports the cluster's CA as lost, and puts no file of the attacker's in its place",
    ok: exitCode === 2 && his.length === 0,
    detail: his.join("; ") || `exit ${exitCode}`,
  });
}

/** The right keys are in memory, and the attacker's, too. */
export const hostileAlive = hostile(pkiLostAlive, "hostile-alive", {
  joins: false,
  disaster: () => [
    pkiLostAlive.lines[0]!,
    HELD,
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followRunbook(scene, ["salvage", "new-internal-cas"], { before: beforeClose }),
    },
  ],
});

/**
 * The right keys are in free blocks, and the attacker's, too. Of the file that says who may sign in, only the
 * attacker's version is there.
 */
export const hostileUndelete = hostile(undelete, "hostile-undelete", {
  joins: false,
  quiet: [
    undelete.lines[0]!,
    { title: "The API server gets a file that says who may sign in", run: useAuthenticationFile },
  ],
  disaster: (attack) => [
    {
      title: "The attacker's files were on the control plane node's disk, and are deleted",
      run: (scene) => leaveDeletedFiles(scene, attack().attacker),
    },
    undelete.lines[1]!,
    HELD,
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) =>
        followRunbook(scene, ["salvage", "new-internal-cas"], {
          async before(command, at) {
            await beforeClose(command, at);
            if (command.startsWith("./bunw scripts/02-control-plane.ts")) restoreAuthentication(scene);
          },
        }),
    },
    ...undelete.lines.slice(3),
  ],
});

/** etcd runs on while the operator looks at it, and holds what the attacker wrote; the kubelet's files come from a worker. */
export const hostileKubespray = hostile(kubesprayNewCas, "hostile-kubespray", {
  joins: true,
  disaster: () => [
    ...kubesprayNewCas.lines.slice(1, -2),
    HELD,
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followRunbook(scene, TAGS, { before: untilPart4() }),
    },
  ],
});

/** etcd is on the first two workers, and not on the attacker's: by its API the operator reads what he wrote into it. */
export const hostileExternal = hostile({ ...externalLost, workers: 3 }, "hostile-external", {
  joins: false,
  disaster: () => [
    ...externalLost.lines.slice(2, -2),
    HELD,
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followRunbook(scene, ["salvage", "new-internal-cas"], { before: beforeClose }),
    },
  ],
});

/** Repaired by the playbook, on three control plane nodes. */
export const hostileFleet = hostile(fleet, "hostile-fleet", {
  joins: true,
  quiet: fleet.lines.slice(0, 1),
  disaster: () => [
    ...everythingDeleted,
    HELD,
    ...fleet.lines.slice(1 + everythingDeleted.length, -1),
    { title: "The operator looks at the CSRs that close has not approved", run: operatorLooks },
    fleet.lines.at(-1)!,
  ],
});
