#!/usr/bin/env bash
# A one-node Slurm for tests: Debian 12's packages, run as root, no systemd, no cgroups, no database.
#
#   tests/slurm/cluster.sh up FOLDER      start what is not running yet, then check it with one job
#   tests/slurm/cluster.sh down FOLDER    cancel the jobs, stop the daemons that `up FOLDER` started
#
# The daemons listen on 127.0.0.1 only and keep everything (configuration, keys, state, logs, pids) in
# FOLDER, which `down` leaves for inspection. The one exception is the link /etc/slurm/slurm.conf:
# Snakemake's Slurm job step drops SLURM_CONF, so Slurm's commands must find the file by themselves.
#
# There is no accounting: sacct knows no job; squeue and scontrol know one for MinJobAge seconds after
# its end, and count its GPUs as TresPerJob or TresPerNode, not in TRES (that takes slurmdbd). A job over
# its memory ends as FAILED with signal 9 (OUT_OF_MEMORY takes cgroups). The configuration is written
# when slurmctld starts, so an edit here needs a down and an up.
set -euo pipefail

readonly CTLD_PORT=27617 SLURMD_PORT=27618   # not Slurm's own 6817 and 6818; below the ephemeral ports
readonly CPUS=8 GPUS=4                       # declared, not real
readonly PACKAGES=(munge slurm-client slurmctld slurmd)
readonly ETC_CONF=/etc/slurm/slurm.conf

die() { echo "cluster.sh: $*" >&2; exit 1; }

