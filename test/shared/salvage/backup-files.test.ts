import { expect, test } from "bun:test";
import { symlinkSync } from "node:fs";
import type { LostFile } from "../../../shared/facts/lost-file.ts";
import { copiesIn } from "../../../shared/salvage/backup-files.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const lost = (path: string) => ({ path, kind: "file" }) as LostFile;
const CONF = "/etc/kubernetes/enc.yaml";
const EXTRA = "/etc/kubernetes/extra";

test("a link out of the operator's folder is left out, and named: it would bring a file of this node", () => {
  using box = sandbox();
  write(`${box.dir}/etc/secret`, "of this node");
  write(`${box.dir}/srv/copies/extra/a.yaml`, "a");
  symlinkSync("/etc/secret", `${box.dir}/srv/copies/enc.yaml`);
  symlinkSync("../../../etc/secret", `${box.dir}/srv/copies/extra/b.yaml`);
  symlinkSync("/etc", `${box.dir}/srv/copies/extra/etc`);
  const found = copiesIn("/srv/copies", [lost(CONF), lost(EXTRA)]);
  expect(found.map(({ path }) => path)).toEqual([`${EXTRA}/a.yaml`]);
  for (const [name, to] of [
    ["enc.yaml", "/etc/secret"],
    ["extra/b.yaml", "/etc/secret"],
    ["extra/etc", "/etc"],
  ])
    expect(box.said).toContain(
      `warning: /srv/copies/${name}: left out: it leads out of /srv/copies, to ${to}`,
    );
});

test("a folder on the way to a copy that leads out counts as well", () => {
  using box = sandbox();
  write(`${box.dir}/etc/kubernetes-of-today/enc.yaml`, "of this node");
  write(`${box.dir}/srv/copies/readme`, "x");
  symlinkSync("/etc/kubernetes-of-today", `${box.dir}/srv/copies/kubernetes`);
  expect(copiesIn("/srv/copies", [lost(CONF)])).toEqual([]);
  expect(box.said.join()).toContain("left out: it leads out of /srv/copies");
});

test("links within the folder are the operator's own, and his folder may be behind a link", () => {
  using box = sandbox();
  write(`${box.dir}/mnt/stick/2026/enc.yaml`, "right");
  write(`${box.dir}/mnt/stick/2026/extra/a.yaml`, "a");
  symlinkSync("2026/enc.yaml", `${box.dir}/mnt/stick/enc.yaml`);
  symlinkSync("2026/extra", `${box.dir}/mnt/stick/extra`);
  symlinkSync(".", `${box.dir}/mnt/stick/2026/extra/loop`);
  symlinkSync("/mnt/stick", `${box.dir}/copies`);
  const found = copiesIn("/copies", [lost(CONF), lost(EXTRA)]);
  expect(found.map(({ path, content }) => [path, Buffer.from(content).toString()])).toEqual([
    [CONF, "right"],
    [`${EXTRA}/a.yaml`, "a"],
  ]);
});

test("a huge folder, or a huge file, is not taken, with the line to do it by hand", () => {
  using box = sandbox();
  for (let i = 0; i < 2100; i++) write(`${box.dir}/srv/copies/extra/${i}`, "x");
  write(`${box.dir}/srv/copies/enc.yaml`, Buffer.alloc((32 << 20) + 1, "x").toString());
  expect(copiesIn("/srv/copies", [lost(CONF), lost(EXTRA)])).toEqual([]);
  expect(box.said).toContain(
    "warning: /srv/copies/extra: left out: more than 2000 files, or 32 MB. If all of it is right: cp -a /srv/copies/extra /etc/kubernetes/",
  );
  expect(box.said.filter((line) => line.includes("/srv/copies/enc.yaml: left out"))).toHaveLength(1);
});

test.each([
  [0o640, 0o640],
  [0o644, 0o644],
  [0o600, 0o600],
  [0o666, 0o600],
  [0o755, 0o600],
  [0o620, 0o600],
])(
  "a copy of mode 0%o, in octal, comes back with %o: who may rewrite it, or a stick without permissions, says nothing",
  (mode, wanted) => {
    using box = sandbox();
    write(`${box.dir}/srv/copies/enc.yaml`, "right", mode);
    expect(copiesIn("/srv/copies", [lost(CONF)]).map((copy) => copy.mode)).toEqual([wanted]);
  },
);
