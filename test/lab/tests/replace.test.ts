/** What the operator of a rehearsal types of the lines that part 2 printed. */
import { expect, test } from "bun:test";
import { pretendScene } from "../../pretend/scene.ts";
import { deleteNode, putBackByPrinted } from "../scene/replace.ts";
import { type } from "../scene/scene.ts";

const PART_2 = "./bunw scripts/02-control-plane.ts --lost cp3";
const KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
const DELETE = `${KUBECTL} delete node cp3`;
const LABEL = `${KUBECTL} label --overwrite node cp3 disk=nvme`;
const SCREEN = `== 2.6 Prove
  kubectl works here: export KUBECONFIG=/etc/kubernetes/admin.conf

After part 3, before part 4:
  ${DELETE}
Then its marks:
  ${LABEL}
`;

test("the Node is deleted before its name joins again, and never afterwards: a sentence about kubectl is no line to type", async () => {
  const { scene, typed } = pretendScene({
    [PART_2]: { stderr: SCREEN },
    "./bunw scripts/05-verify.ts": { exitCode: 2 },
  });
  const cp1 = scene.lab.controlPlanes[0]!;
  await type(scene, cp1, PART_2);
  await deleteNode(scene);
  await putBackByPrinted(scene, [cp1]);
  expect(typed.slice(1)).toEqual([`cp1: ${DELETE}`, "cp1: ./bunw scripts/05-verify.ts", `cp1: ${LABEL}`]);
});
