/**
 * The members of an etcd cluster, from three places, the later over the earlier: the db's bucket `members`,
 * the v2 store in the newest .snap (etcd 3.5 keeps clientURLs only there), and the log. Sources: etcd
 * server/etcdserver/api/membership (member.go, storev2.go, cluster.go), storage/schema/membership.go and
 * confstate.go, api/membershippb/membership.proto, raftpb/raft.proto.
 */
import type { Tree } from "./bbolt.ts";
import { Damaged, fieldsOf, hexId, wireFields } from "./protobuf.ts";
import type { Entry } from "./wal.ts";

/**
 * `id` is hex, as etcdctl prints it. `clientURLs` is empty for a member that has not published them yet,
 * `name` too.
 */
export interface Member {
  id: string;
  name: string;
  peerURLs: string[];
  clientURLs: string[];
  /** It has no vote: `kubeadm join` adds its member without one, and promotes it a moment later. */
  isLearner: boolean;
}

/** A member's name; its id in hex until it has started for the first time. */
export function memberName({ id, name }: Pick<Member, "id" | "name">): string {
  return name || id;
}

/** Whether it has never run: etcd learns a member's name when it starts. */
export function isNameless(member: Pick<Member, "id" | "name">): boolean {
  return memberName(member) === member.id;
}

/**
 * As etcd writes a member to JSON. Its `id` is a uint64 that JSON.parse would round, so it is never read from
 * here.
 */
type Attributes = Partial<Omit<Member, "id">> & { isPromote?: boolean };

const REMOVE_NODE = 1;
const UPDATE_NODE = 2;
const ADD_LEARNER_NODE = 3;
const NO_ID = hexId(0n);
const ATTRIBUTES = 1301;

export class Members {
  private readonly byId = new Map<string, Member>();

  constructor(tree?: Pick<Tree, "items" | "find">) {
    const learners = tree && learnersIn(tree);
    for (const { key, value } of tree?.items("members") ?? []) {
      const [id, member] = [key.toString(), parseJson<Attributes>(value)];
      this.set(id, { ...member, isLearner: member.isLearner === true && learners?.has(id) !== false });
    }
  }

