#!/usr/bin/env bash
# node_exporter drops metrics of one file because of another file's comment, and its sign of an error stays 0.
#
# One would guess that a HELP line is for people, that of two equal series the later counts, or at least that
# node_textfile_scrape_error tells. Two programs, or two versions of one, write backup_last into a.prom and b.prom:
#
#   b.prom, beside a.prom with db="app"                  of b.prom is shown      node_textfile_scrape_error
#   db="b", the same HELP                                all                     0
#   db="b", another HELP                                 nothing                 0
#   db="b", neither HELP nor TYPE                        nothing                 0
#   db="b", TYPE counter instead of gauge                nothing                 0
#   db="app" again, another value                        nothing                 0
#   a time behind the value, in whatever metric          nothing of the file     1
#
# The answer is 200 all the same, other metrics of the file are there, and only the log has it. An alert on
# time() - backup_last has no series for b, and is silent.
#
# Seen with prometheus-node-exporter 1.5.0 of Debian 12.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

debian prometheus-node-exporter=1.5.0-1+b6
mkdir "$work/files"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$work/usr/bin/prometheus-node-exporter" --web.listen-address=127.0.0.1:"$port" --web.disable-exporter-metrics \
  --collector.disable-defaults --collector.textfile --collector.textfile.directory="$work/files" 2>"$work/log" &
exporter=$!
trap 'kill $exporter; leave' EXIT
cat >"$work/files/a.prom" <<'PROM'
# HELP backup_last Time of the last backup.
# TYPE backup_last gauge
backup_last{db="app"} 1
PROM
cat >"$work/ask.py" <<'PYTHON'
import sys
import time
import urllib.error
import urllib.request

for _ in range(100):
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics")
        break
    except urllib.error.URLError:
        time.sleep(0.1)
lines = answer.read().decode().splitlines()
shown = [line.removeprefix("node_textfile_") for line in lines if line.startswith(("backup_", "node_textfile_scrape"))]
print(answer.status, *(line.replace(" ", "=") for line in shown))
PYTHON
# What is shown with such a file beside the other.
shown() {
  printf '%s\n' "$@" >"$work/files/b.prom"
  python3 "$work/ask.py" "$port"
}
help='# HELP backup_last Time of the last backup.'
gauge='# TYPE backup_last gauge'
own='200 backup_last{db="app"}=1'
expect "the same HELP" "$own backup_last{db=\"b\"}=2 scrape_error=0" "$(shown "$help" "$gauge" 'backup_last{db="b"} 2')"
expect "another HELP" "$own backup_size=7 scrape_error=0" \
  "$(shown '# HELP backup_last When it ended.' "$gauge" 'backup_last{db="b"} 2' 'backup_size 7')"
expect "no HELP" "$own scrape_error=0" "$(shown 'backup_last{db="b"} 2')"
expect "another TYPE" "$own scrape_error=0" "$(shown "$help" '# TYPE backup_last counter' 'backup_last{db="b"} 2')"
expect "the same series" "$own scrape_error=0" "$(shown "$help" "$gauge" 'backup_last{db="app"} 2')"
expect "a time" "$own scrape_error=1" "$(shown 'backup_size 7' 'backup_end 7 1700000000000')"
expect "kinds of errors in the log" 4 \
  "$(grep -oE 'should have|should be a|was collected before|client-side timestamps' "$work/log" | sort -u | wc -l)"
