#!/bin/sh
# Installs a project with an honest and a thieving dependency under npmguard, in a
# throw-away home, and shows by ground truth what the thief got.
#
#   run.sh            under npmguard  (NPMGUARD_BIN, or built here with cargo)
#   run.sh --native   with plain npm, for comparison
#   run.sh --keep     leave the temporary directory in place
#
# Exit status: 0 if nothing was stolen, the log names the thief and the honest package
# works (with --native: if the demonstration ran); 1 otherwise.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
guard=npmguard
keep=no
for argument; do
    case $argument in
        --native) guard=none ;;
        --keep) keep=yes ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "run.sh: unknown argument \`$argument\` (--native, --keep)" >&2; exit 2 ;;
    esac
done

for tool in node npm git tar; do
    command -v "$tool" >/dev/null || { echo "run.sh: \`$tool\` is not installed" >&2; exit 1; }
done

if [ "$guard" = npmguard ]; then
    if [ -z "${NPMGUARD_BIN:-}" ]; then
        echo "building npmguard ..." >&2
        (cd "$here/../.." && cargo build --quiet --release)
        NPMGUARD_BIN=$(cd "$here/../.." && cargo metadata --format-version 1 --no-deps |
            node -p 'JSON.parse(require("fs").readFileSync(0)).target_directory')/release/npmguard
    fi
    NPMGUARD_BIN=$(command -v "$NPMGUARD_BIN") || { echo "run.sh: NPMGUARD_BIN is not a program" >&2; exit 1; }
    case $NPMGUARD_BIN in /*) ;; *) NPMGUARD_BIN=$PWD/$NPMGUARD_BIN ;; esac
fi

# --- a throw-away home with decoys, and a copy of the project -----------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/npmguard-quickstart.XXXXXX")
work=$(cd "$work" && pwd -P)
home=$work/home
project=$work/app
thief=$project/node_modules/color-stringz
log=$work/npmguard.jsonl

# The daemons that this run started, and no others: their command line names $thief.
daemons() {
    for process in /proc/[0-9]*; do
        if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -Fqx "$thief/daemon.js"; then
            echo "${process#/proc/}"
        fi
    done 2>/dev/null
}

clean_up() {
    for daemon in $(daemons); do kill "$daemon" 2>/dev/null || :; done
    if [ "$keep" = yes ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mark=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
mkdir -p "$home/.ssh" "$project/vendor"
cat >"$home/.npmrc" <<NPMRC
//registry.npmjs.org/:_authToken=npm_decoy_$mark
update-notifier=false
offline=true
NPMRC
printf 'not a key, decoy_ssh_%s\n' "$mark" >"$home/.ssh/id_ed25519"
printf '# the demo home\n' >"$home/.bashrc"
chmod 600 "$home/.npmrc" "$home/.ssh/id_ed25519"

for package in honest-widget color-stringz; do
    mkdir -p "$work/pack"
    cp -R "$here/packages/$package" "$work/pack/package"
    if [ "$package" = color-stringz ]; then echo "$home" >"$work/pack/package/demo-home"; fi
    tar -C "$work/pack" -czf "$project/vendor/$package-1.0.0.tgz" package
    rm -rf "$work/pack"
done
cp "$here/app/package.json" "$here/app/index.js" "$project/"
git init --quiet --template= "$project"
mkdir -p "$project/.git/hooks"

# --- the install --------------------------------------------------------------------

node_directory=$(dirname "$(node -p process.execPath)")
# Nothing of the caller's environment comes along: the demo has its own token.
in_demo() {
    (cd "$project" && env -i HOME="$home" PATH="$node_directory:$PATH" TERM="${TERM:-dumb}" LANG="${LANG:-C}" \
        GITHUB_TOKEN="ghp_decoy_$mark" "$@")
}

status=0
if [ "$guard" = npmguard ]; then
    echo "\$ npmguard install"
    in_demo "$NPMGUARD_BIN" install --log "$log" -- --no-audit --no-fund || status=$?
else
    echo "\$ npm install"
    in_demo npm install --no-audit --no-fund || status=$?
fi

# --- ground truth -------------------------------------------------------------------

stolen=0
broken=0
row() { printf '  %-42s %s\n' "$1" "$2"; }
# verdict WHAT yes|no
verdict() {
    if [ "$2" = yes ]; then stolen=$((stolen + 1)); row "$1" STOLEN; else row "$1" blocked; fi
}
holds() { if grep -Fqs -- "$1" "$2"; then echo yes; else echo no; fi; }
is_there() { if [ -e "$1" ]; then echo yes; else echo no; fi; }
alive() { if [ -n "$(daemons)" ]; then echo yes; else echo no; fi; }
loot=$thief/loot.json

echo
echo "What color-stringz got away with (looked up on disk and in /proc, whatever the log says):"
verdict "npm token from ~/.npmrc" "$(holds "npm_decoy_$mark" "$loot")"
verdict "private key from ~/.ssh" "$(holds "decoy_ssh_$mark" "$loot")"
verdict "GITHUB_TOKEN from the environment" "$(holds "ghp_decoy_$mark" "$loot")"
verdict "git hook planted in the project" "$(is_there "$project/.git/hooks/pre-commit")"
verdict "line added to ~/.bashrc" "$(holds 'color-stringz was here' "$home/.bashrc")"
sleep 0.2 # a process that was killed needs a moment to be gone
verdict "process left running" "$(alive)"
# Nobody answers at a documentation address; what counts is whether the call got out.
outcome=$(sed -n 's/^ *"connect": "\(.*\)".*/\1/p' "$loot" 2>/dev/null || :)
case $outcome in
    "failed: EACCES" | "failed: EPERM" | "") verdict "connection to 203.0.113.10:443" no ;;
    "failed: ENETUNREACH" | "failed: EHOSTUNREACH")
        # It got past the guard, if there was one; that it led nowhere is this machine's doing.
        if [ "$guard" = npmguard ]; then stolen=$((stolen + 1)); fi
        row "connection to 203.0.113.10:443" "ATTEMPTED (no route from here)" ;;
    "no answer")
        stolen=$((stolen + 1))
        row "connection to 203.0.113.10:443" "ATTEMPTED (sent, nobody answers there)" ;;
    *) verdict "connection to 203.0.113.10:443" yes ;;
esac

echo
echo "And the honest package:"
if words=$(in_demo node index.js 2>&1); then row "honest-widget works" "$words"; else
    broken=1; row "honest-widget is BROKEN" "$words"
fi
if command -v cc >/dev/null; then case $words in *'(C)'*) ;; *) broken=1; row "its C part was not compiled" "BROKEN" ;; esac; fi
if [ ! -e "$loot" ]; then row "color-stringz did not run to its end" "(no loot file)"; broken=1; fi

if [ "$guard" = none ]; then
    echo
    echo "plain npm: exit status $status, $stolen of 7 acts went through, and no line told you so."
    [ "$status" -eq 0 ] && [ "$broken" -eq 0 ]
    exit
fi

# events PACKAGE: how many denied events of the log carry its name
events() { grep -F '"verdict":"denied"' "$log" 2>/dev/null | grep -Fc "\"name\":\"$1\"" || :; }
named=$(events color-stringz)
wronged=$(events honest-widget)
row "denied events in the log" "color-stringz ${named:-0}, honest-widget ${wronged:-0}"

echo
echo "npmguard: exit status $status (9 means: installed, with violations), $stolen of 7 acts went through."
[ "$status" -eq 9 ] && [ "$stolen" -eq 0 ] && [ "$broken" -eq 0 ] && [ "${named:-0}" -gt 0 ] && [ "${wronged:-0}" -eq 0 ]
