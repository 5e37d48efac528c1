#!/usr/bin/env bash
# test_docs.sh VASILY: the list of config keys is the program's, the shipped configs pass its checks, links lead
# somewhere, and what the README calls exists.
set -eu
vasily=$1
cd "$(dirname "$0")/../.."
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

launch/config-reference "$vasily" | diff - docs/config.md >/dev/null ||
    fail "docs/config.md differs from the program: launch/config-reference $vasily > docs/config.md"
for config in configs/*.yaml; do
    "$vasily" config "$config" >/dev/null || fail "$config is refused"
done
for page in README.md docs/*.md; do
    while read -r link; do
        case $link in http*) continue ;; esac
        [ -e "$(dirname "$page")/${link%%#*}" ] || fail "$page links to $link, which is not there"
    done < <(grep -oE '\]\([^)]+\)' "$page" | sed 's/^](//; s/)$//')
done
while read -r program; do
    case $program in *.*) test=-e ;; *) test=-x ;; esac
    [ $test "$program" ] || fail "README.md names $program, which is not there"
done < <(grep -ohE '\blaunch/[a-z-]+(/[a-z-]+)?(\.[a-z]+)?' README.md docs/*.md | sort -u)
while read -r command; do
    # shellcheck disable=SC2086
    "$vasily" $command --help >/dev/null || fail "README.md names vasily $command, which has no help"
done < <(grep -oE '^\| `vasily [a-z]+( [a-z]+)?' README.md | sed 's/^| `vasily //')
[ "$failures" -eq 0 ] || exit 1
echo "docs and program agree"
