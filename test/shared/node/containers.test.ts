/** What crictl says of this node's containers, and what it means that it says nothing. */
import { expect, test } from "bun:test";
import { inspect, workloadContainers } from "../../../shared/node/containers.ts";
import { type FakeCommand, programsHere } from "../../pretend/programs.ts";

const GONE =
  'level=fatal msg="getting the status of the container \\"c1\\": rpc error: code = NotFound desc = container \\"c1\\": not found"';

async function inspected(commands: FakeCommand[], socket = "/run/containerd.sock"): Promise<unknown> {
  using _programs = programsHere(commands);
  return await inspect(`unix://${socket}`, "c1").catch((err: unknown) => err);
}

test("a container that is not found is no missing crictl", async () => {
  const crictl = { command: "crictl *", stderr: `${GONE}\n`, exit: 1 };
  expect(await inspected([crictl])).toMatchObject({
    message: `Cannot look at the containers through "unix:///run/containerd.sock": ${GONE}`,
    hint: expect.stringContaining("systemctl status containerd"),
  });
});

test("without crictl it is said what to install", async () => {
  expect(await inspected([])).toMatchObject({ message: "Cannot list the containers: crictl is missing" });
});

test("a container that has ended is none that must still run after a join, and neither is etcd's", async () => {
  const container = (id: string, name: string, state: string) => ({
    ...{ id, metadata: { name }, state: `CONTAINER_${state}` },
    labels: {
      "io.kubernetes.pod.name": `${name}-m1`,
      "io.kubernetes.pod.namespace": "kube-system",
      "io.kubernetes.pod.uid": "0123456789abcdef0123456789abcdef",
    },
  });
  const stdout = JSON.stringify({
    containers: [
      container("c1", "web", "RUNNING"),
      container("c2", "web", "EXITED"),
      container("c3", "etcd", "RUNNING"),
    ],
  });
  using _programs = programsHere([{ command: "crictl * ps -a -o json", stdout }]);
  const found = await workloadContainers("unix:///run/containerd.sock");
  expect(found.map(({ id }) => id)).toEqual(["c1"]);
});

test.each([
  ["/run/containerd/containerd.sock", "containerd"],
  ["/var/run/crio/crio.sock", "crio"],
  ["/var/run/cri-dockerd.sock", "cri-dockerd"],
])("behind %s the unit to look at is %s", async (socket, unit) => {
  const crictl = { command: "crictl *", stderr: `${GONE}\n`, exit: 1 };
  expect(await inspected([crictl], socket)).toMatchObject({
    hint: expect.stringMatching(new RegExp(`^systemctl status ${unit};`)),
  });
});
