/** scripts/completion.bash, from the tables by which the scripts read their command lines. */
import type { ScriptConfig } from "../../shared/options.ts";

/** Script ("01-etcd") → its table. */
export type Tables = ReadonlyMap<string, ScriptConfig>;

type Option = NonNullable<ScriptConfig["options"]>[string] & {
  of?: readonly string[];
  oneOf?: readonly string[];
};

const optionsOf = (config: ScriptConfig) =>
  Object.entries((config.options ?? {}) as Record<string, Option>);

/** Options of these scripts that take no value, sorted; none of them takes one in another script. */
export function switchesIn(tables: Tables): string[] {
  const all = [...tables.values()].flatMap(optionsOf);
  const named = (type: string) =>
    new Set(all.filter(([, option]) => option.type === type).map(([name]) => name));
  return [...named("boolean").difference(named("string"))].sort();
}

/** The words after a sub-command; "": where none is typed yet. */
function wordsAfter(config: ScriptConfig, command: string): string[] {
  const fits = ({ of }: Option) => !of || of.includes(command);
  const commands = command === "" ? Object.keys(config.commands ?? {}).filter(Boolean) : [];
  return [
    ...commands,
    ...optionsOf(config).flatMap(([name, option]) => (fits(option) ? [`--${name}`] : [])),
  ];
}

function caseOf(script: string, config: ScriptConfig): string[] {
  const commands = ["", ...Object.keys(config.commands ?? {}).filter(Boolean)];
  return commands.map(
    (command) => `  "${script}.ts ${command}") words="${wordsAfter(config, command).join(" ")}" ;;`,
  );
}

/** The text of scripts/completion.bash. */
export function completionText(tables: Tables): string {
  const options = [...tables].flatMap(([script, config]) =>
    optionsOf(config).map(([name, option]) => ({ key: `${script}.ts --${name}`, option })),
  );
  const taken = options.filter(({ option }) => option.type === "string" && !option.oneOf);
  return `# npm run docs writes this file from the scripts' own tables. In a kit's folder, in bash:  . scripts/completion.bash
_kube_pki_repair() {
  local typed=\${COMP_WORDS[COMP_CWORD]} last=\${COMP_WORDS[COMP_CWORD - 1]} script=\${COMP_WORDS[1]##*/} command="" word words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    words="${[...tables.keys()].map((script) => `scripts/${script}.ts`).join(" ")}"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "\${typed#./}")
    return
  fi
  case "$script $last" in
${options.flatMap(({ key, option }) => (option.oneOf ? [`  "${key}") words="${option.oneOf.join(" ")}" ;;`] : [])).join("\n")}
  ${taken.map(({ key }) => `"${key}"`).join(" | ")}) return ;; # a value: a file's name, mostly
  esac
  for word in "\${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
    case "$word" in -*) ;; *) [ -n "$command" ] || command=$word ;; esac
  done
  [ -n "$words" ] || case "$script $command" in
${[...tables].flatMap(([script, config]) => caseOf(script, config)).join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$typed")
}
complete -o default -F _kube_pki_repair ./bunw
`;
}
