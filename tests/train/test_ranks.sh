#!/bin/bash
# The number of ranks changes nothing but rounding: losses of 20 steps agree within 1e-5, and samples come in the same
# order.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"

"$vasily" data order tiny.yaml --ranks 1 --steps 15 > order1
"$vasily" data order tiny.yaml --ranks 2 --steps 15 > order2
"$vasily" data order tiny.yaml --ranks 4 --steps 15 > order4
[ "$(wc -l < order1)" = 15 ] || fail "data order prints $(wc -l < order1) lines, not 15"
[ "$(awk 'NR == 1 { print NF }' order1)" = 8 ] || fail "a step has not 8 keys"
cmp order1 order2 || fail "the order differs between 1 and 2 ranks"
cmp order1 order4 || fail "the order differs between 1 and 4 ranks"
"$vasily" data order tiny.yaml seed=8 --steps 15 > order_other
! cmp -s order1 order_other || fail "the order does not depend on the seed"

expect 0 one.log "$vasily" train tiny.yaml train.steps=20 run.dir=one
expect 0 half.log "$vasily" train tiny.yaml train.steps=20 run.dir=half train.micro_batch=2
expect 0 two.log mpirun -n 2 "$vasily" train tiny.yaml train.steps=20 run.dir=two
expect 0 four.log mpirun -n 4 "$vasily" train tiny.yaml train.steps=20 run.dir=four train.micro_batch=1
[ "$(metric two allocations | tail -n +2 | sort -u)" = 0 ] || fail "2 ranks allocate after the first step"
for other in half two four; do
    paste <(metric one loss) <(metric $other loss) | awk -v other=$other '
        { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { printf "%s: worst relative difference of %d losses %.2g\n", other, n, worst
              if (n != 20 || worst > 1e-5) exit 1 }' || fail "losses of run $other are not those of one rank"
done
