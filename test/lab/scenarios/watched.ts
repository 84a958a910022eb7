/**
 * After the repair the kit stays on the first control plane node, and its timer tells Prometheus: the
 * runbook's "Watch it", by a real systemd.
 */
import { readFileSync, statSync } from "node:fs";
import type { Machine } from "../machine/machine.ts";
import { blockThatBegins } from "../scene/runbook-block.ts";
import { type Scenario, type Scene, sayAndWait, type } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

const METRICS = "/var/lib/prometheus/node-exporter/kube-pki-repair.prom";
const SERVICE = "kube-pki-repair-verify";

export const watched: Scenario = {
  ...allLost,
  name: "watched",
  title: "as all-lost; then the kit stays on the first control plane node, and its timer tells Prometheus",
  packages: [["/usr/bin/promtool", "prometheus"]],
  lines: [...allLost.lines, ...watchIt()],
};

/** RUNBOOK-MORE's "Watch it", without Prometheus, and then with it. */
export function watchIt(): Scenario["lines"] {
  return [
    { title: "The operator puts the kit and its timer there, as RUNBOOK-MORE.md says, twice", run: putTimer },
    { title: "A certificate is missing, and there is no node_exporter", run: timerFails },
    { title: "With node_exporter the timer comes, and promtool reads what it wrote", run: timerComes },
  ];
}

function first({ lab }: Scene): Machine {
  return lab.controlPlanes[0]!;
}

/** Twice, as a newer kit is installed. */
async function putTimer(scene: Scene) {
  const lines = blockThatBegins("rm -rf /opt/kube-pki-repair");
  for (const line of [...lines, ...lines]) await type(scene, first(scene), line, { cwd: "/root" });
}

const LEAF = "/etc/kubernetes/pki/apiserver-kubelet-client.crt";

/** Whoever has no Prometheus sees a failed unit, and gets the mail. */
async function timerFails(scene: Scene) {
  const node = first(scene);
  const mail = '#!/bin/sh\ncat > /run/mail; echo "$@" >> /run/mail\n';
  await node.run(["sh", "-c", "cat > /usr/bin/mail && chmod 755 /usr/bin/mail"], {
    input: Buffer.from(mail),
  });
  await type(scene, node, `mv ${LEAF} ${LEAF}.away`);
  await type(scene, node, `systemctl start ${SERVICE}`, { exit: [1] });
  const mailed = async () =>
    (await node.run(["grep", "-c", "a check failed on", "/run/mail"])).exitCode === 0;
  await sayAndWait(scene, "the mail", mailed, { seconds: 30, hint: "systemctl status kube-pki-repair-mail" });
  const { stdout } = await node.run(["sh", "-c", `systemctl is-failed ${SERVICE}; cat /run/mail`]);
  scene.checks.push({
    name: "without node_exporter a bad check is a failed unit and a mail that names it",
    ok: stdout.startsWith("failed\n") && stdout.includes("apiserver-kubelet-client"),
    detail: stdout.trim().split("\n").at(-1) ?? "",
  });
  await type(scene, node, `mv ${LEAF}.away ${LEAF}`);
  await node.run(["mkdir", "-p", "/var/lib/prometheus/node-exporter"]);
}

/** In a day: so the timer is told to come at once. */
async function timerComes(scene: Scene) {
  const node = first(scene);
  const soon = "[Timer]\nOnCalendar=\nOnActiveSec=1\nRandomizedDelaySec=0\nAccuracySec=1\n";
  await node.run(
    [
      "sh",
      "-c",
      `mkdir -p /etc/systemd/system/${SERVICE}.timer.d && cat > /etc/systemd/system/${SERVICE}.timer.d/soon.conf`,
    ],
    {
      input: Buffer.from(soon),
    },
  );
  await type(scene, node, `systemctl daemon-reload && systemctl restart ${SERVICE}.timer`);
  await sayAndWait(
    scene,
    "the timer's metrics",
    async () => (await node.run(["test", "-e", METRICS])).exitCode === 0,
    {
      seconds: 120,
      hint: `journalctl -u ${SERVICE} on cp1, with --keep`,
    },
  );
  const text = readFileSync(node.path(METRICS), "utf8");
  const child = Bun.spawn(["promtool", "check", "metrics"], {
    stdin: Buffer.from(text),
    stdout: "pipe",
    stderr: "pipe",
  });
  const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
  const mode = (statSync(node.path(METRICS)).mode & 0o777).toString(8);
  const certificates = text.match(/^kube_pki_repair_certificate_expiry_timestamp_seconds\{/gm)?.length ?? 0;
  const failed = text.match(/^kube_pki_repair_checks\{result="failed".*\} [1-9]/gm) ?? [];
  scene.checks.push({
    name: "the timer's metrics are such that promtool accepts them, of mode 644, and nothing has failed",
    ok: (await child.exited) === 0 && mode === "644" && certificates > 10 && failed.length === 0,
    detail: `${certificates} certificates, mode ${mode}, ${failed.join(", ") || "nothing failed"}${said ? `, promtool: ${said.trim()}` : ""}`,
  });
}
