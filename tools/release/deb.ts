/**
 * A Debian package that watches a control plane node: the kit in /opt/kube-pki-repair, its units and timers. The form is
 * deb(5): an ar archive of a version, a control archive and a data archive. The same kit gives the same bytes.
 */
import { createHash } from "node:crypto";
import { type TarFile, writeTar } from "../../shared/hand-over/tar.ts";
import { kitEntries } from "../pack/kit-entries.ts";

/** The kit's place on a node that is watched: RUNBOOK-MORE.md, "Watch it". */
const PLACE = "opt/kube-pki-repair";
const UNITS = "usr/lib/systemd/system";
const TIMERS = "kube-pki-repair-verify.timer kube-pki-repair-backup.timer";

/** Debian's words for the machines; there is none for musl. */
const DEBIAN = { x64: "amd64", arm64: "arm64" } as const;

export type DebArch = keyof typeof DEBIAN;

/** The time in all archives: the same kit gives the same bytes. */
const NO_TIME = new Date(0);

/** `files`: a kit for this one architecture, by their path in the kit. */
export function debOf(
  files: ReadonlyMap<string, Uint8Array>,
  { arch, version }: { arch: DebArch; version: string },
): Uint8Array {
  const data = dataOf(files);
  const size = data.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const control: TarFile[] = [
    folder("./"),
    text("./control", controlOf({ arch, version, size }), 0o644),
    text("./md5sums", sumsOf(data), 0o644),
    ...Object.entries(ACTS).map(([name, lines]) =>
      text(`./${name}`, `#!/bin/sh\nset -e\n${lines}`, 0o755),
    ),
  ];
  return ar([
    ["debian-binary", Buffer.from("2.0\n")],
    ["control.tar.gz", zipped(control)],
    ["data.tar.gz", zipped(data)],
  ]);
}

function dataOf(files: ReadonlyMap<string, Uint8Array>): TarFile[] {
  const units = [...files].filter(([name]) => /^scripts\/[\w-]+\.(service|timer)$/.test(name));
  return [
    ...["./", "./opt/"].map(folder),
    { ...folder(`./${PLACE}/`), mode: 0o700 },
    ...kitEntries(files, `./${PLACE}/`),
    ...["./usr/", "./usr/lib/", "./usr/lib/systemd/", `./${UNITS}/`].map(folder),
    ...units.map(([name, bytes]) => ({
      ...{ name: `./${UNITS}/${name.replace("scripts/", "")}`, mode: 0o644, bytes },
    })),
  ];
}

/** https://www.debian.org/doc/debian-policy/ch-controlfields.html */
function controlOf({
  arch,
  version,
  size,
}: {
  arch: DebArch;
  version: string;
  size: number;
}): string {
  return `${[
    "Package: kube-pki-repair",
    `Version: ${version}`,
    `Architecture: ${DEBIAN[arch]}`,
    "Maintainer: the maintainers of kube-pki-repair <maintainers@kube-pki-repair.invalid>",
    `Installed-Size: ${Math.ceil(size / 1024)}`,
    "Section: admin",
    "Priority: optional",
    "Description: warns before a Kubernetes cluster's certificates expire",
    " Checks a kubeadm cluster's certificates and keys once a day, for systemd, mail or",
    " Prometheus. Backs the shared keys and etcd up once a day, if recipients are named.",
    " The kit that repairs such a cluster is in /opt/kube-pki-repair.",
  ].join("\n")}\n`;
}

/** Debian's maintainer scripts: https://www.debian.org/doc/debian-policy/ch-maintainerscripts.html */
const ACTS = {
  postinst: `systemctl daemon-reload\nsystemctl enable --now ${TIMERS}\n`,
  prerm: `[ "$1" != remove ] || systemctl disable --now ${TIMERS}\n`,
  // what the timer has written; a backup stays, as it may be the only one
  postrm: `systemctl daemon-reload
[ "$1" != purge ] || rm -f /var/lib/prometheus/node-exporter/kube-pki-repair.prom /var/lib/systemd/timers/stamp-kube-pki-repair-*.timer
`,
};

function sumsOf(data: readonly TarFile[]): string {
  const files = data.filter(({ name }) => !name.endsWith("/"));
  return files
    .map(
      ({ name, bytes }) => `${createHash("md5").update(bytes).digest("hex")}  ${name.slice(2)}\n`,
    )
    .join("");
}

function folder(name: string): TarFile {
  return { name, mode: 0o755, bytes: new Uint8Array() };
}

function text(name: string, content: string, mode: number): TarFile {
  return { name, mode, bytes: Buffer.from(content) };
}

function zipped(entries: readonly TarFile[]): Uint8Array {
  const tar = Buffer.from(writeTar(entries, NO_TIME));
  return Bun.gzipSync(tar, { level: 6, library: "libdeflate" });
}

/** ar(5): name 16 | time 12 | uid 6 | gid 6 | mode 8 | size 10 | "`\n"; contents begin at even places. */
function ar(members: readonly [name: string, bytes: Uint8Array][]): Uint8Array {
  const parts = members.flatMap(([name, bytes]) => [
    Buffer.from(
      [
        name.padEnd(16),
        "0".padEnd(12),
        "0".padEnd(6),
        "0".padEnd(6),
        "100644".padEnd(8),
        String(bytes.length).padEnd(10),
        "`\n",
      ].join(""),
    ),
    bytes,
    Buffer.from(bytes.length % 2 === 0 ? "" : "\n"),
  ]);
  return Buffer.concat([Buffer.from("!<arch>\n"), ...parts]);
}
