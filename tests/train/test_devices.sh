#!/bin/bash
# What computes: --device and device.name, and in one line why there is no GPU. The program starts without a CUDA library,
# with one that cannot be opened, with one for a driver that is not there, and with a device (the emulated one, $3).
emulated=${3:+$(readlink -f "$3")}
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
unset VASILY_CUDA_LIBRARY

# says LIBRARY CODE TEXT OPTION...: planning with that library ends with that code and says that, in one line.
says() {
    local library=$1 code=$2 text=$3
    shift 3
    VASILY_CUDA_LIBRARY=$library expect "$code" device.log "$vasily" plan tiny.yaml "$@"
    [ "$(grep -cF -- "$text" device.log)" = 1 ] || fail "$*, VASILY_CUDA_LIBRARY=$library: \"$text\" is not in one line"
}

# The processor, asked for.
says "" 0 "info  device: cpu: " --device cpu
says /nowhere/libvasily_cuda.so 0 "info  device: cpu: " --device=cpu
# --device comes last: it wins over the config and over other overrides.
says "" 0 "info  device: cpu: " device.name=cuda --device cpu
says "" 0 "info  device: ref" --device ref

# A library that is not there, is no library, or is another one: auto goes on with the processor, cuda is refused.
echo "no library" > text.so
other=$(ldd "$vasily" | awk '/libpng/ { print $3 }')
for case in "/nowhere/libvasily_cuda.so|no CUDA backend" "$work/text.so|cannot be opened" "$other|is no CUDA backend of this program"; do
    library=${case%%|*} why=${case##*|}
    says "$library" 0 "device.name is auto; no GPU: " --device auto
    contains device.log "$why"
    contains device.log "info  device: cpu: "
    says "$library" 2 "$why" --device cuda
    contains device.log "auto or cpu would run on the processor"
done

# The real library, where it was built, on a machine without a driver.
real=$(dirname "$vasily")/libvasily_cuda.so
if [ ! -f "$real" ]; then
    echo "SKIPPED the real libvasily_cuda.so: this build has none"
elif ldconfig -p | grep -q 'libcuda\.so\.1 '; then
    echo "SKIPPED a machine without a driver: this one has one"
else
    says "$real" 0 "no GPU: no CUDA device: " --device auto
    says "" 0 "this machine has no NVIDIA driver" --device auto
    says "" 2 "no CUDA device: " --device cuda
    "$vasily" device > devices.txt || fail "vasily device"
    contains devices.txt "cuda: none: no CUDA device: "
fi
[ "$("$vasily" device | grep -c '^cpu: ')" = 1 ] || fail "vasily device does not tell the processor"

# A device.
if [ -n "$emulated" ]; then
    says "$emulated" 0 "info  device: cuda: emulated device" --device auto
    says "$emulated" 0 "info  device: cuda: emulated device" device.name=cpu --device cuda
    VASILY_CUDA_LIBRARY=$emulated "$vasily" device > devices.txt
    contains devices.txt "cuda: emulated device"
    # What does not fit the device is an error before training, with what would help.
    VASILY_CUDA_LIBRARY=$emulated VASILY_EMU_MEMORY=20000000 expect 4 memory.log "$vasily" train tiny.yaml \
        --device cuda train.steps=1
    contains memory.log "GB more on the GPU"
    contains memory.log "What helps:"

    # Validation there: the processor's figures at the start, and training does not notice it.
    mkdir held
    "$make_test_shards" held 1 24 16
    validated=(train.steps=2 train.global_batch=2 data.lanes=2 'validation.sources=[{name: held, shards: [held/*.tar]}]'
        validation.samples=3 validation.timestep_count=2 validation.batch=2)
    on_device() { VASILY_CUDA_LIBRARY=$emulated VASILY_EMU_OPEN=1 "$vasily" train tiny.yaml --device cuda "$@" ; }
    expect 0 cpu.log "$vasily" train tiny.yaml --device cpu "${validated[@]}" run.dir=cpu
    expect 0 validated.log on_device "${validated[@]}" run.dir=validated validation.every=1
    expect 0 bare.log on_device "${validated[@]}" run.dir=bare validation.every=0
    cmp <(hashes bare/checkpoints/latest) <(hashes validated/checkpoints/latest) || fail "validation changes the weights"
    [ "$(wc -l < validated/validation.jsonl)" = 6 ] || fail "not every step is validated"
    paste <(grep -oE '[0-9.e-]+' cpu/validation.jsonl | head -9) <(grep -oE '[0-9.e-]+' validated/validation.jsonl | head -9) |
        awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-4 * $1) exit 1; n++ } END { exit n != 9 }' ||
        fail "the device validates to other figures than the processor"
fi

# Words that are no device.
expect 2 word.log "$vasily" plan tiny.yaml --device gpu
contains word.log "cuda"
expect 2 gpu.log "$vasily" plan tiny.yaml --gpu h999
