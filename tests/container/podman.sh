#!/bin/sh
# Runs npmguard for real inside a container: podman, a default seccomp profile, and this
# machine's root file system under a throw-away overlay instead of an image.
#
#   sudo tests/container/podman.sh path/to/npmguard       doctor and the quickstart
#   sudo tests/container/podman.sh                        only show what the container refuses
#   sudo tests/container/podman.sh [options] [BINARY] -- COMMAND...   that command instead
#
#   --profile default   the profile that podman ships            (both by default)
#   --profile docker    the same, tightened to what Docker's default profile refuses
#   --profile FILE      any profile file, for example moby's own default.json
#   --user UID          only as this user                        (default: 0 and 65534)
#
# Exit status: 0 if every run passed, 1 if one failed, 77 if no container starts here.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
profiles=
users=
binary=
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profiles="$profiles ${2:?--profile needs a value}"; shift ;;
        --user) users="$users ${2:?--user needs a value}"; shift ;;
        -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --) shift; break ;;
        -*) echo "podman.sh: unknown option \`$1\`" >&2; exit 2 ;;
        *) binary=$1 ;;
    esac
    shift
done
profiles=${profiles:-default docker}
users=${users:-0 65534}
shipped=/usr/share/containers/seccomp.json

[ "$(id -u)" -eq 0 ] || { echo "podman.sh: must be run as root (the overlay over / needs it)" >&2; exit 77; }
for tool in podman runc python3 node npm git; do
    command -v "$tool" >/dev/null || {
        echo "podman.sh: \`$tool\` is not installed; on Debian: apt-get install podman runc python3 nodejs npm git" >&2
        exit 77
    }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/npmguard-container.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What the container gets to see beside the root file system, readable by any user.
mkdir "$work/share"
cp -R "$root/examples" "$here/inside.sh" "$here/probe.py" "$work/share/"
if [ -n "$binary" ]; then
    [ -x "$binary" ] || { echo "podman.sh: \`$binary\` is not a program" >&2; exit 2; }
    cp "$binary" "$work/share/npmguard"
fi
chmod -R a+rX "$work/share"

# podman lowers its own process limit to 32768; without CAP_SYS_RESOURCE a container
# cannot go above what podman has, and podman asks for more by default.
at_most() { if [ "$1" = unlimited ] || [ "$1" -gt "$2" ]; then echo "$2"; else echo "$1"; fi; }
hard_limit() { sed -n "s/^Max $1  *[^ ]*  *\([^ ]*\).*/\1/p" /proc/self/limits; }
files=$(at_most "$(hard_limit "open files")" 20000)
processes=$(at_most "$(hard_limit processes)" 32768)

# container PROFILE_FILE USER COMMAND...
container() {
    profile_file=$1
    user=$2
    shift 2
    podman --root "$work/store" --runroot "$work/run" --storage-driver vfs \
        --cgroup-manager=cgroupfs --events-backend=file --runtime runc \
        run --rm --network=none --user "$user" --security-opt "seccomp=$profile_file" \
        --ulimit "nofile=$files:$files" --ulimit "nproc=$processes:$processes" \
        --env "PATH=$PATH" --env HOME=/nonexistent --workdir /tmp \
        --volume "$work/share:/mnt:ro" --rootfs /:O "$@"
}

if ! container "$shipped" 0 true; then
    echo "podman.sh: no container starts here (is / itself an overlay, or a cgroup not writable?)" >&2
    exit 77
fi

passed=0
failed=0
for profile in $profiles; do
    case $profile in
        default) file=$shipped ;;
        docker) file=$work/docker.json; python3 "$here/docker_profile.py" "$shipped" >"$file" ;;
        *) file=$profile ;;
    esac
    for user in $users; do
        echo
        echo "=== podman, seccomp profile \`$profile\`, uid $user"
        status=0
        if [ $# -gt 0 ]; then
            container "$file" "$user" "$@" || status=$?
        else
            container "$file" "$user" sh /mnt/inside.sh "$profile" || status=$?
        fi
        if [ "$status" -eq 0 ]; then
            passed=$((passed + 1)); echo "=== passed"
        else
            failed=$((failed + 1)); echo "=== FAILED (exit status $status)"
        fi
    done
done
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
