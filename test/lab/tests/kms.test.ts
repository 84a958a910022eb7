/** The cluster with a KMS plugin, without building it. */
import { expect, test } from "bun:test";
import { parse } from "yaml";
import { hostFiles } from "../../../shared/manifests/command.ts";
import { kms } from "../machine/kms.ts";

const { staticPods, controlPlaneFiles, apiServerFlags, apiServerVolumes } = kms();

test("the plugin listens where the API server's configuration says, in a folder that both have; its key is not in /etc/kubernetes", () => {
  const needs = hostFiles(parse(staticPods["kms-plugin.yaml"]!));
  const config = apiServerFlags.find(([flag]) => flag === "encryption-provider-config")![1];
  const [{ providers }] = parse(controlPlaneFiles[config]!).resources;
  const socket = (providers[0].kms.endpoint as string).replace("unix://", "");
  expect(needs.find(({ path }) => path === socket)).toMatchObject({ namedBy: "--listen", type: "Socket" });
  const folders = apiServerVolumes.map(({ hostPath }) => hostPath);
  expect(folders).toContain(config);
  expect(folders.some((folder) => socket.startsWith(`${folder}/`))).toBe(true);
  const key = needs.find(({ namedBy }) => namedBy === "--key")!.path;
  expect(controlPlaneFiles).toHaveProperty([key]);
  expect(key).not.toStartWith("/etc/kubernetes/");
});