# pid_of DAEMON: its pid, if the process in its pid file is that daemon and works in FOLDER (pids get reused)
pid_of() {
  local pid args
  pid=$(cat "$FOLDER/pid/$1.pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  args=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
  [[ $args == *"$1 "*"$FOLDER/"* ]] || return 1
  echo "$pid"
}

# wait_for SECONDS COMMAND...: until the command succeeds
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

install_packages() {
  local missing=() package policy=/usr/sbin/policy-rc.d made_policy=false log="$FOLDER/log/apt.log"
  for package in "${PACKAGES[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  # exit code 101 forbids maintainer scripts to start services; a policy already there is the host's own
  if [[ ! -e $policy ]]; then
    made_policy=true
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  local ok=true
  { apt-get update && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1 || ok=false
  if $made_policy; then rm -f "$policy"; fi
  $ok || die "apt-get could not install ${missing[*]}, see $log"
}

claim_etc_conf() {
  if [[ -L $ETC_CONF && $(readlink "$ETC_CONF") == "$SLURM_CONF" ]]; then return; fi
  if [[ -L $ETC_CONF ]]; then die "$ETC_CONF links to $(readlink "$ETC_CONF"): another cluster's, left alone"; fi
  if [[ -e $ETC_CONF ]]; then die "$ETC_CONF exists: a real cluster's, left alone"; fi
  mkdir -p "${ETC_CONF%/*}"
  ln -s "$SLURM_CONF" "$ETC_CONF"
}

start_munged() {
  pid_of munged >/dev/null && return
  [[ -s $FOLDER/munge/key ]] || (umask 077; head -c 1024 /dev/urandom >"$FOLDER/munge/key")
  # --force: only warn about a folder that others may write to, such as /tmp
  munged --force --key-file="$FOLDER/munge/key" --seed-file="$FOLDER/munge/seed" \
    --socket="$FOLDER/munge.socket" --pid-file="$FOLDER/pid/munged.pid" \
    --log-file="$FOLDER/log/munged.log" </dev/null >>"$FOLDER/log/start.log" 2>&1 ||
    die "munged does not start, see $FOLDER/log/start.log"
}

write_configuration() {
  local i memory
  # Slurm sets CUDA_VISIBLE_DEVICES only for devices with a File, each its own: copies of /dev/null will do
  for ((i = 0; i < GPUS; i++)); do
    [[ -c $FOLDER/gpu/$i ]] || mknod "$FOLDER/gpu/$i" c 1 3 ||
      die "cannot make the device file $FOLDER/gpu/$i (mknod needs CAP_MKNOD)"
  done
  echo "NodeName=$NODE Name=gpu File=$FOLDER/gpu/[0-$((GPUS - 1))]" >"$FOLDER/gres.conf"

  memory=$(awk '/^MemTotal:/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat >"$SLURM_CONF" <<CONF
ClusterName=bambo-test
SlurmctldHost=$NODE(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmdPort=$SLURMD_PORT
# bind to 127.0.0.1 (see up) instead of to all addresses
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/pid/slurmctld.pid
SlurmdPidFile=$FOLDER/pid/slurmd.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
SlurmdLogFile=$FOLDER/log/slurmd.log
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MailProg=/bin/true
MpiDefault=none

# no cgroups in a container: find a job's processes by their parents, kill for memory by what was sampled
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
DefMemPerCPU=500

# quick reactions; only the check of time limits, each 30 s, is fixed in slurmctld
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
OverTimeLimit=0
KillWait=1
MinJobAge=300
ReturnToService=2

# config_overrides: believe the declared CPUs though the machine has fewer
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$CPUS Boards=1 SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=$memory Gres=gpu:$GPUS
PartitionName=cpu Nodes=$NODE Default=YES MaxTime=1-00:00:00
PartitionName=gpu Nodes=$NODE MaxTime=1-00:00:00
CONF
}

start_slurm() {
  if ! pid_of slurmctld >/dev/null; then
    write_configuration
    slurmctld -f "$SLURM_CONF" </dev/null >>"$FOLDER/log/start.log" 2>&1 || true
  fi
  wait_for 30 slurmctld_answers || die "slurmctld does not answer, see $FOLDER/log/slurmctld.log and start.log"
  if ! pid_of slurmd >/dev/null; then
    slurmd -f "$SLURM_CONF" -N "$NODE" </dev/null >>"$FOLDER/log/start.log" 2>&1 || true
  fi
  wait_for 30 node_is_up || die "node $NODE is $(node_state), see $FOLDER/log/slurmd.log and start.log"
}

slurmctld_answers() { scontrol ping | grep -q UP; }
node_state() { timeout 10 sinfo -h -p cpu -o %T 2>/dev/null || echo unknown; }
node_is_up() {
  case $(node_state) in
    idle | mixed | allocated) ;;
    # what an earlier test or a killed slurmd left; ends well once slurmd has registered
    down* | drain*) scontrol update nodename="$NODE" state=resume; return 1 ;;
    *) return 1 ;;
  esac
}

up() {
  local address state devices
  [[ $FOLDER =~ ^/[A-Za-z0-9._/-]{1,80}$ ]] ||   # slurm.conf has no quoting; a socket's path is 107 bytes at most
    die "FOLDER must be a path of at most 80 plain characters: $FOLDER"
  command -v dpkg-query apt-get >/dev/null || die "needs Debian (dpkg and apt-get)"
  # NoInAddrAny below binds daemons and srun to what the host's name resolves to, whatever else slurm.conf says
  address=$(getent ahostsv4 "$(hostname)" | awk 'NR == 1 {print $1}') || true
  [[ $address == 127.0.0.1 ]] ||
    die "host name $(hostname) must resolve to 127.0.0.1, not '$address': put '127.0.0.1 $(hostname)' first in /etc/hosts"
  claim_etc_conf
  mkdir -p "$FOLDER"/{gpu,log,munge,pid,spool,state}
  chmod 700 "$FOLDER/munge"
  install_packages
  start_munged
  start_slurm

  state=$(node_state)
  echo "node $NODE: $state, $CPUS CPUs, $GPUS GPUs, partitions cpu and gpu, $SLURM_CONF"
  [[ $state == idle ]] || return 0   # a job of the user's may hold GPU 0
  devices=$(timeout 30 srun --quiet --gpus=1 printenv CUDA_VISIBLE_DEVICES) || true
  [[ $devices == 0 ]] || die "a job with one GPU got CUDA_VISIBLE_DEVICES='$devices', not 0, see $FOLDER/log"
}

down() {
  local daemon pid
  if pid_of slurmctld >/dev/null; then
    if timeout 10 scancel --quiet --user="$(id -un)"; then
      wait_for 15 no_jobs || echo "cluster.sh: jobs are left: $(timeout 10 squeue -h -o %i | xargs)" >&2
    fi
  fi
  for daemon in slurmd slurmctld munged; do
    if pid=$(pid_of "$daemon"); then
      kill "$pid"
      wait_for 10 gone "$daemon" || { echo "cluster.sh: $daemon ($pid) had to be killed" >&2; kill -9 "$pid"; }
    fi
    rm -f "$FOLDER/pid/$daemon.pid"
  done
  if [[ -L $ETC_CONF && $(readlink "$ETC_CONF") == "$SLURM_CONF" ]]; then rm -f "$ETC_CONF"; fi
}

no_jobs() { [[ -z $(timeout 10 squeue -h -o %i || echo unknown) ]]; }
gone() { ! pid_of "$1"; }

[[ $# -eq 2 && $1 =~ ^(up|down)$ && -n $2 ]] || { echo "usage: $0 up|down FOLDER" >&2; exit 2; }
((EUID == 0)) || die "must run as root"
export PATH="$PATH:/usr/sbin:/sbin"
FOLDER=$(realpath -m -- "$2")
NODE=$(hostname -s)
export SLURM_CONF="$FOLDER/slurm.conf"
readonly FOLDER NODE SLURM_CONF
"$1"
