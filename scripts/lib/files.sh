# Sourced by scripts/install: files that are put in place, and never over what somebody edited.

changed=
placed=()
quiet=  # set while many files of a kind are put, which are then named in one line

sum_of() { sha256sum <"$1" | cut -d ' ' -f 1; }
as_put() { grep -qsxF "$(sum_of "$root$1")  $1" "$root$manifest"; }

put() {  # put SOURCE TARGET MODE
  local source=$1 target=$2 path=$root$2
  placed+=("$target")
  if [ -e "$path" ] && cmp -s "$source" "$path"; then
    rm -f "$path.new"
  elif [ -e "$path" ] && ! as_put "$target"; then
    install -m "$3" "$source" "$path.new"
    say "kept    $path, which was edited; the new one is $path.new"
    return
  else
    install -D -m "$3" "$source" "$path"
    [ -n "$quiet" ] || say "put     $path"
    quiet=${quiet:+put}
    changed=yes
  fi
  mkdir -p "$root$records"
  touch "$root$manifest"
  sed -i "\\|  $target\$|d" "$root$manifest"
  echo "$(sum_of "$path")  $target" >>"$root$manifest"
}

drop_stale() {  # removes what an older version put and this one does not, if it is as it was put
  local target
  for target in $(cut -d ' ' -f 3- "$root$manifest" | grep -vxF "$(printf '%s\n' "${placed[@]}")" || true); do
    ! as_put "$target" || { rm -f "$root$target"; say "removed $root$target, which is no part any more"; changed=yes; }
    sed -i "\\|  $target\$|d" "$root$manifest"
  done
}

take_back() {  # removes every file that was put and is as it was
  local target pages=0
  while read -r _ target; do
    rm -f "$root$target.new"
    if [ ! -e "$root$target" ]; then
      continue
    elif as_put "$target"; then
      rm -f "$root$target"
      case $target in
        */share/man/*) pages=$((pages + 1)) ;;
        *) say "removed $root$target" ;;
      esac
    else
      say "kept    $root$target, which was edited"
    fi
  done <"$root$manifest"
  [ $pages = 0 ] || say "removed $pages man pages below $root$share/man"
}
