/** The kubelet's configuration in the main file and in its drop-in folder. */
import { expect, test } from "bun:test";
import { writeFile } from "../../../shared/files/files.ts";
import { withDropIns } from "../../../shared/node/kubelet-drop-ins.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const FOLDER = "/etc/kubernetes/kubelet.conf.d";
const MAIN = {
  staticPodPath: "/etc/kubernetes/manifests",
  authentication: { x509: { clientCAFile: "/etc/kubernetes/pki/ca.crt" }, webhook: { enabled: true } },
};

test("drop-ins change the kubelet's configuration in the order of their paths, field by field; other files do not count", () => {
  using _box = sandbox();
  const put = (name: string, text: string) => writeFile(`${FOLDER}/${name}`, text);
  put("20-later.conf", "staticPodPath: /etc/later\nserverTLSBootstrap: yes\n");
  put("10-first.conf", "staticPodPath: /etc/first\nauthentication: {x509: {clientCAFile: /etc/kubernetes/ssl/ca.crt}}\n");
  put("30-more/webhook.conf", "authentication: {webhook: null}\n");
  put("90-note.yaml", "staticPodPath: /etc/nobody\n");
  expect(withDropIns<object>(MAIN, FOLDER)).toEqual({
    staticPodPath: "/etc/later",
    serverTLSBootstrap: true,
    authentication: { x509: { clientCAFile: "/etc/kubernetes/ssl/ca.crt" } },
  });
  expect(MAIN.authentication.webhook).toEqual({ enabled: true });
});

test("without --config-dir, and where its folder is lost, the main file counts alone", () => {
  using _box = sandbox();
  expect(withDropIns(MAIN, undefined)).toEqual(MAIN);
  expect(withDropIns(MAIN, FOLDER)).toEqual(MAIN);
});

test.each([
  ["a list", "- one\n", /is no KubeletConfiguration/],
  ["no YAML", "a: {\n", /Cannot read the kubelet's drop-in/],
])("a drop-in that is %s is named, as the kubelet refuses it, too", (_, text, message) => {
  using _box = sandbox();
  writeFile(`${FOLDER}/10-broken.conf`, text);
  expect(() => withDropIns(MAIN, FOLDER)).toThrow(expect.objectContaining({ message: expect.stringMatching(message) }));
});
