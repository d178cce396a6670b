"""The two shell scripts of a migration's Pod, and the advisory lock that one of them holds while the other migrates.

They speak through empty files in a folder that both containers see: `ready` (the migrations' image is there), then `held` or `refused`, then `done`. No container of a
Pod ends another, and sidecars that end by themselves came with Kubernetes 1.29: so the one with the lock ends when `done` is there, or when the other one's
sign of life, written each second, has stopped. What happened is left in /dev/termination-log, which the kubelet puts into the Pod's status (it keeps the last
4 KiB): it outlives a lost log. POSIX sh; of programs only sleep, date, mkfifo, psql.
"""

# Advisory locks are of one database each, so one key serves for all (PostgreSQL manual, 13.3.5); others of nightshift's have other classes.
LOCK_CLASS, LOCK_OBJECT = 0x6E736D67, 1
SIGNALS = "/nightshift"
# Of sysexits.h, "temporary failure": the command was not started.
NOT_STARTED = 75
SILENT_SECONDS = 30

# $1: seconds to wait for the lock at most; $2: the command that prints what is pending, or nothing; then the migration's command.
MIGRATE = r"""
set -u
signals=SIGNALS
limit=$1
pending=$2
shift 2
pause() { sleep 0.2 2>/dev/null || sleep 1; }
names=
tell() { printf '%s\n' "$names" "$@" >/dev/termination-log 2>/dev/null || true; }
tell started=no
trap "exit NOT_STARTED" TERM INT
: >"$signals/ready"
deadline=$(($(date +%s) + limit))
while [ ! -e "$signals/held" ]; do
  if [ -e "$signals/refused" ] || [ "$(date +%s)" -ge "$deadline" ]; then
    : >"$signals/done"
    echo "nightshift: the migration was not started: its lock could not be had" >&2
    exit NOT_STARTED
  fi
  pause
done
tell started=yes
# It ends by itself: a signal that reaches a shell just born, before it has left its parent's traps behind, is lost.
while [ ! -e "$signals/done" ]; do date +%s >"$signals/alive"; sleep 1; done &
"$@" &
child=$!
interrupted=
trap 'interrupted=yes; kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
code=$?
# A wait that a signal interrupts gives the signal's number, with the child still there; of a child that was waited for already it gives 127.
while [ -n "$interrupted" ]; do
  interrupted=
  wait "$child"
  again=$?
  [ "$again" = 127 ] || code=$again
done
asked=
count=0
if [ "$code" = 0 ] && [ -n "$pending" ]; then
  list=$(sh -c "$pending")
  asked=$?
  while IFS= read -r one; do
    [ -n "$one" ] || continue
    count=$((count + 1))
    echo "nightshift: pending: $one"
    [ "$count" -gt 30 ] || names="$names
pending:$one"
  done <<END
$list
END
fi
tell started=yes "code=$code" "asked=$asked" "count=$count"
: >"$signals/done"
exit "$code"
""".replace("SIGNALS", SIGNALS).replace("NOT_STARTED", str(NOT_STARTED))

_KEY = f"{LOCK_CLASS}, {LOCK_OBJECT}"
# Given words that come before l and a, who holds the lock in this database; other roles' addresses are seen by pg_read_all_stats alone (manual, 28.2).
HOLDERS = f"""FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {LOCK_CLASS} AND l.objid = {LOCK_OBJECT} AND l.objsubid = 2
AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())"""  # noqa: S608 - constants
_HOLDER = (
    "SELECT coalesce(pg_catalog.string_agg('pid ' || a.pid || ', application ' || pg_catalog.quote_literal(a.application_name) || ', client ' ||"
    " coalesce(pg_catalog.host(a.client_addr), 'not shown'), '; '), 'nobody any more') " + HOLDERS.replace("\n", " ")
)

