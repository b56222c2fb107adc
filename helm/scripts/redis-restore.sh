#!/bin/sh
# Put a snapshot in the place of a server's data, while the server is down. What was there stays beside it.
#   BACKUP_FOLDER, BACKUP_FILE   the snapshot; without BACKUP_FILE the newest one
#   REDIS_FOLDER                 the server's data
#   GSI_REDIS_URL                where the server would answer, if it were up
set -eu
umask 077
socket=/tmp/restore.sock
ask() { valkey-cli -s "$socket" "$@"; }
place=${GSI_REDIS_URL#*://}
place=${place%%/*}

file=$BACKUP_FOLDER/${BACKUP_FILE:-$(cd "$BACKUP_FOLDER" && ls redis-*.rdb | sort | tail -n 1)}
valkey-check-rdb "$file" >/tmp/check || { cat /tmp/check >&2; echo "restore: $file cannot be read" >&2; exit 1; }
if valkey-cli -h "${place%:*}" -p "${place##*:}" PING 2>/dev/null | grep -Eq 'PONG|NOAUTH|LOADING'; then
  echo "restore: the server at $place is up, and would write over what is restored; scale it to 0 first" >&2
  exit 78
fi

# A server with an append-only file ignores a snapshot. So the snapshot is read by a server that nobody reaches, which writes it
# as an append-only file: the one that the real server starts from.
aside=$REDIS_FOLDER/before-restore-$(date -u +%Y%m%dT%H%M%SZ)
new=$REDIS_FOLDER/restoring
rm -rf "$new"
mkdir "$new"
cp "$file" "$new/dump.rdb"
valkey-server --dir "$new" --port 0 --unixsocket "$socket" --appendonly no --save "" --daemonize no &
server=$!
until [ "$(ask PING 2>/dev/null)" = PONG ]; do
  kill -0 $server
  sleep 0.2
done
[ "$(ask CONFIG SET appendonly yes)" = OK ]
until ask INFO persistence | grep -q '^aof_rewrite_in_progress:0'; do
  kill -0 $server
  sleep 0.2
done
ask INFO persistence | grep -q '^aof_last_bgrewrite_status:ok'
num_keys=$(ask DBSIZE)
ask SHUTDOWN NOSAVE
wait $server

if [ -d "$REDIS_FOLDER/appendonlydir" ]; then
  mkdir "$aside"
  mv "$REDIS_FOLDER/appendonlydir" "$aside/"
fi
mv "$new/appendonlydir" "$REDIS_FOLDER/"
rm -rf "$new"
echo "restore: $num_keys keys of $file; what was there before: $aside"
