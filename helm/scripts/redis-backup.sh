#!/bin/sh
# Take a snapshot of a Redis or Valkey server over its network, check it, and keep the newest ones. It needs valkey-cli and
# valkey-check-rdb. The chart's CronJob and compose.yaml run it in Valkey's image. From the environment:
#   GSI_REDIS_URL             redis://[USER@]HOST[:PORT], or rediss://…; the user needs the rights +sync and +replconf alone
#   GSI_REDIS_PASSWORD_FILE   and GSI_REDIS_TLS_CA, GSI_REDIS_TLS_CERT, GSI_REDIS_TLS_KEY: files; unset: none
#   BACKUP_FOLDER             gets redis-TIME.rdb, and never a part of one under such a name
#   BACKUP_KEEP               how many of them stay
set -eu
umask 077

refuse() {
  echo "backup: $1" >&2
  exit 78
}
case $GSI_REDIS_URL in
  redis://* | rediss://*) ;;
  *) refuse "GSI_REDIS_URL is not of one server; allowed: redis://[USER@]HOST[:PORT] or rediss://…, of a replica if there are several servers" ;;
esac
rest=${GSI_REDIS_URL#*://}
place=${rest##*@}
place=${place%%[/?]*}
host=${place%:*}
port=${place##*:}
[ "$host" != "$place" ] || port=6379
set -- -h "$host" -p "$port"
case $rest in
  *:*@*) refuse "GSI_REDIS_URL has a password; allowed: a password in a file, which GSI_REDIS_PASSWORD_FILE names" ;;
  *@*) set -- "$@" --user "${rest%@*}" ;;
esac
case $GSI_REDIS_URL in
  rediss://*)
    set -- "$@" --tls
    [ -z "${GSI_REDIS_TLS_CA:-}" ] || set -- "$@" --cacert "$GSI_REDIS_TLS_CA"
    [ -z "${GSI_REDIS_TLS_CERT:-}" ] || set -- "$@" --cert "$GSI_REDIS_TLS_CERT" --key "$GSI_REDIS_TLS_KEY"
    ;;
esac
if [ -n "${GSI_REDIS_PASSWORD_FILE:-}" ]; then
  VALKEYCLI_AUTH=$(tr -d '\r\n' <"$GSI_REDIS_PASSWORD_FILE")
  REDISCLI_AUTH=$VALKEYCLI_AUTH # the name in releases before Valkey's
  export VALKEYCLI_AUTH REDISCLI_AUTH
fi

cd "$BACKUP_FOLDER"
rm -f redis-*.part # of a run that was killed
name=redis-$(date -u +%Y%m%dT%H%M%SZ).rdb
part=$name.part
trap 'rm -f "$part"' EXIT
valkey-cli "$@" --rdb "$part"
found=$(valkey-check-rdb "$part") || {
  echo "$found" >&2
  echo "backup: the snapshot cannot be read; the earlier ones stay" >&2
  exit 1
}
num_keys=$(echo "$found" | sed -n 's/.*\[info\] \([0-9]*\) keys read.*/\1/p')
[ "${num_keys:-0}" -gt 0 ] || {
  echo "backup: the server has no key, though a queue has some: it was perhaps lost; the earlier snapshots stay" >&2
  exit 1
}
mv "$part" "$name"
ls redis-*.rdb | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | while read -r each; do
  rm "$each"
done
echo "backup: $name, $(wc -c <"$name") bytes, $num_keys keys"
