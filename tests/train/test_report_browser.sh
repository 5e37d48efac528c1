#!/bin/bash
# test_report_browser.sh VASILY [SCREENSHOT-FOLDER]: a browser renders a run's page, light and dark, wide and narrow: no
# error, nothing fetched, nothing outside of its frame, no labels on each other, and the numbers drawn are those of
# metrics.jsonl and validation.jsonl. Needs Chromium (Debian's chromium-headless-shell or chromium); without one it prints
# SKIPPED and ends with 77.
set -euo pipefail
vasily=$(readlink -f "$1")
here=$(cd "$(dirname "$0")" && pwd)
for browser in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$browser" >/dev/null; then break; else browser=; fi
done
[ -n "$browser" ] || { echo "SKIPPED: chromium is not installed"; exit 77; }
timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --dump-dom 'data:text/html,<p>it starts</p>' 2> /dev/null |
    grep 'it starts' > /dev/null || { echo "SKIPPED: $browser does not start here"; exit 77; }
pictures=${2:+$(readlink -f "$2")}
work=$(mktemp -d "${TMPDIR:-/tmp}/vasily-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# A run whose name, captions and texts would be markup if they could; its curves fall, spike and have a hole.
run="run \" onload='hacked=1' '><script>hacked=1<!--"
mkdir -p "$run/previews"
awk 'BEGIN {
    for (s = 1; s <= 600; s++) {
        loss = 1 / (1 + s / 20) + 0.02 * sin(s * 12.9898) ^ 2; if (s == 300) loss = 7
        printf "{\"step\": %d, \"loss\": %s, \"mse\": %.9g, \"vb\": %.9g, \"lr\": %.9g, \"beta1\": %.9g, \"grad_norm\": %.9g, ", \
            s, s == 400 ? "null" : sprintf("%.9g", loss), loss * 0.9, loss * 0.1, 1e-4 * sin(s / 200), 0.95 - 0.1 * sin(s / 200), 0.3 + 0.2 * cos(s) ^ 2
        printf "\"images_per_second\": %.9g, \"step_seconds\": %.9g, \"data_wait_seconds\": %.9g, \"comm_wait_seconds\": 0.01, ", \
            700 + 20 * sin(s), 128 / (700 + 20 * sin(s)), s % 50 ? 0 : 0.05
        printf "\"rejected\": %d, \"data\": {\"threads\": {\"read\": 0.1, \"decode\": 0.5}, \"passed_over\": {\"bad_png\": %d, \"<b>\": %d}, \"sources\": {\"a</script>\": {\"accepted\": %d}}}, ", \
            s / 10, s / 20, s / 25, s * 128
        printf "\"skipped\": false, \"skipped_steps\": 0, \"peak_bytes\": 281780224}\n"
    } }' > "$run/metrics.jsonl"
for step in 0 200 400 600; do
    for weights in live ema; do
        awk -v s=$step -v w=$weights 'BEGIN { l = 1 / (1 + s / 100) + (w == "live") * 0.05
            printf "{\"step\": %d, \"weights\": \"%s\", \"loss\": %.9g, \"by_timestep\": [[1, %.9g], [250, %.9g], [500, %.9g], [999, %.9g]]}\n", s, w, l, l * 3, l, l / 2, l / 9 }'
    done
done > "$run/validation.jsonl"
for event in "1 start 2 ranks" "200 checkpoint saved" "201 resume 2 ranks" "300 guard loss 7 </script><script>hacked=1</script>" \
    "400 stage clean" "600 end all steps"; do
    read -r step kind text <<< "$event"
    echo "{\"time\": $((1795889040 + step)).5, \"step\": $step, \"kind\": \"$kind\", \"text\": \"$text\"}"
done > "$run/events.jsonl"
printf 'train:\n  steps: 600\npreview:\n  prompts: ["en\\t</script><script>hacked=1</script>"]\n' > "$run/config.yaml"
cp "$here/../../docs/images/demo.png" "$run/previews/step-0000100.png"
cp "$here/../../docs/images/demo.png" "$run/previews/step-0000200-clean.png"
echo '{"parameters": 1234567, "ranks": 2, "device": "</script>", "memory": [{"use": "weights", "bytes": 5000000}], "memory_total": 9000000}' \
    > "$run/plan.json"

