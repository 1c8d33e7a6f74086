#!/bin/sh
# Both programs are the peer, so one process has to start both; it becomes nginx.
"{vector}" --quiet --threads {cores} --config "{dir}/vector.toml" &
exec "{nginx}" -p "{dir}/" -e stderr -c proxy.conf -g "daemon off;"