  list(): Member[] {
    return [...this.byId.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Whether all members have published where clients find them. */
  get complete(): boolean {
    return this.byId.size > 0 && this.list().every((member) => member.clientURLs.length > 0);
  }

  /** From the v2 store of a .snap, /0/members/<id>: names and clientURLs in attributes, peerURLs in raftAttributes. */
  readStore(store: Uint8Array) {
    const root = parseJson<{ Root?: StoreNode }>(store);
    const members = root.Root?.Children?.["0"]?.Children?.members?.Children ?? {};
    for (const [id, { Children }] of Object.entries(members)) {
      this.setAttributes(id, Children?.attributes?.Value ?? "{}");
      this.setPeerUrls(id, parseJson<Attributes>(Buffer.from(Children?.raftAttributes?.Value ?? "{}")));
    }
  }

  /**
   * raftpb.ConfChange { 2 type, 3 node_id, 4 context: the member as JSON }. The type alone says who has a vote; a
   * promotion adds a learner again. etcd refuses to add an existing member (ValidateConfigurationChange).
   */
  applyConfChange(entry: Entry) {
    const fields = fieldsOf(entry.data);
    const [type, id, context] = [fields.number(2), hexId(fields.int(3)), fields.bytes(4)];
    const attributes = context.length > 0 ? parseJson<Attributes>(context) : {};
    if (type === REMOVE_NODE) this.byId.delete(id);
    else if (type === UPDATE_NODE) this.setPeerUrls(id, attributes);
    else if (attributes.isPromote) this.promote(id);
    else if (type !== UPDATE_NODE && id !== NO_ID)
      this.add(id, { ...attributes, isLearner: type === ADD_LEARNER_NODE });
  }

  /** Applies only updates of peerURLs: etcd 3.5 writes them to the log alone, not to the bucket. */
  applyUpdate(entry: Entry) {
    const fields = fieldsOf(entry.data);
    if (fields.number(2) === UPDATE_NODE)
      this.setPeerUrls(hexId(fields.int(3)), parseJson<Attributes>(fields.bytes(4)));
  }

  private setPeerUrls(id: string, { peerURLs }: Attributes) {
    const member = this.byId.get(id);
    if (member && peerURLs) this.set(id, { ...member, peerURLs });
  }

  private promote(id: string) {
    const learner = this.byId.get(id);
    if (learner) this.set(id, { ...learner, isLearner: false });
  }

  private add(id: string, member: Attributes) {
    const isTaken = this.list().some(({ peerURLs }) =>
      peerURLs.some((url) => member.peerURLs?.includes(url)),
    );
    if (!this.byId.has(id) && !isTaken) this.set(id, member);
  }

  /**
   * A member publishes them when it starts: a v2 request PUT /0/members/<id>/attributes up to etcd 3.5, afterwards
   * field 1301 of InternalRaftRequest, ClusterMemberAttrSetRequest { 1 member_ID, 2 { 1 name, 2 client_urls } }.
   */
  applyAttributes(entry: Entry) {
    const legacy = legacyRequest(entry.data);
    const id = legacy?.path.match(/^\/0\/members\/([0-9a-f]+)\/attributes$/)?.[1];
    if (id) this.setAttributes(id, legacy!.value);
    if (legacy) return;
    for (const field of wireFields(entry.data))
      if (field.number === ATTRIBUTES) this.applyAttrSet(field.bytes);
  }

  private applyAttrSet(message: Uint8Array) {
    let id = "";
    const attributes = { name: "", clientURLs: [] as string[] };
    for (const field of wireFields(message)) {
      if (field.number === 1) id = hexId(field.int);
      for (const inner of field.number === 2 ? wireFields(field.bytes) : []) {
        if (inner.number === 1) attributes.name = text(inner.bytes);
        else if (inner.number === 2) attributes.clientURLs.push(text(inner.bytes));
      }
    }
    if (this.byId.has(id)) this.set(id, { ...this.byId.get(id), ...attributes });
  }

  private setAttributes(id: string, json: string) {
    const { name, clientURLs } = parseJson<Attributes>(Buffer.from(json));
    if (this.byId.has(id) && clientURLs)
      this.set(id, { ...this.byId.get(id), clientURLs, ...(name && { name }) });
  }

  private set(id: string, member: Attributes) {
    const { name = "", peerURLs = [], clientURLs = [], isLearner = false } = member;
    this.byId.set(id, { id, name, peerURLs, clientURLs, isLearner });
  }
}

/**
 * Ids of members without a vote in raft: raftpb.ConfState as JSON in the bucket `meta`. In etcd 3.5 the
 * bucket `members` never learns of a promotion. Undefined before etcd 3.5, which keeps no ConfState.
 */
function learnersIn(tree: Pick<Tree, "find">): Set<string> | undefined {
  const json = tree.find("meta", Buffer.from("confState"), (leaf, i) => text(leaf.value(i)));
  if (json === undefined) return undefined;
  // JSON.parse would round these ids
  const ids = /"learners":\[([\d,]+)\]/.exec(json)?.[1]?.split(",") ?? [];
  return new Set(ids.map((id) => hexId(BigInt(id))));
}

/** Whether `applyAttributes` would find something in it. */
export function mayNameMember({ type, data }: Entry): boolean {
  return (
    type === 0 &&
    (legacyRequest(data) !== undefined || wireFields(data).some(({ number }) => number === ATTRIBUTES))
  );
}

interface StoreNode {
  Value?: string;
  Children?: Record<string, StoreNode>;
}

function parseJson<T>(json: Uint8Array): T {
  try {
    return JSON.parse(text(json)) as T;
  } catch (cause) {
    throw new Damaged("what is stored of the members is not JSON", { cause });
  }
}

const METHODS = new Set(["PUT", "POST", "DELETE", "GET", "QGET", "SYNC"]);

/**
 * etcdserverpb.Request { 2 Method, 3 Path, 4 Val }, the v2 requests of etcd up to 3.5; undefined for an
 * InternalRaftRequest.
 */
export function legacyRequest(request: Uint8Array) {
  let [method, path, value] = ["", "", ""];
  for (const field of wireFields(request)) {
    if (field.number > 2 && !METHODS.has(method)) return undefined;
    if (field.number === 2) method = text(field.bytes);
    else if (field.number === 3) path = text(field.bytes);
    else if (field.number === 4) value = text(field.bytes);
  }
  return METHODS.has(method) ? { path, value } : undefined;
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

/** Names of etcd's current members; these are believed whether their Nodes still exist or not. */
export function believedNames({ members }: { members: readonly { name: string }[] }): string[] {
  return members.flatMap(({ name }) => name || []);
}
