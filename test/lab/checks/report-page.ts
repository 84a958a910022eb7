#!/usr/bin/env bun
/**
 * The report of a made-up repair in a real browser: no name or path is broken, all can be read by day and by
 * night. It keeps pictures, as plan-page.ts.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setRoot } from "../../../shared/files/files.ts";
import { readKeptRuns } from "../../../shared/report/read-runs.ts";
import { repairPage } from "../../../shared/report/repair-page.ts";
import { run } from "../../../shared/run.ts";
import { EXAMPLE, filesOf, tarOf } from "../../fixtures/kept-runs-example.ts";
import { write } from "../../pretend/cluster.ts";
import { BROWSER_PACKAGES, openBrowser, visit } from "../machine/browser.ts";
import { installPackages } from "../machine/packages.ts";
import { isGreen } from "./page-checks.ts";
import { checkLooks } from "./page-looks.ts";

const NAMES = { cp1: "cp1.lab.example", cp2: "cp2.lab.example", w1: "worker-1.lab.example" };
const WORDS = [
  "CN=kubernetes",
  "/etc/kubernetes/controller-manager.conf",
  "/etc/kubernetes/pki/etcd/server.crt",
];

async function main() {
  await installPackages(BROWSER_PACKAGES);
  const root = mkdtempSync(join(tmpdir(), "report-"));
  setRoot(root);
  writeFileSync(`${root}/report.html`, pageIn(root));
  await using browser = await openBrowser();
  await visit(browser, `file://${root}/report.html`);
  await checkLooks(browser, { page: "report", names: [...Object.values(NAMES), ...WORDS] });
  rmSync(root, { recursive: true });
  process.exitCode = isGreen() ? 0 : 1;
}

/** Its nodes have the names that companies give them. */
function pageIn(root: string): string {
  const runs = (JSON.parse(JSON.stringify(EXAMPLE)) as typeof EXAMPLE).map((one) => ({
    ...one,
    node: NAMES[one.node as keyof typeof NAMES],
    lines: one.lines.map(([at, event]): (typeof one.lines)[number] => [
      at,
      event.what === "node" ? { ...event, name: NAMES[event.name as keyof typeof NAMES] } : event,
    ]),
  }));
  for (const [name, text] of runs.filter(({ node }) => node === NAMES.cp1).flatMap(filesOf))
    write(`${root}/root/${name}`, text);
  for (const [node, its] of Map.groupBy(runs, ({ node }) => node))
    if (node !== NAMES.cp1) write(`${root}/logs/${node}.tar`, tarOf(its) as never);
  return repairPage({
    ...readKeptRuns(NAMES.cp1, "/logs", [NAMES.cp1, NAMES.cp2]),
    checks: [
      { area: "API", what: "answers", result: "ok", detail: "yes" },
      { area: "files", what: "backup", result: "warning", detail: "none was made" },
    ],
    end: {
      left: ["put your own audit policy back"],
      remove: [{ on: NAMES.cp1, command: "rm -rf /root/x", why: "etcd's data" }],
    },
    cluster: { name: "kubernetes", kubernetes: "v1.34.4", nodes: Object.values(NAMES) },
    ...{ tool: "0.1.0", made: new Date("2026-05-01T11:00:00Z") },
  });
}

if (import.meta.main) await run(main);
