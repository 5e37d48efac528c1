#!/bin/sh
# The loader against the bare libraries and against Python, in turn in one run, on photographs of Debian's wallpaper
# packages cut to JPEGs of 512x512. By hand; wants Debian's apt-get and dpkg-deb (nothing is installed), and a Python
# with Pillow, numpy and webdataset.
#
#     tests/bench/data_speed.sh VASILY FOLDER [PYTHON]
#
# FOLDER keeps the packages and shards for the next run. ROUNDS (3) and SECONDS_EACH (10) in the environment.
set -eu

vasily=$(realpath "$1")
folder=$2
python=${3:-python3}
here=$(dirname "$(realpath "$0")")
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-10}

mkdir -p "$folder"
cd "$folder"
if [ ! -d photographs ]; then
    mkdir -p packages
    (cd packages && apt-get download mate-backgrounds plasma-workspace-wallpapers lomiri-wallpapers-16.04)
    for package in packages/*.deb; do dpkg-deb -x "$package" unpacked; done
    mv unpacked photographs
fi
if [ ! -d shards ]; then
    "$python" "$here/make_photo_shards.py" photographs shards.partial --pictures 6000
    mv shards.partial shards
fi
cat > run.yaml <<CONFIG
train:
  resolution: 256
  global_batch: 64
data:
  sources:
    - {name: photographs, shards: ["$(pwd)/shards/*.tar"]}
CONFIG
cores=$(nproc)
cat shards/*.tar > /dev/null # into the page cache, for all alike

round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    "$vasily" bench data run.yaml --peak --json --seconds "$seconds" data.decode_threads="$cores" > "ours-$round.json"
    "$python" "$here/webdataset_speed.py" "$seconds" "$cores" shards/*.tar > "python-$round.txt"
    "$python" - "ours-$round.json" "python-$round.txt" "$cores" <<'SHOW'
import json, sys
ours, cores = json.load(open(sys.argv[1])), int(sys.argv[3])
rate, per_cpu = map(float, open(sys.argv[2]).read().split())
print(f"pictures/s a core: loader {ours['samples_per_second'] / cores:.0f}, bare {ours['bare_per_second'] / cores:.0f}, "
      f"Python {rate / cores:.0f}; a second of processor time: loader {ours['samples_per_cpu_second']:.0f}, "
      f"bare {ours['bare_per_cpu_second']:.0f}, Python {per_cpu:.0f}")
print(f"   loader / bare {ours['samples_per_second'] / ours['bare_per_second']:.3f} by the clock, "
      f"{ours['samples_per_cpu_second'] / ours['bare_per_cpu_second']:.3f} by processor time; "
      f"loader / Python {ours['samples_per_second'] / rate:.2f} and {ours['samples_per_cpu_second'] / per_cpu:.2f}")
SHOW
done
