# npm run docs writes this file from the scripts' own tables. In a kit's folder, in bash:  . scripts/completion.bash
_kube_pki_repair() {
  local typed=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD - 1]} script=${COMP_WORDS[1]##*/} command="" word words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    words="scripts/00-assess.ts scripts/00-salvage.ts scripts/00-token-key.ts scripts/01-etcd.ts scripts/02-control-plane.ts scripts/03-join.ts scripts/03-workers.ts scripts/04-sa-tokens.ts scripts/05-verify.ts scripts/drill.ts scripts/hand-over.ts scripts/join-again.ts scripts/move.ts scripts/plan.ts scripts/renew-ca.ts scripts/repair.ts scripts/report.ts scripts/restore.ts scripts/words.ts"
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "${typed#./}")
    return
  fi
  case "$script $last" in
  "00-assess.ts --output") words="short json" ;;
  "05-verify.ts --output") words="short json" ;;
  "00-assess.ts --device" | "00-assess.ts --image" | "00-assess.ts --manifest" | "00-assess.ts --etcd-data" | "00-assess.ts --control-plane" | "00-salvage.ts --device" | "00-salvage.ts --image" | "00-salvage.ts --minutes" | "00-salvage.ts --certificate-key-file" | "00-salvage.ts --kid" | "00-salvage.ts --from" | "00-salvage.ts --backup" | "00-salvage.ts --pid" | "00-salvage.ts --etcd-data" | "00-token-key.ts --from" | "00-token-key.ts --token-file" | "00-token-key.ts --kid" | "00-token-key.ts --etcd-data" | "01-etcd.ts --without" | "01-etcd.ts --lost-on" | "01-etcd.ts --start-without" | "01-etcd.ts --endpoint" | "01-etcd.ts --etcd-data" | "02-control-plane.ts --without" | "02-control-plane.ts --lost" | "02-control-plane.ts --lost-on" | "02-control-plane.ts --start-without" | "02-control-plane.ts --endpoint" | "02-control-plane.ts --etcd-data" | "03-join.ts --server" | "03-join.ts --ca-hash" | "03-join.ts --token-file" | "03-join.ts --without" | "03-join.ts --lost" | "03-join.ts --etcd-data" | "03-workers.ts --token-file" | "03-workers.ts --endpoint" | "03-workers.ts --without" | "03-workers.ts --lost" | "03-workers.ts --wait" | "03-workers.ts --etcd-data" | "04-sa-tokens.ts --without" | "04-sa-tokens.ts --lost" | "04-sa-tokens.ts --namespace" | "04-sa-tokens.ts --skip" | "04-sa-tokens.ts --etcd-data" | "05-verify.ts --wait" | "05-verify.ts --without" | "05-verify.ts --metrics" | "05-verify.ts --etcd-data" | "drill.ts --bundle" | "drill.ts --backup" | "drill.ts --snapshot" | "drill.ts --etcd-data" | "hand-over.ts --to" | "hand-over.ts --passphrase-file" | "hand-over.ts --identity" | "hand-over.ts --out" | "hand-over.ts --ca-hash" | "hand-over.ts --etcd-data" | "join-again.ts --address" | "join-again.ts --kubernetes" | "join-again.ts --lost" | "join-again.ts --etcd-data" | "move.ts --moved" | "move.ts --without" | "move.ts --etcd-data" | "plan.ts --lost" | "plan.ts --without" | "plan.ts --lost-on" | "plan.ts --start-without" | "plan.ts --seen" | "plan.ts --worker" | "plan.ts --endpoint" | "plan.ts --user" | "plan.ts --device" | "plan.ts --image" | "plan.ts --etcd-data" | "renew-ca.ts --only" | "renew-ca.ts --from" | "renew-ca.ts --etcd-data" | "repair.ts --lost" | "repair.ts --without" | "repair.ts --lost-on" | "repair.ts --start-without" | "repair.ts --worker" | "repair.ts --endpoint" | "repair.ts --address" | "repair.ts --etcd-data" | "repair.ts --files" | "repair.ts --kit" | "repair.ts --log" | "report.ts --bundle" | "report.ts --logs" | "report.ts --etcd-data" | "restore.ts --as" | "restore.ts --from" | "restore.ts --ca-hash" | "restore.ts --address" | "restore.ts --lost" | "restore.ts --lost-on" | "restore.ts --etcd-data" | "restore.ts --give-up" | "words.ts --back") return ;; # a value: a file's name, mostly
  esac
  for word in "${COMP_WORDS[@]:2:COMP_CWORD-2}"; do
    case "$word" in -*) ;; *) [ -n "$command" ] || command=$word ;; esac
  done
  [ -n "$words" ] || case "$script $command" in
  "00-assess.ts ") words="--deep --no-disk --device --image --all --output --json --kubeadm-config --manifest --etcd-data --control-plane --help" ;;
  "00-salvage.ts ") words="memory secret disk files --device --image --minutes --certificate-key-file --kid --from --backup --pid --move-aside --etcd-data --dry-run --help" ;;
  "00-salvage.ts memory") words="--kid --from --backup --pid --move-aside --etcd-data --dry-run --help" ;;
  "00-salvage.ts secret") words="--certificate-key-file --kid --from --backup --pid --move-aside --etcd-data --dry-run --help" ;;
  "00-salvage.ts disk") words="--device --image --minutes --kid --from --backup --pid --move-aside --etcd-data --dry-run --help" ;;
  "00-salvage.ts files") words="--backup --pid --etcd-data --dry-run --help" ;;
  "00-token-key.ts ") words="--from --token-file --kid --etcd-data --dry-run --help" ;;
  "01-etcd.ts ") words="--new-cas --new-internal-cas --without --lost-on --start-without --endpoint --images-later --etcd-data --dry-run --help" ;;
  "02-control-plane.ts ") words="--super-admin --without --lost --lost-on --start-without --endpoint --images-later --etcd-data --dry-run --help" ;;
  "03-join.ts ") words="--server --ca-hash --token-file --without --lost --etcd-data --dry-run --help" ;;
  "03-workers.ts ") words="open close approve --without --lost --etcd-data --dry-run --help" ;;
  "03-workers.ts open") words="--one-token --token-file --endpoint --without --lost --etcd-data --dry-run --help" ;;
  "03-workers.ts close") words="--without --lost --wait --etcd-data --dry-run --help" ;;
  "03-workers.ts approve") words="--without --lost --etcd-data --dry-run --help" ;;
  "04-sa-tokens.ts ") words="retire --without --lost --only-system --namespace --skip --etcd-data --dry-run --help" ;;
  "04-sa-tokens.ts retire") words="--without --lost --force --etcd-data --dry-run --help" ;;
  "05-verify.ts ") words="--all --output --json --wait --without --metrics --etcd-data --help" ;;
  "drill.ts ") words="--bundle --backup --snapshot --json --etcd-data --help" ;;
  "hand-over.ts ") words="pack unpack list snapshot identity files --etcd-data --dry-run --help" ;;
  "hand-over.ts pack") words="--to --generate --passphrase-file --out --with-etcd --force --etcd-data --dry-run --help" ;;
  "hand-over.ts unpack") words="--passphrase-file --identity --force --ca-hash --move-aside --etcd-data --dry-run --help" ;;
  "hand-over.ts list") words="--passphrase-file --identity --etcd-data --json --dry-run --help" ;;
  "hand-over.ts snapshot") words="--passphrase-file --identity --out --ca-hash --etcd-data --dry-run --help" ;;
  "hand-over.ts identity") words="--etcd-data --dry-run --help" ;;
  "hand-over.ts files") words="--etcd-data --dry-run --help" ;;
  "join-again.ts ") words="--address --kubernetes --lost --etcd-data --dry-run --help" ;;
  "move.ts ") words="--moved --without --etcd-data --dry-run --help" ;;
  "plan.ts ") words="--lost --without --lost-on --start-without --seen --worker --endpoint --user --json --deep --no-disk --device --image --etcd-data --help" ;;
  "renew-ca.ts ") words="--only --from --undo --etcd-data --dry-run --json --help" ;;
  "repair.ts ") words="--yes --new-keys --deep --lost --without --lost-on --start-without --worker --endpoint --address --etcd-data --files --kit --log --clean-up --help" ;;
  "report.ts ") words="--bundle --with-names --logs --etcd-data --help" ;;
  "restore.ts ") words="--as --from --ca-hash --address --lost --lost-on --skip-hash-check --disarm --etcd-data --give-up --dry-run --json --help" ;;
  "words.ts ") words="--back --json --help" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$typed")
}
complete -o default -F _kube_pki_repair ./bunw
