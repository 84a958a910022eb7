/** A new machine takes a lost node's place: which of its addresses is the node's. */
import { expect, test } from "bun:test";
import type { Content } from "../../../shared/restore/content.ts";
import { newAddress } from "../../../shared/restore/new-place.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";

const { cluster, data } = controlPlaneOf(await pretendData());
const node = cluster.nodes.find(({ name }) => name === "m1")!;
const found = { cluster, node, data } as unknown as Content;
const [OLD] = node.places as [string];

/** `[what this machine has, --address, its default route's, the node's]` */
const ROWS: [addresses: string[], given: string | undefined, routed: string | undefined, chosen: string][] = [
  [["10.9.9.9", OLD], undefined, "10.9.9.9", OLD],
  [["10.9.9.9"], undefined, undefined, "10.9.9.9"],
  [["10.9.9.9", "10.8.8.8"], undefined, "10.8.8.8", "10.8.8.8"],
  [["10.9.9.9", "10.8.8.8"], "10.9.9.9", "10.8.8.8", "10.9.9.9"],
  [["fd00::9", "10.9.9.9"], undefined, undefined, "10.9.9.9"],
];

test.each(ROWS)("%p, --address %p, by default route %p: %p", (addresses, given, routed, chosen) => {
  expect(newAddress(found, { addresses, given, routed })).toBe(chosen);
});

test("of two with nothing that decides, and of none that may be, it asks", () => {
  const ask = (addresses: string[], given?: string) => () =>
    newAddress(found, { addresses, given, routed: undefined });
  expect(ask(["10.9.9.9", "10.8.8.8"])).toThrow(
    "Cannot tell which address is the node's: this machine has 10.9.9.9, 10.8.8.8",
  );
  expect(ask(["10.9.9.9"], "10.7.7.7")).toThrow('This machine has no address "10.7.7.7"');
  expect(ask(["10.97.0.9"])).toThrow("in the cluster's own range 10.97.0.0/16");
});
