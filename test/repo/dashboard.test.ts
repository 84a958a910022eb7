/** The dashboard and the alerts ask for metrics and labels that 05-verify writes, and for no others. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "yaml";

const HOME = join(import.meta.dir, "../..");
const textOf = (path: string) => Bun.file(join(HOME, path)).text();

interface Panel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string }[];
}
const { panels, templating } = JSON.parse(await textOf("scripts/dashboard.example.json")) as {
  panels: Panel[];
  templating: { list: { definition?: string }[] };
};

const written = new Set(
  [...(await textOf("scripts/05-verify.ts")).matchAll(/metric\(\s*"([a-z_]+)"/g)].map(([, name]) => name!),
);
/** Prometheus adds `instance` itself. */
const LABELS = ["instance", "node", "version", "result", "severity", "id", "kind", "path"];

const alerts = parse(await textOf("scripts/alerts.example.yaml")) as {
  groups: { rules: { alert: string; expr: string }[] }[];
};
const asked: [where: string, expr: string][] = [
  ...panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }): [string, string] => [`panel ${title}`, expr]),
  ),
  ...templating.list.flatMap(({ definition }): [string, string][] =>
    definition === undefined ? [] : [["variable", definition]],
  ),
  ...alerts.groups.flatMap(({ rules }) =>
    rules.map(({ alert, expr }): [string, string] => [`alert ${alert}`, expr]),
  ),
];

test.each(asked)("%s asks for what 05-verify writes", (_, expr) => {
  const names = [...expr.matchAll(/\bkube_pki_repair_([a-z_]+)/g)].map(([, name]) => name!);
  expect(names.length).toBeGreaterThan(0);
  expect(names.filter((name) => !written.has(name))).toEqual([]);
  const labels = [
    ...[...expr.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label]) => label!),
    ...[...expr.matchAll(/\b(?:by|on) \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(", ")),
  ];
  expect(labels.filter((label) => !LABELS.includes(label))).toEqual([]);
});

test("each metric with a figure is on the dashboard", () => {
  const shown = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)).join(" ");
  const missing = [...written].filter((name) => !shown.includes(`kube_pki_repair_${name}`));
  expect(missing).toEqual(["info", "checks", "old_ca_expiry_timestamp_seconds"]);
});

test("no panel covers another one", () => {
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
});
