# Sourced by scripts/install --remove.

if live; then
  mapfile -t known < <({
    systemctl list-units --all --plain --no-legend 'backupd*.service' | cut -d ' ' -f 1
    systemctl list-unit-files --plain --no-legend 'backupd*.service' | cut -d ' ' -f 1 | grep -v '@\.service$' || true
  } | sort -u)
  [ ${#known[@]} = 0 ] || systemctl disable --quiet --now "${known[@]}" 2>/dev/null || systemctl stop "${known[@]}" || true
fi
[ ! -e "$root$manifest" ] || take_back
if [ -e "$root$records/wheels.sha256" ]; then
  rm -rf "$root$home"
  say "removed $root$home"
fi
[ "$(readlink "$root/usr/local/bin/backupd" || true)" != "$home/bin/backupd" ] || rm "$root/usr/local/bin/backupd"
rm -rf "$root$records"
rmdir --ignore-fail-on-non-empty "$root$doc" 2>/dev/null || true
! live || systemctl daemon-reload

if [ -n "$purge" ]; then
  say "This removes what backupd remembers and what waits for the stores: ${state[*]/#/$root}"
  say "The next backup sends everything again. To go on, write: remove the state"
  read -r word || word=
  [ "$word" = "remove the state" ] || fail "the state was left"
  rm -rf -- "${state[@]/#/$root}"
  say "removed ${state[*]/#/$root}"
else
  say "Left: $root/etc/backupd with configuration and keys, users, and ${state[*]/#/$root} (--remove --purge-state removes these)."
fi
