#!/bin/sh
# fleet.sh COMMAND …: the fleet's program, as it was built in the workspace of a run, with its directory beside it. It
# becomes the program, so that what ends this ends the fleet. `stop` tells the fleet to end, also one that has not begun.
set -eu

command=${1:?usage: fleet.sh serve | address | customers | stop …}
shift
case $command in
stop) mkdir -p fleet && : >fleet/stop ;;
*)    exec build/debug/fleet "$command" fleet "$@" ;;
esac
