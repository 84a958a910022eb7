/**
 * Keys that the operator gives up: their values are damaged, and nothing has them whole. The whole key goes, with all of
 * its revisions: an older value of it would be none that the cluster had then. The log is read on the key as it was, so
 * that the others keep their revisions.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { toRaw } from "../etcd-data/key-text.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { parseKeyValue } from "../etcd-data/revisions.ts";

/** `keys`: those that can be left out; empty where that would not be the end of it. */
export class Unmended extends Damaged {
  readonly keys: readonly string[];

  constructor(words: string, keys: readonly string[]) {
    super(words);
    this.keys = keys;
  }
}

/** A key of Kubernetes, and no word that a list on a command line would cut. */
const PLAIN = /^[\w/][\w./:@%~=-]*$/;

/** Whether the key itself is beyond doubt: else the real one would come back older, without a word. */
export function canLeaveOut(key: string, found: readonly { isName?: boolean }[]): boolean {
  return PLAIN.test(key) && !found.some(({ isName }) => isName);
}

/** The same data without these keys: what is written of it has none of their revisions. */
export function withKeysLeftOut(data: EtcdData, left: readonly string[]): EtcdData {
  if (left.length === 0) return data;
  const gone = new Set(left);
  const raw = new Set(left.map(toRaw));
  const rest = (names: string[]) => names.filter((name) => !gone.has(name));
  const own: Partial<EtcdData> = {
    keyCount: rest(data.keys("")).length,
    get: (key) => (gone.has(key) ? undefined : data.get(key)),
    valueHead: (key, length) => (gone.has(key) ? undefined : data.valueHead(key, length)),
    leaseOf: (key) => (gone.has(key) ? 0n : data.leaseOf(key)),
    *list(prefix) {
      for (const one of data.list(prefix)) if (!gone.has(one.key)) yield one;
    },
    history: (key) => (gone.has(key) ? [] : data.history(key)),
    keys: (prefix) => rest(data.keys(prefix)),
    deletedKeys: (prefix) => rest(data.deletedKeys(prefix)),
    stored() {
      const { rows, changes, ...more } = data.stored();
      const isLeft = ({ key }: { key: string }) => !raw.has(key);
      return { ...more, rows: rowsBut(rows, raw), changes: changes.filter(isLeft) };
    },
  };
  return Object.create(
    data,
    Object.fromEntries(Object.entries(own).map(([name, value]) => [name, { value, enumerable: true }])),
  );
}

function* rowsBut(rows: ReturnType<EtcdData["stored"]>["rows"], raw: ReadonlySet<string>) {
  for (const row of rows) if (!raw.has(parseKeyValue(row.value).key)) yield row;
}
