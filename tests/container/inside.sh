#!/bin/sh
# Runs inside the container: shows what it is, then npmguard at work in it.
#   inside.sh PROFILE
set -eu

# Docker's profile must really be in force, or the run proves nothing.
case $1 in
    docker) must_refuse="pidfd_getfd unshare setns mount clone clone3 keyctl io_uring_setup" ;;
    *) must_refuse="kcmp bpf userfaultfd" ;;
esac

grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp)' /proc/self/status
# shellcheck disable=SC2086
python3 /mnt/probe.py $must_refuse
if [ ! -x /mnt/npmguard ]; then
    echo "no npmguard given; node $(node -p process.version) runs"
    exit 0
fi
echo
echo "\$ npmguard doctor"
/mnt/npmguard doctor
echo
NPMGUARD_BIN=/mnt/npmguard sh /mnt/examples/quickstart/run.sh
