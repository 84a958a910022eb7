/**
 * Applies requests from the log to the keys, as etcd does when it starts. Sources: etcd
 * server/etcdserver/apply (apply.go, corrupt.go, uber_applier.go), etcdserver/txn/txn.go, lease/lessor.go;
 * api/etcdserverpb raft_internal.proto and rpc.proto.
 *
 * A request that changes at least one key makes one new revision; one that is refused, or finds nothing to
 * do, makes none.
 */
import type { Tree } from "./bbolt.ts";
import { deletion, type Mvcc } from "./mvcc.ts";
import { fieldsOf, NOTHING, wireFields } from "./protobuf.ts";
import { type KeyValue, latin1, u64Exact } from "./revisions.ts";

const NOSPACE = 1;
const CORRUPT = 2;
type Operation = { put: Uint8Array } | { deleteRange: Uint8Array };

/** The state a request can depend on besides the keys: leases and alarms. */
export class Replay {
  private readonly mvcc: Mvcc;
  /** Keyed by id: the lifetime in seconds. */
  readonly leases = new Map<bigint, bigint>();
  /** "<member>/<alarm type>" of each raised alarm. */
  readonly alarms = new Set<string>();
  private request = { start: 0, again: (): Uint8Array => NOTHING };
  /** Requests need a user's name (auth enable). */
  hasUsers = false;

  constructor(mvcc: Mvcc, tree?: Tree) {
    this.mvcc = mvcc;
    for (const { key, value } of tree?.items("lease") ?? [])
      this.leases.set(BigInt.asIntN(64, u64Exact(key)), fieldsOf(value).int(2));
    for (const { key, value } of tree?.items("auth") ?? [])
      this.hasUsers ||= key.toString() === "authEnabled" && value[0] === 1;
    for (const { key } of tree?.items("alarm") ?? []) this.raiseAlarm(key);
  }

  /**
   * One etcdserverpb.InternalRaftRequest; what touches no key, lease or alarm is skipped. `again` reads it once more:
   * values stay there.
   */
  apply(request: Uint8Array, again = () => request) {
    this.request = { start: request.byteOffset, again };
    for (const field of wireFields(request)) {
      if (field.number === 10) this.applyAlarm(field.bytes);
      else if (field.number === 1000) this.hasUsers = true;
      else if (this.isRaised(CORRUPT))
        continue; // etcd refuses the rest
      else if (field.number === 7) this.compact(field.bytes);
      else if (field.number === 8) this.grantLease(field.bytes);
      else if (field.number === 9) this.revokeLease(field.bytes);
      else this.write(this.operationsOf(field.number, field.bytes));
    }
  }

  wouldWrite(request: Uint8Array): boolean {
    return wireFields(request).some(({ number, bytes }) => {
      if (this.isRaised(CORRUPT)) return false;
      if (number === 9) return this.keysOfLease(fieldsOf(bytes).int(1)).length > 0;
      return this.operationsOf(number, bytes).some(
        (operation) => "put" in operation || this.keysIn(operation.deleteRange).length > 0,
      );
    });
  }

  /**
   * Leaves out a lease's end; empty if etcd refuses it. All compares, also in nested transactions, see the keys
   * before the first write.
   */
  private operationsOf(field: number, message: Uint8Array): Operation[] {
    if (field === 5) return [{ deleteRange: message }];
    if (field !== 4 && field !== 6) return [];
    if (this.isRaised(NOSPACE) && (field === 4 || hasPut(message))) return [];
    const operations = field === 4 ? [{ put: message }] : this.plan(message);
    return this.isAllowed(operations) ? operations : [];
  }

  /**
   * TxnRequest { 1 compare, 2 success, 3 failure }: the operations of the branch taken, nested ones in place.
   */
  private plan(message: Uint8Array): Operation[] {
    const fields = [...wireFields(message)];
    const holds = fields
      .filter((field) => field.number === 1)
      .every((compare) => this.compare(compare.bytes));
    const branch = fields.filter((field) => field.number === (holds ? 2 : 3));
    return branch
      .flatMap((field) => [...wireFields(field.bytes)])
      .flatMap((operation) => {
        if (operation.number === 2) return [{ put: operation.bytes }];
        if (operation.number === 3) return [{ deleteRange: operation.bytes }];
        return operation.number === 4 ? this.plan(operation.bytes) : [];
      });
  }

  /**
   * Compare { 1 result, 2 target, 3 key, 4-8 a value for each target, 64 range_end }. A missing key is one of
   * zeros, but has no value.
   */
  private compare(message: Uint8Array): boolean {
    const { bytes, int, number } = fieldsOf(message);
    const [holds, target] = [RESULTS[number(1)]!, number(2)];
    const compare = { target, number: int(4 + target), value: bytes(7) };
    const keys = this.range(latin1(bytes(3)), latin1(bytes(64)));
    if (keys.length === 0) return target !== VALUE_TARGET && holds(compareNumbers(0n, compare.number));
    return keys.every((key) => holds(compareTo(this.mvcc.get(key)!, compare)));
  }

  /**
   * etcd refuses the whole request if one of its puts names a lease that does not exist, or keeps the value
   * or lease of no key.
   */
  private isAllowed(operations: Operation[]): boolean {
    return operations.every((operation) => {
      if (!("put" in operation)) return true;
      const put = readPut(operation.put);
      if (put.lease !== 0n && !this.leases.has(put.lease)) return false;
      return !(put.ignoreValue || put.ignoreLease) || this.mvcc.has(put.key);
    });
  }

  private write(operations: Operation[]) {
    const revision = this.mvcc.revision + 1;
    for (const operation of operations) {
      if ("put" in operation) this.writePut(operation.put, revision);
      else this.deleteKeys(this.keysIn(operation.deleteRange), revision);
    }
  }

