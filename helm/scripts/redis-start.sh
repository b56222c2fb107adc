#!/bin/sh
# Start Valkey with the password in a file, and follow the file: when its content changes, the server takes the new password as
# well, and the old one for KEEP_OLD_SECONDS more, until every client has read its own copy of the Secret. Nothing restarts.
# Connections that are open stay open. The server is given hashes, so no password is in a list of processes.
set -eu
password_file=/secrets/redis/password
socket=/run/redis/redis.sock

read_password() { tr -d '\r\n' <"$password_file"; }
hash() { printf %s "$1" | sha256sum | cut -c 1-64; }
change() { # RULE: one rule of the server's only user, by the password that works
  answer=$(VALKEYCLI_AUTH=$password REDISCLI_AUTH=$password valkey-cli -s "$socket" ACL SETUSER default "$1" 2>&1) || true
  [ "$answer" = OK ] || { echo "password: the server answered: $answer"; return 1; }
}

follow() { # $password: the one that the server was started with
  set +e
  old=""
  drop_at=0
  while sleep 2 && kill -0 $$ 2>/dev/null; do # $$ is the server
    new=$(read_password 2>/dev/null)
    if [ -n "$new" ] && [ "$new" != "$password" ]; then
      change "#$(hash "$new")" || continue
      old="$old $(hash "$password")"
      password=$new
      drop_at=$(($(date +%s) + KEEP_OLD_SECONDS))
      echo "password: the new one works, the old one for $KEEP_OLD_SECONDS s more"
    elif [ -n "$old" ] && [ "$(date +%s)" -ge "$drop_at" ]; then
      for each in $old; do
        [ "$each" = "$(hash "$password")" ] || change "!$each"
      done
      old=""
      echo "password: the old one does not work any more"
    fi
  done
}

password=$(read_password)
[ -n "$password" ] || { echo "password: $password_file is empty" >&2; exit 1; }
{
  cat /etc/redis/redis.conf
  echo "unixsocket $socket"
  echo "unixsocketperm 700"
  echo "user default on sanitize-payload ~* &* +@all #$(hash "$password")"
} >/run/redis/redis.conf
follow &
exec valkey-server /run/redis/redis.conf
