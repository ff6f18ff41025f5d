#!/bin/sh
# Install speechbridge into .venv from a lock file, unless it is installed already. `make` calls this script.
#
#   ./install.sh requirements.lock        the service
#   ./install.sh requirements-dev.lock    the service and the developers' tools
#
# PYTHON names the Python to use. Without it, an existing .venv keeps its Python; a new one gets the first on the PATH
# that is new enough.
set -eu
cd "$(dirname "$0")"

lock=$1
venv=.venv
stamp=$venv/installed # describes what is installed. Removed first, written last: if it is missing, start again
log=$venv/install.log
export PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf 'speechbridge: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Print the Python to make .venv with.
choose_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if is_new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  first=${PYTHON:-python3}
  if found=$(version "$first"); then found="$first is $found"; else found="there is no $first"; fi
  fail "Python 3.11 or newer is needed, and $found: install one, or name yours, as in PYTHON=/path/to/python3.11 make run"
}

# Print the stamp of a finished installation: the folder and the Python of .venv, and a checksum of each file.
contents() {
  echo "$(pwd) $(version $venv/bin/python || true)"
  cksum pyproject.toml "$@"
}

# Whether .venv works: not if its folder was moved, its Python replaced, or an installation interrupted.
is_usable() {
  [ -f $stamp ] && [ "$(contents | head -n 1)" = "$(head -n 1 $stamp)" ] && is_new_enough $venv/bin/python &&
    { [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version $venv/bin/python)" ]; }
}

is_up_to_date() {
  contents "$lock" | while read -r line; do grep -qxF -- "$line" $stamp || exit 1; done
}

pip_install() {
  $venv/bin/python -m pip install --progress-bar off "$@" >>$log 2>&1 || {
    grep -i error $log | tail -n 3 >&2
    fail "the installation failed: is the package index reachable? All of pip's output is in $log"
  }
}

# Write to stderr how many packages pip has fetched, until this process is killed.
show_progress() {
  total=$(grep -c == "$lock")
  while sleep 1 && kill -0 $$ 2>/dev/null; do
    if grep -q '^Installing collected' $log; then
      printf '\r  unpacking                \r' >&2
    else
      printf '\r  %d of %d packages fetched\r' "$(grep -c ^Collecting $log)" "$total" >&2
    fi
  done
}

[ -z "${PYTHON:-}" ] || choose_python >/dev/null # refuse a wrong PYTHON even if .venv is usable
if is_usable && is_up_to_date; then exit 0; fi

began=$(date +%s)
if ! is_usable; then
  python=$(choose_python)
  [ ! -e $venv ] || say "$venv was moved, has another Python, or its installation was interrupted: making it anew"
  rm -f $stamp
  "$python" -m venv --clear $venv || fail "$python cannot make $venv: see the error above"
fi
case $lock in
requirements.lock) size="180 MB to fetch, 510 MB on disk, about a minute" ;;
*) size="290 MB to fetch, 990 MB on disk, about two minutes" ;;
esac
say "installing into $venv with Python $(version $venv/bin/python): $size"
rm -f $stamp
: >$log
progress=
if [ -t 2 ]; then
  show_progress &
  progress=$!
  trap 'kill $progress 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM
fi
pip_install --require-hashes --requirement "$lock"
pip_install --no-build-isolation --no-deps --editable .
$venv/bin/python -m compileall -q app bridge >>$log 2>&1 || true # the first start is a second faster
[ "$lock" = requirements.lock ] || set -- requirements.lock "$lock" # the developers' lock includes the other
contents "$@" >$stamp.part
mv $stamp.part $stamp
say "installed in $(($(date +%s) - began)) s"
