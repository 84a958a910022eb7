interface Conditions {
  status?: { conditions?: { type: string; status: string }[] };
}

/** Whether a pod's condition Ready is true; the pod may be about to end. */
export function isReady({ status }: Conditions): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") ?? false;
}
