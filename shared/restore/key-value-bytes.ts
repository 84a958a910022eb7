/** A key with its value as etcd stores it. */
import type { KeyValue } from "../etcd-data/data.ts";
import { bytesField, intField } from "./new-member.ts";

/**
 * mvccpb.KeyValue { 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease }, with the key as latin1 text.
 * As in etcd's own bytes, what is empty is left out.
 */
export function keyValueBytes({ key, value, ...numbers }: KeyValue): Buffer {
  const name = bytesField(1, Buffer.from(key, "latin1"));
  const { createRevision, modRevision, version, lease } = numbers;
  const before = [createRevision, modRevision, version].map((number, i) => intField(2 + i, number));
  return Buffer.concat([
    name,
    ...before,
    ...(value.length === 0 ? [] : [bytesField(5, value)]),
    ...(lease === 0n ? [] : [intField(6, lease)]),
  ]);
}
