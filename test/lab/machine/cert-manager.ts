/**
 * cert-manager: a webhook with failurePolicy Fail, whose CA cainjector writes into its configuration, and the
 * controller.
 */
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { buildGo } from "./go-build.ts";
import type { GoBuild } from "./pins.ts";
import type { AddOn } from "./profile.ts";

const MODULE = "github.com/cert-manager/cert-manager";
const PROGRAMS = ["controller", "webhook", "cainjector"];
const CRDS = ["certificaterequests", "certificates", "challenges", "clusterissuers", "issuers", "orders"].map(
  (kind) => `crd-${kind}.yaml`,
);

/**
 * The last minor release whose programs are in the module itself. From 1.12 on they are modules of their own,
 * which the proxy does not serve.
 */
export const CERT_MANAGER: GoBuild = {
  name: "cert-manager",
  module: MODULE,
  version: "v1.11.5",
  packages: PROGRAMS.map((program) => `${MODULE}/cmd/${program}`),
  replaces: {},
  files: CRDS.map((file) => `deploy/crds/${file}`),
};

const REGISTRY = "quay.io/jetstack";

export const certManager: AddOn = {
  packages: [],
  async images() {
    const folder = await buildGo(CERT_MANAGER);
    return PROGRAMS.map((program) => {
      const place = `/app/cmd/${program}/${program}`;
      return {
        name: image(program),
        files: { [place]: join(folder, program) },
        entrypoint: [place],
        user: "1000",
      };
    });
  },
  async objects() {
    const folder = await buildGo(CERT_MANAGER);
    const own = readFileSync(join(import.meta.dir, "cert-manager.yaml"), "utf8").replaceAll(
      /IMAGE\/(\w+)/g,
      (_, program) => image(program),
    );
    // The CRDs use the chart's braces only for labels.
    const crds = CRDS.map((file) =>
      readFileSync(join(folder, basename(file)), "utf8").replaceAll(/^.*\{\{.*\n/gm, ""),
    );
    return [...crds, own].join("\n---\n");
  },
  writes: [],
  endsWithoutApi: /^cert-manager\/.*\/cert-manager-(controller|cainjector)$/,
};

function image(program: string): string {
  return `${REGISTRY}/cert-manager-${program}:${CERT_MANAGER.version}`;
}
