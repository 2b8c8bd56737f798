# Sourced by scripts/install: files that are put in place, and never over what somebody edited.

changed=

sum_of() { sha256sum <"$1" | cut -d ' ' -f 1; }
as_put() { grep -qsxF "$(sum_of "$root$1")  $1" "$root$manifest"; }

put() {  # put SOURCE TARGET MODE
  local source=$1 target=$2 path=$root$2
  if [ -e "$path" ] && cmp -s "$source" "$path"; then
    rm -f "$path.new"
  elif [ -e "$path" ] && ! as_put "$target"; then
    install -m "$3" "$source" "$path.new"
    say "kept    $path, which was edited; the new one is $path.new"
    return
  else
    install -D -m "$3" "$source" "$path"
    say "put     $path"
    changed=yes
  fi
  mkdir -p "$root$records"
  touch "$root$manifest"
  sed -i "\\|  $target\$|d" "$root$manifest"
  echo "$(sum_of "$path")  $target" >>"$root$manifest"
}

take_back() {  # removes every file that was put and is as it was
  local target
  while read -r _ target; do
    rm -f "$root$target.new"
    if [ ! -e "$root$target" ]; then
      continue
    elif as_put "$target"; then
      rm -f "$root$target"
      say "removed $root$target"
    else
      say "kept    $root$target, which was edited"
    fi
  done <"$root$manifest"
}
