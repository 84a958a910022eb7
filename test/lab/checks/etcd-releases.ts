/** The releases of etcd that the checks of its data and of its members run with. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildGo } from "../machine/go-build.ts";
import { etcdBuild } from "../machine/pins.ts";

const RELEASES = ["3.5.21", "3.6.5"].map((release) => ({
  release,
  etcd: etcdBuild(`registry.k8s.io/etcd:${release}-0`),
}));
export const ETCDUTL = etcdBuild("registry.k8s.io/etcd:3.6.5-0", "etcdutl");
export const ETCD_BUILDS = RELEASES.map(({ etcd }) => etcd);
export const ETCD_PROGRAMS = [ETCDUTL, ...ETCD_BUILDS];

/** What is checked with one of them: its program, and a folder that is removed afterwards. */
interface Release {
  release: string;
  etcd: string;
  folder: string;
}

/** Prints each line that the check gives as `ok: etcd RELEASE: …`. `WHICH=3.6.5`: of this one alone. */
export async function onEachRelease(check: (on: Release) => Promise<string[]>) {
  for (const { release, etcd: build } of RELEASES.filter(
    ({ release: one }) => (process.env.WHICH ?? one) === one,
  )) {
    const etcd = join(await buildGo(build), "etcd");
    const folder = mkdtempSync(join(tmpdir(), "etcd-"));
    try {
      for (const line of await check({ release, etcd, folder })) console.log(`ok: etcd ${release}: ${line}`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
}