# $1: name of the migration's sessions; $2: seconds to wait for the lock; $3: the variable with the database's address, or nothing: libpq's own variables.
# An answer is one line, always: a query that gives no row would be waited for. A failing one ends psql (ON_ERROR_STOP), and the lock with it.
# The address is an argument of psql, which the Pod's own processes can read, as they can its environment. Of what psql says only sentences are passed on that never
# repeat it.
HOLD = (
    r"""
set -u
trap '' PIPE
signals=SIGNALS
name=$1
patience=$2
address=
[ -z "$3" ] || eval "address=\$$3"
held=no seen=no lost=no holder= looks=0
pause() { sleep 0.2 2>/dev/null || sleep 1; }
tell() { printf '%s\n' "holder=$holder" "held=$held" "seen=$seen" "lost=$lost" >/dev/termination-log 2>/dev/null || true; }
ask() { printf '%s;\n' "$1" >&3 2>/dev/null && IFS= read -r answer <&4; }
over() {
  [ ! -e "$signals/done" ] || return 0
  [ -e "$signals/alive" ] || return 1
  read -r last <"$signals/alive" && [ -n "$last" ] && [ $(($(date +%s) - last)) -gt SILENT ]
}
refuse() {
  echo "nightshift: the lock could not be had within $patience s: $holder" >&2
  tell
  : >"$signals/refused"
  exit 0
}
psql_said() {
  while IFS= read -r line; do
    case $line in
      *FATAL:*) line="FATAL:${line##*FATAL:}" ;;
      *failed:*) line=${line##*failed: } ;;
      *"not found"*) line="the lock's image has no psql" ;;
      *) continue ;;
    esac
    echo "nightshift: psql: $line" >&2
    [ "$holder_known" = yes ] || holder="could not connect: $line"
  done <"$signals/said"
}
session() {
  rm -f "$signals/ask" "$signals/answer"
  mkfifo "$signals/ask" "$signals/answer"
  psql -X -q -A -t -w -v ON_ERROR_STOP=1 ${address:+-d "$address"} <"$signals/ask" >"$signals/answer" 2>"$signals/said" &
  psql=$!
  exec 3>"$signals/ask" 4<"$signals/answer"
  # A server that has gone without a word lets `read` wait for a quarter of an hour.
  (while ! over; do pause; done; sleep 2; kill "$psql" 2>/dev/null) 3>&- 4<&- &
  guard=$!
  have=no
  while ! over; do
    if [ "$have" = no ]; then
      ask "SELECT pg_catalog.pg_try_advisory_lock(KEY)" || break
      if [ "$answer" = t ]; then
        have=yes held=yes
        tell
        : >"$signals/held"
      else
        ask "HOLDER" || break
        holder=$answer holder_known=yes
        [ "$held" = yes ] || [ "$(date +%s)" -lt "$deadline" ] || refuse
      fi
    elif [ "$seen" = no ]; then
      # A session may last no longer than a few milliseconds: the server looks each 5 ms, at first without a pause of ours. Each look is a transaction of its own: a
      # snapshot that stays would hold up CREATE INDEX CONCURRENTLY. A role that may not use plpgsql sees nothing, and keeps the lock.
      ask "\\unset ON_ERROR_STOP
DO 'BEGIN FOR i IN 1..40 LOOP
  IF EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE application_name = ''$name'') THEN
    PERFORM pg_catalog.set_config(''nightshift.seen'', ''yes'', false); EXIT;
  END IF;
  PERFORM pg_catalog.pg_sleep(0.005); COMMIT;
END LOOP; END';
\\set ON_ERROR_STOP on
SELECT coalesce(pg_catalog.current_setting('nightshift.seen', true), 'no')" || break
      [ "$answer" != yes ] || { seen=yes && tell; }
      looks=$((looks + 1))
      [ "$looks" -gt 50 ] || continue
    else
      ask "SELECT 1" || break
    fi
    pause
  done
  over || [ "$have" = no ] || lost=yes
  exec 3>&- 4<&-
  kill "$psql" "$guard" 2>/dev/null
  wait "$psql" 2>/dev/null
  psql_said
}
while [ ! -e "$signals/ready" ]; do pause; done
deadline=$(($(date +%s) + patience))
holder_known=no
while ! over; do
  session
  over || [ "$held" = yes ] || [ "$(date +%s)" -lt "$deadline" ] || refuse
  over || sleep 1
done
[ "$lost" = no ] || echo "nightshift: the session that held the lock was lost while the migration ran" >&2
tell
exit 0
""".replace("SIGNALS", SIGNALS)
    .replace("SILENT", str(SILENT_SECONDS))
    .replace("KEY", _KEY)
    .replace("HOLDER", _HOLDER)
)
