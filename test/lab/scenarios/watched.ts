/**
 * After the repair the kit stays on the first control plane node, and its timer tells Prometheus: the
 * runbook's "Watch it", by a real systemd.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { kitFiles } from "../../../tools/pack/pack-kit.ts";
import { debOf } from "../../../tools/release/deb.ts";
import { versionOf } from "../../../tools/release/version.ts";
import { OWN_ARCH } from "../../kit/own-arch.ts";
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

export const watchedByPackage: Scenario = {
  ...allLost,
  name: "watched-deb",
  title: "as all-lost; then a Debian package watches the first control plane node, and makes backups",
  byRunbook: false,
  lines: [
    ...allLost.lines,
    { title: "The operator installs the Debian package", run: installDeb },
    { title: "The backup's timer comes three times, and keeps two", run: backups },
    { title: "The package is purged", run: purged },
  ],
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

const UNITS = ["kube-pki-repair-verify.timer", "kube-pki-repair-backup.timer"];

async function installDeb(scene: Scene) {
  const node = first(scene);
  await node.run(["mkdir", "-p", "/var/lib/prometheus/node-exporter"]);
  const home = `${import.meta.dir}/../../..`;
  const version = versionOf(home);
  const deb = debOf(await kitFiles([OWN_ARCH], version), { arch: OWN_ARCH, version });
  await Bun.write(node.path("/root/kube-pki-repair.deb"), deb);
  await type(scene, node, "dpkg -i kube-pki-repair.deb", { cwd: "/root" });
  await type(scene, node, `systemctl start ${SERVICE}`);
  const { stdout } = await node.run(["systemctl", "is-active", ...UNITS]);
  scene.checks.push({
    name: "both timers of the package are active, and its check runs",
    ok: stdout === "active\nactive\n",
    detail: stdout.trim().replaceAll("\n", " "),
  });
}

const BACKUPS = "/var/backups/kube-pki-repair";

async function backups(scene: Scene) {
  const node = first(scene);
  const backup = "systemctl start kube-pki-repair-backup";
  await type(scene, node, backup);
  const before = existsSync(node.path(BACKUPS));
  const lines = [
    "mkdir -p /etc/kube-pki-repair /etc/systemd/system/kube-pki-repair-backup.service.d",
    "/opt/kube-pki-repair/bunw /opt/kube-pki-repair/scripts/hand-over.ts identity /root/identity > /etc/kube-pki-repair/recipients",
    'printf "[Service]\\nEnvironment=KEEP=2\\n" > /etc/systemd/system/kube-pki-repair-backup.service.d/keep.conf',
    "systemctl daemon-reload",
  ];
  for (const line of lines) await type(scene, node, line, { cwd: "/root" });
  for (let i = 0; i < 3; i++) await type(scene, node, backup);
  const names = readdirSync(node.path(BACKUPS)).sort();
  const newest = `${BACKUPS}/${names.filter((name) => /Z\.age$/.test(name)).at(-1)}`;
  const opened = await node.run(
    ["./bunw", "scripts/hand-over.ts", "list", newest, "--identity", "/root/identity"],
    {
      cwd: "/opt/kube-pki-repair",
    },
  );
  await type(scene, node, `systemctl start ${SERVICE}`);
  const age = /^kube_pki_repair_backup_age_seconds (\d+)$/m.exec(readFileSync(node.path(METRICS), "utf8"));
  scene.checks.push({
    name: "without a recipient nothing is written; with one, two backups of keys and etcd stay, the newest opens, and the metrics know its age",
    ok:
      !before &&
      names.filter((name) => name.endsWith("Z.age")).length === 2 &&
      names.filter((name) => name.endsWith(".etcd.age")).length === 2 &&
      opened.exitCode === 0 &&
      age !== null,
    detail: `${names.join(", ")}; ${age?.[0] ?? "no age"}; ${opened.stderr.trim().split("\n").at(-1)}`,
  });
}

async function purged(scene: Scene) {
  const node = first(scene);
  // the scenario's own
  await node.run(["sh", "-c", "rm -r /etc/systemd/system/kube-pki-repair-*.d"]);
  await type(scene, node, "dpkg --purge kube-pki-repair");
  const places = [
    "/opt/kube-pki-repair",
    METRICS,
    ...UNITS.map((unit) => `/usr/lib/systemd/system/${unit}`),
    ...UNITS.map((unit) => `/etc/systemd/system/timers.target.wants/${unit}`),
  ];
  const left = places.filter((place) => existsSync(node.path(place)));
  const { stdout } = await node.run(["systemctl", "list-unit-files", "--no-legend", "kube-pki-repair*"]);
  const kept = readdirSync(node.path(BACKUPS)).length;
  scene.checks.push({
    name: "nothing of the package is left but the backups",
    ok: left.length === 0 && stdout.trim() === "" && kept === 4,
    detail: [...left, stdout.trim(), `${kept} files of backups`].filter(Boolean).join("; "),
  });
  await type(scene, node, "rm -r /var/backups/kube-pki-repair /etc/kube-pki-repair /root/identity");
}
