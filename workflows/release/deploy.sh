#!/bin/sh
# deploy.sh COMMAND: the platform, in the words of a release. Runs in the workspace of a run: checkouts with what was
# built in them are there, and the servers' folders, logs and the route are in `servers`. Each command prints a line of
# JSON for each server that it was about, ends when what it says is true, and may be repeated after it was killed at
# any point.
#
#   start NAME CHECKOUT   start what was built in the checkout as the server NAME
#   front NAME            open the front, where customers come in, and lead them to the server NAME
#   receiver              open the receiver, where messages arrive
#   promote NAME          lead customers to the server NAME
#   rollback OLD NEW      lead customers to OLD and stop NEW
#   status                tell about all servers
#   stop-all              stop all servers
set -eu

platform=platform/release/platform
servers=servers

command=${1:-}
[ $# -eq 0 ] || shift
case $command:$# in
start:2)    exec "$platform" start "$servers" "$1" "$2/target/release/shop" serve --state '{state}' ;;
front:1)    "$platform" route "$servers" "$1" >&2
            exec "$platform" start "$servers" front "$platform" front --route "$servers/route" --state '{state}' ;;
receiver:0) exec "$platform" start "$servers" receiver "$platform" receiver --messages messages --state '{state}' ;;
promote:1)  exec "$platform" route "$servers" "$1" ;;
rollback:2) "$platform" route "$servers" "$1"
            exec "$platform" stop "$servers" "$2" ;;
status:0)   [ ! -x "$platform" ] || exec "$platform" status "$servers" ;;
# Without the program, nothing can have been started.
stop-all:0) [ ! -x "$platform" ] || exec "$platform" stop-all "$servers" ;;
*)          sed -n '2,/^set/ s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