# render HTML WIDTH SCHEME OUT: 0 is dark, 1 is light.
render() {
    local html=$1 width=$2 scheme=$3 out=$4
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
        --enable-logging=stderr --hide-scrollbars --window-size="$width,2400" --force-device-scale-factor=1 \
        --blink-settings=preferredColorScheme="$scheme" --virtual-time-budget=5000 "${@:5}" "file://$work/$html" \
        > "$out" 2> "$out.err" || fail "the browser ended with $?: $(tail -5 "$out.err")"
    ! grep CONSOLE "$out.err" | grep -v DevTools || fail "messages on the console"
}

# compare LINES CHART KIND NAME KEY FILE [WEIGHTS]: the points of a curve against a file's numbers.
compare() {
    local lines=$1 key=$5 file=$6 only=${7-}
    grep -F "\"weights\": \"$only" "$file" > wanted.json || cp "$file" wanted.json
    sed -n "s/^{\"step\": \([0-9]*\),.*\"$key\": \([-0-9.e+]*\)[,}].*/\1 \2/p" wanted.json > wanted
    awk -v chart="$2" -v kind="$3" -v name="$4" '$1 == "value" && $2 == chart && $3 == kind && $4 == name { print $5, $6 }' \
        "$lines" > drawn
    paste -d' ' wanted drawn | awk -v what="$2 $3 $4" '
        NF != 4 { print what ": another number of points"; bad++; exit }
        { d = $4 - $2; if (d < 0) d = -d; size = $2 < 0 ? -$2 : $2; if (size > most) most = size
          x = $3 - $1; if (x < 0) x = -x; if (x > 0.05) { print what ": step", $1, "at", $3; bad++ }
          diff[NR] = d; want[NR] = $2; got[NR] = $4 }
        END { for (i = 1; i <= NR; i++) if (diff[i] > 2e-4 * want[i] && diff[i] > 1e-4 * most) { print what ":", want[i], "drawn as", got[i]; bad++ }
              exit !(NR > 2 && bad == 0) }' || fail "the curve is not what the file says"
}

"$vasily" report "$run" --out report.html > /dev/null
{
    sed "s|^<title>|<script>$(sed '/^\/\//d' "$here/browser/early.js" | tr '\n' ' ' | sed 's/[&|\\]/\\&/g')</script>&|; /^<\/html>/d" report.html
    printf '<script>'
    cat "$here/browser/check.js"
    printf '</script>\n</html>\n'
} > checked.html

for view in "1280 1 light" "500 0 dark"; do
    read -r width scheme word <<< "$view"
    render checked.html "$width" "$scheme" dom --dump-dom
    sed -n '/^@@@$/,/^@@@$/p' dom > lines
    grep -q "^scheme $word $width$" lines || fail "not $word, $width wide: $(grep scheme lines || tail -3 dom.err)"
    ! grep '^wrong' lines || fail "$width wide, $word: see above"
    grep -q '^images 2$' lines || fail "$(grep images lines)"
    compare lines loss raw loss loss "$run/metrics.jsonl"
    compare lines grad_norm raw grad_norm grad_norm "$run/metrics.jsonl"
    compare lines images_per_second raw images_per_second images_per_second "$run/metrics.jsonl"
    compare lines lr line lr lr "$run/metrics.jsonl"
    compare lines beta1 line beta1 beta1 "$run/metrics.jsonl"
    compare lines memory line peak_bytes peak_bytes "$run/metrics.jsonl"
    compare lines passed-over line data.passed_over.bad_png bad_png "$run/metrics.jsonl"
    compare lines validation line ema.loss loss "$run/validation.jsonl" ema
    compare lines validation line live.loss loss "$run/validation.jsonl" live
done
read -r _ step value < <(grep '^pointer' lines)
[ "$step" = 150 ] || fail "the pointer at a quarter of 600 steps is at $step"
awk -v v="$value" 'BEGIN { exit !(v > 0.1 && v < 0.16) }' || fail "the mean loss around step 150 is shown as $value"

if [ -n "$pictures" ]; then
    for view in "1280 1 light" "1280 0 dark" "420 1 narrow"; do
        read -r width scheme word <<< "$view"
        render report.html "$width" "$scheme" shot.out --screenshot="$pictures/report-$word.png"
    done
fi
echo "$browser draws what the files say, light and dark, wide and narrow"
