/**
 * A healthy cluster whose certificates end in some weeks: it is told so in time, and what RUNBOOK.md prints
 * there renews them.
 */
import { readFileSync } from "node:fs";
import { infoOf } from "../../../shared/pki/certificate.ts";
import { ageCertificates } from "../scene/expire.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import { note, type Scenario, type Scene, startClock, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

/** kubeadm's certificates are valid for 365. */
const DAYS_LEFT = 20;
const RENEW = blockThatBegins("kubeadm certs renew all");
const VERIFY = RENEW.at(-1)!;

export const endsSoon: Scenario = {
  ...allLost,
  name: "ends-soon",
  title: `Every certificate but the CAs' ends in ${DAYS_LEFT} days; 05-verify says so, and the operator types what RUNBOOK.md prints`,
  byRunbook: false,
  oldKeys: true,
  lines: [
    { title: "Most of a year passes", run: timePasses },
    { title: "The operator looks, and is told what ends", run: isTold },
    { title: "The operator types the lines of RUNBOOK-MORE.md, What expires soon", run: renews },
  ],
};

/** The servers start anew with what is on the disk, as after a reboot. */
async function timePasses(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  startClock(scene);
  await ageCertificates(scene.lab, node, 365 - DAYS_LEFT);
  await node.run(["bash", "-c", RENEW.find((line) => line.includes("kill -KILL"))!]);
  note(scene, `the certificates end in ${DAYS_LEFT} days`);
}

async function isTold(scene: Scene) {
  const { stdout } = await type(scene, scene.lab.controlPlanes[0]!, VERIFY);
  const told = stdout.split("\n").filter((line) => line.includes("days from now"));
  const named = ["apiserver.crt", "server.crt", "front-proxy-client.crt", "admin.conf"].filter(
    (name) => !told.join().includes(name),
  );
  scene.checks.push({
    name: "05-verify names what expires soon, and calls nothing failed",
    ok: told.length > 0 && named.length === 0 && !stdout.includes(" × "),
    detail: told.map((line) => line.trim()).join("; ") || "it names nothing",
  });
}

async function renews(scene: Scene) {
  const node = scene.lab.controlPlanes[0]!;
  let said = "";
  for (const line of RENEW) said = (await type(scene, node, line)).stdout;
  const { notAfter } = infoOf(
    readFileSync(node.path(`${scene.lab.profile.certificatesDir}/apiserver.crt`), "utf8"),
  )!;
  const left = Math.floor((notAfter.getTime() - Date.now()) / 86_400_000);
  scene.checks.push({
    name: "afterwards nothing expires soon, and everything is well",
    ok: left > 360 && !said.includes("days from now"),
    detail: `apiserver.crt: ${left} days; ${said.trim().split("\n")[0]}`,
  });
}