  private writePut(message: Uint8Array, revision: number) {
    const put = readPut(message);
    const before = this.mvcc.get(put.key);
    const { start, again } = this.request;
    const [from, length] = [put.value.byteOffset - start, put.value.length];
    const current = put.ignoreValue ? before!.value : undefined;
    this.mvcc.revision = revision;
    this.mvcc.add({
      key: put.key,
      get value() {
        return current ?? again().subarray(from, from + length);
      },
      createRevision: before?.createRevision ?? revision,
      modRevision: revision,
      version: (before?.version ?? 0) + 1,
      lease: put.ignoreLease ? before!.lease : put.lease,
      deleted: false,
    });
  }

  /** DeleteRangeRequest { 1 key, 2 range_end }: the live ones. */
  private keysIn(message: Uint8Array): string[] {
    const { start, end } = readRange(message);
    return this.range(start, end);
  }

  private deleteKeys(keys: string[], revision: number) {
    for (const key of keys) {
      this.mvcc.revision = revision;
      this.mvcc.add(deletion(key, revision));
    }
  }

  /**
   * Live keys from `start` up to `end`; no end: `start` alone; an end of one zero byte: all from `start` on.
   */
  private range(start: string, end: string): string[] {
    if (end === "") return this.mvcc.has(start) ? [start] : [];
    const keys = [...this.mvcc.everyKey()].filter(
      (key) => key >= start && (end === "\0" || key < end) && this.mvcc.has(key),
    );
    return keys.sort();
  }

  /** CompactionRequest { 1 revision }. */
  private compact(message: Uint8Array) {
    const revision = fieldsOf(message).number(1);
    if (revision > this.mvcc.compactedRevision && revision <= this.mvcc.revision)
      this.mvcc.compactedRevision = revision;
  }

  /** LeaseGrantRequest { 1 TTL, 2 ID }. */
  private grantLease(message: Uint8Array) {
    const { int } = fieldsOf(message);
    if (!this.isRaised(NOSPACE) && !this.leases.has(int(2))) this.leases.set(int(2), int(1));
  }

  /** LeaseRevokeRequest { 1 ID }: the keys of the lease go with it. */
  private revokeLease(message: Uint8Array) {
    const lease = fieldsOf(message).int(1);
    this.deleteKeys(this.keysOfLease(lease), this.mvcc.revision + 1);
    this.leases.delete(lease);
  }

  private keysOfLease(lease: bigint): string[] {
    const isIts = (one: bigint) => one === lease;
    return this.leases.has(lease) ? [...this.mvcc.keysWithLease(isIts)].sort() : [];
  }

  /** AlarmRequest { 1 action (1 activate, 2 deactivate), 2 memberID, 3 alarm }. */
  private applyAlarm(message: Uint8Array) {
    const fields = fieldsOf(message);
    const action = fields.int(1);
    if (action === 0n) return;
    const alarm = `${BigInt.asUintN(64, fields.int(2))}/${fields.int(3)}`;
    if (action === 1n) this.alarms.add(alarm);
    else this.alarms.delete(alarm);
  }

  /** AlarmMember { 1 memberID, 2 alarm }: the key in the bucket of alarms. */
  private raiseAlarm(member: Uint8Array) {
    const fields = fieldsOf(member);
    this.alarms.add(`${BigInt.asUintN(64, fields.int(1))}/${fields.int(2)}`);
  }

  /** Whether a member has reported that its database is full. */
  get isFull(): boolean {
    return this.isRaised(NOSPACE);
  }

  private isRaised(type: number): boolean {
    if (this.alarms.size === 0) return false;
    return [...this.alarms].some((alarm) => alarm.endsWith(`/${type}`));
  }
}

const VALUE_TARGET = 3;

/** Compare.CompareResult: EQUAL, GREATER, LESS, NOT_EQUAL, of what is there to what is given. */
const RESULTS = [(o: number) => o === 0, (o: number) => o > 0, (o: number) => o < 0, (o: number) => o !== 0];

function compareTo(
  keyValue: KeyValue,
  compare: { target: number; number: bigint; value: Uint8Array },
): number {
  if (compare.target === VALUE_TARGET) return Buffer.compare(keyValue.value, compare.value);
  const { version, createRevision, modRevision, lease } = keyValue;
  const numbers: Record<number, bigint> = {
    0: BigInt(version),
    1: BigInt(createRevision),
    2: BigInt(modRevision),
    4: lease,
  };
  return compareNumbers(numbers[compare.target] ?? 0n, compare.number);
}

function compareNumbers(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** DeleteRangeRequest { 1 key, 2 range_end }. */
export function readRange(message: Uint8Array) {
  const { bytes } = fieldsOf(message);
  return { start: latin1(bytes(1)), end: latin1(bytes(2)) };
}

/** PutRequest { 1 key, 2 value, 3 lease, 5 ignore_value, 6 ignore_lease }. */
export function readPut(message: Uint8Array) {
  const { bytes, int } = fieldsOf(message);
  return {
    key: latin1(bytes(1)),
    value: bytes(2),
    lease: int(3),
    ignoreValue: int(5) !== 0n,
    ignoreLease: int(6) !== 0n,
  };
}

/**
 * Whether either branch of a transaction puts a key: when space has run out, etcd refuses it whichever would
 * be taken.
 */
function hasPut(txn: Uint8Array): boolean {
  const branches = [...wireFields(txn)].filter((field) => field.number === 2 || field.number === 3);
  return branches.some((branch) => [...wireFields(branch.bytes)].some((operation) => operation.number === 2));
}
