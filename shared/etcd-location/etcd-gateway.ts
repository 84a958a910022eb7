/**
 * Where etcd's JSON gateway is, by the flags or variables of its static pod: this kit asks etcd through it. etcd's embed/config.go and
 * etcdmain/config.go: a variable is `ETCD_` and the flag's name; --listen-client-http-urls takes the gateway away from the client port.
 */
import { Refused } from "../fail.ts";
import { commandOf, flags, mainContainer } from "../manifests/command.ts";
import type { PodSpec } from "../objects/objects.ts";
import { endpointUrl } from "../pki/addresses.ts";
import { hostOf } from "./own-member.ts";

type EtcdPod = { spec: PodSpec };

const [OFF, ELSEWHERE] = ["enable-grpc-gateway", "listen-client-http-urls"];

/** Its URL where it has one of its own, at best at this node's `address`. Undefined: it is at the client port, or is off. */
export function gatewayUrl(pod: EtcdPod, address: string): string | undefined {
  const urls = urlsOf(pod).filter((url) => url.startsWith("https://"));
  const own = urls.find((url) => hostOf(url) === address);
  const any = urls.find((url) => ["0.0.0.0", "::"].includes(hostOf(url)));
  return own ?? (any ? endpointUrl(address, Number(new URL(any).port)) : urls[0]);
}

/** Why this kit cannot ask such an etcd; undefined where it can. `path`: of its manifest. */
export function gatewayTrouble(pod: EtcdPod, path: string): Refused | undefined {
  const setting = settingOf(pod, OFF);
  const urls = urlsOf(pod);
  const isOff = setting !== undefined && /^(0|f|false)$/i.test(setting);
  if (!isOff && (urls.length === 0 || urls.some((url) => url.startsWith("https://")))) return undefined;
  const flag = isOff ? `--${OFF}=${setting}` : `--${ELSEWHERE}=${urls.join(",")}`;
  const why = isOff ? "has no JSON gateway" : "has its JSON gateway at a URL without TLS: nothing proves who answers there";
  return new Refused(`etcd ${why} (${flag}), and this kit asks etcd through it`, {
    hint:
      `nothing was changed. In ${path} ${isOff ? "take that flag out" : "make it an https: URL"}; its kubelet restarts etcd, and the API is away for some ` +
      "seconds. See that kubectl answers, then this again. Put the flag back when 05-verify is well",
  });
}

function urlsOf(pod: EtcdPod): string[] {
  return (settingOf(pod, ELSEWHERE) ?? "").split(",").filter(Boolean);
}

function settingOf(pod: EtcdPod, name: string): string | undefined {
  const variable = `ETCD_${name.toUpperCase().replaceAll("-", "_")}`;
  const words = [...commandOf(pod), ...(mainContainer(pod)?.args ?? [])];
  return flags(words).get(name) ?? mainContainer(pod)?.env?.find((one) => one.name === variable)?.value;
}
