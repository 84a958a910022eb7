/**
 * CBOR, in which the API server stores custom resources where the gate CBORServingAndStorage is on (apimachinery
 * pkg/runtime/serializer/cbor): the tag "self-described CBOR" (RFC 8949, 3.4.6), then a map. No custom resource is needed here, so none is
 * decoded; that a value is one can be said.
 */

const TAG = Buffer.from([0xd9, 0xd9, 0xf7]);

/** By its first bytes. */
export function isCbor(value: Uint8Array): boolean {
  return TAG.equals(value.subarray(0, TAG.length));
}

/** Whether a value is one whole map in CBOR, to its last byte. */
export function isCborMap(value: Uint8Array): boolean {
  if (!isCbor(value) || value[TAG.length]! >> 5 !== MAP) return false;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  return endOf(view, TAG.length, 0) === value.length;
}

const [BYTES, TEXT, LIST, MAP, TAGGED] = [2, 3, 4, 5, 6];

/** Deeper than any object of Kubernetes. */
const DEPTH = 200;

/** Where the item ends that begins at `at`; undefined where it is not well-formed. Kubernetes writes no item of indefinite length. */
function endOf(view: DataView, at: number, depth: number): number | undefined {
  if (at >= view.byteLength || depth > DEPTH) return undefined;
  const [major, info] = [view.getUint8(at) >> 5, view.getUint8(at) & 31];
  const width = info < 24 ? 0 : info < 28 ? 2 ** (info - 24) : undefined;
  if (width === undefined || at + 1 + width > view.byteLength) return undefined;
  const argument = width === 0 ? info : numberAt(view, at + 1, width);
  const next = at + 1 + width;
  if (major === BYTES || major === TEXT) return next + argument <= view.byteLength ? next + argument : undefined;
  const items = major === LIST ? argument : major === MAP ? argument * 2 : major === TAGGED ? 1 : 0;
  let end: number | undefined = next;
  for (let i = 0; i < items && end !== undefined; i++) end = endOf(view, end, depth + 1);
  return end;
}

function numberAt(view: DataView, at: number, width: number): number {
  if (width === 8) return Number(view.getBigUint64(at));
  return width === 4 ? view.getUint32(at) : width === 2 ? view.getUint16(at) : view.getUint8(at);
}
